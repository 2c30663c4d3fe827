// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/optim/rate_groups.hpp>

namespace promptkd {

/// Settings of stochastic gradient descent as PyTorch defines them.
struct SgdConfig {
    double momentum = 0.9;       ///< share of the last step
    double weight_decay = 5e-4;  ///< added to the gradient
    double dampening = 0;        ///< of the gradient's part of the momentum
    bool nesterov = false;       ///< the look-ahead form
};

namespace detail {

template <class T>
struct SgdUpdate {
    T *value, *moment;
    const T *grad, *skip;
    T rate, momentum, weight_decay, damping;
    bool first, nesterov;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        using V = typename Lane::Value;
        if (skip && *skip != T(0)) return;
        const V p = lane.load(value);
        const V g = lane.load(grad) + p * weight_decay;
        // Whole branches: g++ 12 -O3 may lose a conditional assignment of a pack.
        if (first)
            finish(lane, p, g, g);
        else
            finish(lane, p, g, lane.value(lane.load(moment) * momentum + g * damping));
    }

    template <class Lane, class V>
    PROMPTKD_HD void finish(const Lane& lane, const V& p, const V& g, const V& m) const {
        lane.store(moment, m);
        if (nesterov)
            lane.store(value, lane.value(p - (g + m * momentum) * rate));
        else
            lane.store(value, lane.value(p - m * rate));
    }
};

}  // namespace detail

/// SGD with momentum over every tensor of a ParamSet, prompts, biases and BatchNorm alike:
/// g ← g + wd·p;  m ← momentum·m + (1 − dampening)·g (first step: m = g);  p ← p − lr·m  (Nesterov: p ← p − lr·(g +
/// momentum·m)).
template <Device D>
class Sgd {
public:
    using T = typename D::Scalar;

    /// Of `params`, which outlive this.
    Sgd(ParamSet<D>& params, SgdConfig config) : Sgd(params, config, rate_groups(params, {})) {}
    /// Of those in `groups` alone, each with its factor of the learning rate.
    Sgd(ParamSet<D>& params, SgdConfig config, std::vector<RateGroup> groups)
        : params_(&params), config_(config), groups_(std::move(groups)), moment_(params.device(), params.size()) {
        params.device().zero(moment_.data(), static_cast<std::size_t>(params.size()) * sizeof(T));
    }

    /// One update with learning rate `rate` from the gradients in the ParamSet; nothing changes where `skip` (device
    /// memory, may be null) says so, see LossScale.
    void step(double rate, const T* skip = nullptr) {
        detail::SgdUpdate<T> update;
        update.skip = skip;
        update.momentum = static_cast<T>(config_.momentum);
        update.weight_decay = static_cast<T>(config_.weight_decay);
        update.damping = static_cast<T>(1 - config_.dampening);
        update.first = steps_ == 0;
        update.nesterov = config_.nesterov;
        for (const RateGroup& g : groups_) {
            update.value = params_->values() + g.first;
            update.moment = moment_.data() + g.first;
            update.grad = params_->gradients() + g.first;
            update.rate = static_cast<T>(rate * g.factor);
            params_->device().map(g.count, update);
        }
        ++steps_;
    }

    /// A recorded step (not the first of all) was queued again.
    void replayed() { ++steps_; }

    /// Moments and step count, for a checkpoint that resumes bit for bit.
    void save(TensorMap& map) const {
        map.tensors["optimizer.momentum"] = make_tensor(moment_.to_host(), {moment_.size()});
        map.tensors["optimizer.steps"] = make_tensor(std::vector<std::int64_t>{steps_}, {});
    }
    /// What save() wrote. Throws Error when it does not fit.
    void load(const TensorMap& map) {
        const std::vector<T> moments = map.at("optimizer.momentum", {moment_.size()}).template to<T>();
        params_->device().upload(moment_.data(), moments.data(), moments.size() * sizeof(T));
        params_->device().synchronize();
        steps_ = map.at("optimizer.steps").template to<std::int64_t>().at(0);
    }

private:
    ParamSet<D>* params_;
    SgdConfig config_;
    std::vector<RateGroup> groups_;
    Buffer<D, T> moment_;
    std::int64_t steps_ = 0;
};

}  // namespace promptkd
