// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/features.hpp>
#include <promptkd/distill/closed_form/moments.hpp>
#include <promptkd/distill/projector.hpp>
#include <promptkd/op/elementwise.hpp>

#include <string>
#include <vector>

namespace promptkd {

/// The first layer of a closed-form projector: Linear(e_s → h) with random weights that are never trained, and a
/// BatchNorm (weight 1, bias 0) whose running statistics come from the images. Random fixed layers before a
/// least-squares one: Schmidt 1992; Rahimi & Recht, NIPS 2007; McDonnell et al., RanPAC, NeurIPS 2023.
struct HiddenLayer {
    Index inputs = 0;              ///< e_s
    Index width = 0;               ///< h
    std::vector<double> weight;    ///< R (e_s, h)
    std::vector<double> bias;      ///< b (h)
    std::vector<double> mean;      ///< μ (h), of xR + b
    std::vector<double> variance;  ///< v (h), of the population
};

/// The statistics of a first layer that were fitted before.
struct HiddenStatistics {
    std::vector<double> mean, variance;  ///< μ, v (h)
};

/// R and b drawn from U(±1/√e_s) as the published projector's first Linear is, by `seed`.
inline HiddenLayer random_hidden_layer(Index inputs, Index width, std::uint64_t seed) {
    HiddenLayer layer{inputs, width, {}, {}, {}, {}};
    const double bound = 1 / std::sqrt(static_cast<double>(inputs));
    RandomStream weights(seed, detail::stream_of(projector_name(0, "weight")));
    layer.weight.resize(static_cast<std::size_t>(inputs * width));
    for (Index k = 0; k < width; ++k)  // in the order of the stored weight, (h, e_s)
        for (Index j = 0; j < inputs; ++j)
            layer.weight[static_cast<std::size_t>(j * width + k)] = weights.uniform(-bound, bound);
    RandomStream biases(seed, detail::stream_of(projector_name(0, "bias")));
    for (Index k = 0; k < width; ++k) layer.bias.push_back(biases.uniform(-bound, bound));
    return layer;
}

/// Sets μ = mR + b and v_k = (Rᵀ·C/N·R)_kk ≥ 0 from the moments of the features: no pass over the images.
inline void set_statistics(HiddenLayer& layer, const FeatureMoments& moments, Cpu<double>& host) {
    const Index e = layer.inputs, h = layer.width;
    require(moments.width == e, "a hidden layer of ", e, " inputs and moments of features of ", moments.width);
    layer.mean = detail::HostProduct{1, h, e}(host, moments.mean(), layer.weight);
    for (Index k = 0; k < h; ++k) layer.mean[static_cast<std::size_t>(k)] += layer.bias[static_cast<std::size_t>(k)];
    const std::vector<double> cr = detail::HostProduct{e, h, e}(host, moments.scatter(), layer.weight);
    layer.variance.assign(static_cast<std::size_t>(h), 0);
    for (Index j = 0; j < e; ++j)
        for (Index k = 0; k < h; ++k)
            layer.variance[static_cast<std::size_t>(k)] +=
                cr[static_cast<std::size_t>(j * h + k)] * layer.weight[static_cast<std::size_t>(j * h + k)];
    for (double& v : layer.variance) v = std::max(0.0, v / static_cast<double>(moments.images));
}

/// φ(x) = max(0, (xR + b − μ)/√(v + eps)) on a device, with the BatchNorm folded into the Linear.
template <Device D>
class HiddenFeatures {
public:
    using T = typename D::Scalar;

    /// Copies the folded layer to the device, which must outlive this.
    HiddenFeatures(D& device, const HiddenLayer& layer) : device_(device), inputs_(layer.inputs), width_(layer.width) {
        std::vector<T> weight(layer.weight.size());
        std::vector<T> bias(layer.bias.size());
        for (Index k = 0; k < width_; ++k) {
            const auto at = static_cast<std::size_t>(k);
            const double scale = 1 / std::sqrt(layer.variance[at] + batch_norm_epsilon);
            bias[at] = static_cast<T>((layer.bias[at] - layer.mean[at]) * scale);
            for (Index j = 0; j < inputs_; ++j) {
                const auto place = static_cast<std::size_t>(j * width_ + k);
                weight[place] = static_cast<T>(layer.weight[place] * scale);
            }
        }
        weight_ = Buffer<D, T>(device, weight);
        bias_ = Buffer<D, T>(device, bias);
    }

    /// h
    Index width() const { return width_; }

    /// phi (n, h) of x (n, e_s)
    void forward(ConstMatrix<T> x, Matrix<T> phi) const {
        require_shape(x, phi.rows, inputs_, "hidden features: x");
        Gemm g = matrix_product(operand(x), operand(weight_.data(), width_), inputs_, phi);
        g.bias = bias_.data();
        device_.gemm(g);
        relu_forward(device_, phi, phi);
    }

private:
    D& device_;
    Index inputs_, width_;
    Buffer<D, T> weight_, bias_;
};

}  // namespace promptkd
