// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/optim/rate_groups.hpp>

#include <cmath>
#include <utility>
#include <vector>

namespace promptkd {

/// Settings of Adam and AdamW as PyTorch defines them.
struct AdamConfig {
    double beta_1 = 0.9, beta_2 = 0.999;  ///< decay of the first and second moment
    double epsilon = 1e-8;                ///< added to the root of the second moment
    double weight_decay = 5e-4;           ///< added to the gradient (Adam), or to the step (AdamW)
    bool decoupled = false;               ///< AdamW: the decay acts on the parameter, not on the gradient
};

namespace detail {

template <class T>
struct AdamUpdate {
    T *value, *first, *second;
    const T *grad, *skip;
    T beta_1, beta_2, epsilon, decay, shrink, rate, root_scale;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        using V = typename Lane::Value;
        using std::sqrt;
        if (skip && *skip != T(0)) return;
        const V p = lane.load(value) * shrink;
        const V g = lane.load(grad) + p * decay;
        const V m = lane.load(first) * beta_1 + g * (T(1) - beta_1);
        const V v = lane.load(second) * beta_2 + g * g * (T(1) - beta_2);
        lane.store(first, m);
        lane.store(second, v);
        const V root = sqrt(v);
        lane.store(value, lane.value(p - m * rate / (root * root_scale + lane.fill(epsilon))));
    }
};

}  // namespace detail

/// Adam (Kingma and Ba, 2015) and AdamW (Loshchilov and Hutter, 2019) over every tensor of a ParamSet:
/// g ← g + wd·p (Adam) or p ← p − lr·wd·p (AdamW);  m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;
/// p ← p − lr/(1−β₁ᵗ)·m / (√v/√(1−β₂ᵗ) + ε).
template <Device D>
class Adam {
public:
    using T = typename D::Scalar;

    /// Of `params`, which outlive this.
    Adam(ParamSet<D>& params, AdamConfig config) : Adam(params, config, rate_groups(params, {})) {}
    /// Of those in `groups` alone, each with its factor of the learning rate.
    Adam(ParamSet<D>& params, AdamConfig config, std::vector<RateGroup> groups)
        : params_(&params),
          config_(config),
          groups_(std::move(groups)),
          first_(params.device(), params.size()),
          second_(params.device(), params.size()) {
        for (T* moments : {first_.data(), second_.data()})
            params.device().zero(moments, static_cast<std::size_t>(params.size()) * sizeof(T));
    }

    /// One update with learning rate `rate` from the gradients in the ParamSet; nothing but t changes where `skip`
    /// (device memory, may be null) says so, see LossScale.
    void step(double rate, const T* skip = nullptr) {
        const double t = static_cast<double>(steps_ + 1);
        const double correction_1 = 1 - std::pow(config_.beta_1, t);
        const double correction_2 = 1 - std::pow(config_.beta_2, t);
        detail::AdamUpdate<T> update;
        update.skip = skip;
        update.beta_1 = static_cast<T>(config_.beta_1);
        update.beta_2 = static_cast<T>(config_.beta_2);
        update.epsilon = static_cast<T>(config_.epsilon);
        update.decay = static_cast<T>(config_.decoupled ? 0 : config_.weight_decay);
        update.root_scale = static_cast<T>(1 / std::sqrt(correction_2));
        for (const RateGroup& g : groups_) {
            update.value = params_->values() + g.first;
            update.first = first_.data() + g.first;
            update.second = second_.data() + g.first;
            update.grad = params_->gradients() + g.first;
            update.shrink = static_cast<T>(config_.decoupled ? 1 - rate * g.factor * config_.weight_decay : 1);
            update.rate = static_cast<T>(rate * g.factor / correction_1);
            params_->device().map(g.count, update);
        }
        ++steps_;
    }

    /// A recorded step would repeat its bias correction.
    void replayed() { fail("a step with Adam cannot be recorded and repeated; use SGD"); }

    /// Moments and step count, for a checkpoint that resumes bit for bit.
    void save(TensorMap& map) const {
        map.tensors["optimizer.first_moment"] = make_tensor(first_.to_host(), {first_.size()});
        map.tensors["optimizer.second_moment"] = make_tensor(second_.to_host(), {second_.size()});
        map.tensors["optimizer.steps"] = make_tensor(std::vector<std::int64_t>{steps_}, {});
    }
    /// What save() wrote. Throws Error when it does not fit.
    void load(const TensorMap& map) {
        load_moments(map.at("optimizer.first_moment", {first_.size()}), first_);
        load_moments(map.at("optimizer.second_moment", {second_.size()}), second_);
        steps_ = map.at("optimizer.steps").template to<std::int64_t>().at(0);
    }

private:
    void load_moments(const HostTensor& tensor, Buffer<D, T>& to) {
        const std::vector<T> values = tensor.to<T>();
        params_->device().upload(to.data(), values.data(), values.size() * sizeof(T));
        params_->device().synchronize();
    }

    ParamSet<D>* params_;
    AdamConfig config_;
    std::vector<RateGroup> groups_;
    Buffer<D, T> first_, second_;
    std::int64_t steps_ = 0;
};

}  // namespace promptkd
