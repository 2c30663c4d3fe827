// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/weights.hpp>
#include <promptkd/op/batch_norm.hpp>

#include <utility>
#include <vector>

namespace promptkd {

/// In which order a convolution's product reads its pixels.
enum class PixelOrder {
    channels_last,  ///< (y, x, channel): maps between layers
    channels_first  ///< (channel, y, x): patches of an image
};

/// What the BatchNorm behind a convolution does with its running statistics.
inline BatchNormAffine read_batch_norm(TensorCursor& weights, schema::Role role) {
    const auto part = [&](schema::Part p) { return weights.tensor(role, p).to<double>(); };
    return batch_norm_affine(part(schema::Part::norm_weight), part(schema::Part::norm_bias),
                             part(schema::Part::norm_mean), part(schema::Part::norm_variance));
}

/// A convolution's weight (out, in, k, k) as the matrix of a product, (out, k·k·in) in the given order, with the
/// BatchNorm behind it (running statistics) folded in: weight·γ/√(σ² + ε), bias β − μ·γ/√(σ² + ε).
template <Device D>
Linear<typename D::Scalar> read_folded_convolution(WeightReader<D>& reader, FrozenStore<D>& store, schema::Role role,
                                                   PixelOrder order = PixelOrder::channels_last) {
    using T = typename D::Scalar;
    const HostTensor weight = reader.tensor(role);
    const Index out = weight.shape[0], in = weight.shape[1], k = weight.shape[3];
    const std::vector<double> w = weight.template to<double>();
    const BatchNormAffine norm = read_batch_norm(reader, role);
    std::vector<T> folded(w.size());
    for (Index o = 0; o < out; ++o) {
        const double scale = norm.factor[static_cast<std::size_t>(o)];
        for (Index i = 0; i < in; ++i)
            for (Index p = 0; p < k * k; ++p) {
                const std::size_t from = static_cast<std::size_t>((o * in + i) * k * k + p);
                const std::size_t to = static_cast<std::size_t>((o * k * k + p) * in + i);
                folded[order == PixelOrder::channels_first ? from : to] = static_cast<T>(w[from] * scale);
            }
    }
    return {store.matrix(make_tensor(std::move(folded), {out, k * k * in}), out, k * k * in),
            store.vector(make_tensor(std::vector<T>(norm.shift.begin(), norm.shift.end()), {out})), nullptr};
}

}  // namespace promptkd
