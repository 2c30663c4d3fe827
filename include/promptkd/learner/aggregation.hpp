// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/nn/param_set.hpp>
#include <promptkd/op/elementwise.hpp>

#include <cmath>

namespace promptkd {

/// g_t ∝ exp(−(t − mean)²/(2·deviation²)), t = 1…epochs, Σ g = 1 (PromptSRC, section 3.3; deviation is the standard
/// deviation).
inline std::vector<double> gaussian_weights(Index epochs, double mean, double deviation) {
    require(epochs > 0 && deviation > 0, "Gaussian aggregation needs at least one epoch and a positive deviation");
    std::vector<double> weights;
    double total = 0;
    for (Index t = 1; t <= epochs; ++t) {
        const double z = (static_cast<double>(t) - mean) / deviation;
        total += weights.emplace_back(std::exp(-0.5 * z * z));
    }
    require(total > 0, "Gaussian aggregation: the mean ", mean, " is too far from the ", epochs,
            " epochs; every weight is 0");
    for (double& w : weights) w /= total;
    return weights;
}

/// PromptSRC's Gaussian prompt aggregation: the weighted sum of the prompts after every epoch.
template <Device D>
class PromptAggregation {
public:
    using T = typename D::Scalar;

    PromptAggregation(ParamSet<D>& params, std::vector<double> weights)
        : params_(&params), weights_(std::move(weights)), total_(params.device(), params.size()) {
        params.device().zero(total_.data(), static_cast<std::size_t>(params.size()) * sizeof(T));
    }

    /// Adds the present prompts with the weight of `epoch` (from 0), after its last update.
    void add(Index epoch) {
        add_scaled(params_->device(), weights_.at(static_cast<std::size_t>(epoch)),
                   static_cast<const T*>(params_->values()), total_.data(), params_->size());
    }

    /// Replaces the prompts by the aggregated ones, after the last epoch.
    void apply() {
        params_->device().copy(params_->values(), total_.data(), static_cast<std::size_t>(params_->size()) * sizeof(T));
    }

    void save(TensorMap& map) const { map.tensors["aggregation"] = make_tensor(total_.to_host(), {total_.size()}); }
    void load(const TensorMap& map) {
        const std::vector<T> values = map.at("aggregation", {total_.size()}).template to<T>();
        params_->device().upload(total_.data(), values.data(), values.size() * sizeof(T));
        params_->device().synchronize();
    }
    const std::vector<double>& weights() const { return weights_; }

private:
    ParamSet<D>* params_;
    std::vector<double> weights_;
    Buffer<D, T> total_;
};

}  // namespace promptkd
