// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/optim/gradient_norm.hpp>
#include <promptkd/optim/loss_scale.hpp>
#include <promptkd/optim/optimizer.hpp>

#include <cmath>
#include <memory>
#include <optional>
#include <utility>

namespace promptkd {

/// The optimizer of a ParamSet, the clipping of its gradients where that is asked for and, on a device that stores
/// activations in fp16, the LossScale around it: scale() is for the loss's gradient before it enters the encoders,
/// step() for the parameters' gradients behind them.
template <Device D>
class ScaledOptimizer {
public:
    using T = typename D::Scalar;

    /// `params` is bound and outlives this.
    ScaledOptimizer(ParamSet<D>& params, const OptimizerConfig& config, const LossScaleConfig& scale)
        : params_(params), rule_(make_optimizer(params, config)) {
        if (std::is_same_v<typename D::Activation, half>) loss_scale_.emplace(params.device(), params.size(), scale);
        require(std::isfinite(config.clip) && config.clip >= 0, "the largest norm of the gradients is ", config.clip,
                ", expected 0 (not clipped) or more");
        if (config.clip > 0) norm_.emplace(params, rate_groups(params, config.rate_factors), config.clip);
    }

    /// Another update rule over the same parameters, before the first step. Throws Error for null.
    void use(std::unique_ptr<Optimizer<D>> rule) {
        require(rule != nullptr, "an optimizer of one's own is null");
        rule_ = std::move(rule);
    }

    /// gradient ← S·gradient, n values; nothing to do without a LossScale.
    void scale(T* gradient, Index n) {
        if (loss_scale_) loss_scale_->scale(gradient, n);
    }

    /// Updates the parameters with learning rate `rate`, unless a scaled gradient has overflowed.
    void step(double rate) {
        if (loss_scale_) loss_scale_->unscale(params_.gradients(), params_.size());
        if (norm_) norm_->clip();
        rule_->step(rate, loss_scale_ ? loss_scale_->skip() : nullptr);
    }

    /// See Optimizer.
    void replayed() { rule_->replayed(); }

    /// Empty unless activations are stored in fp16.
    const std::optional<LossScale<D>>& loss_scale() const { return loss_scale_; }

    /// The gradients' norm, where it is clipped.
    const std::optional<GradientNorm<D>>& gradient_norm() const { return norm_; }

    /// For a checkpoint that resumes bit for bit.
    void save(TensorMap& state) const {
        rule_->save(state);
        if (loss_scale_) loss_scale_->save(state);
    }
    /// What save() wrote. Throws Error when it does not fit.
    void load(const TensorMap& state) {
        rule_->load(state);
        if (loss_scale_) loss_scale_->load(state);
    }

private:
    ParamSet<D>& params_;
    std::unique_ptr<Optimizer<D>> rule_;
    std::optional<LossScale<D>> loss_scale_;
    std::optional<GradientNorm<D>> norm_;
};

}  // namespace promptkd
