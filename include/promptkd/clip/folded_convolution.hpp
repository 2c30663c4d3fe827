// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/weights.hpp>
#include <promptkd/op/batch_norm.hpp>

#include <cmath>
#include <utility>
#include <vector>

namespace promptkd {

/// In which order a convolution's product reads its pixels.
enum class PixelOrder {
    channels_last,  ///< (y, x, channel): maps between layers
    channels_first  ///< (channel, y, x): patches of an image
};

/// A convolution's weight (out, in, k, k) as the matrix of a product, (out, k·k·in) in the given order, with the
/// BatchNorm behind it (running statistics) folded in: weight·γ/√(σ² + ε), bias β − μ·γ/√(σ² + ε).
template <Device D>
Linear<typename D::Scalar> read_folded_convolution(WeightReader<D>& reader, FrozenStore<D>& store, schema::Role role,
                                                   PixelOrder order = PixelOrder::channels_last) {
    using T = typename D::Scalar;
    const HostTensor weight = reader.tensor(role);
    const Index out = weight.shape[0], in = weight.shape[1], k = weight.shape[3];
    const auto part = [&](schema::Part p) { return reader.tensor(role, p).template to<double>(); };
    const std::vector<double> w = weight.template to<double>(), gamma = part(schema::Part::norm_weight),
                              beta = part(schema::Part::norm_bias), mean = part(schema::Part::norm_mean),
                              variance = part(schema::Part::norm_variance);
    std::vector<T> folded(w.size()), bias(static_cast<std::size_t>(out));
    for (Index o = 0; o < out; ++o) {
        const std::size_t oo = static_cast<std::size_t>(o);
        const double scale = gamma[oo] / std::sqrt(variance[oo] + batch_norm_epsilon);
        bias[oo] = static_cast<T>(beta[oo] - mean[oo] * scale);
        for (Index i = 0; i < in; ++i)
            for (Index p = 0; p < k * k; ++p) {
                const std::size_t from = static_cast<std::size_t>((o * in + i) * k * k + p);
                const std::size_t to = static_cast<std::size_t>((o * k * k + p) * in + i);
                folded[order == PixelOrder::channels_first ? from : to] = static_cast<T>(w[from] * scale);
            }
    }
    return {store.matrix(make_tensor(std::move(folded), {out, k * k * in}), out, k * k * in),
            store.vector(make_tensor(std::move(bias), {out})), nullptr};
}

}  // namespace promptkd
