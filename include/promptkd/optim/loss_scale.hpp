// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/nn/param_set.hpp>

#include <algorithm>

namespace promptkd {

/// Settings of dynamic loss scaling. It begins without any: PromptKD's weight of 1000 lifts the gradients already, and
/// a scale that is too large costs steps.
struct LossScaleConfig {
    double initial = 1;           ///< scale of the first step
    double largest = 65536;       ///< the scale grows no further
    Index growth_interval = 100;  ///< steps without overflow after which the scale doubles
};

namespace detail {

/// What the device remembers between steps, in its Scalar.
enum LossScaleState : int { scale_now, skip_step, clean_steps, skipped_steps, loss_scale_values };

template <class T>
struct ScaleLoss {
    const T* state;
    T* x;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        lane.store(x, lane.value(lane.load(x) * state[scale_now]));
    }
};

/// A part of the gradients: divided by the scale, and looked through for what is not finite.
template <class T>
struct UnscaleGradients {
    const T* state;
    T *gradients, *bad;
    Index n, part;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        T* g = gradients + row * part;
        const T inverse = T(1) / state[scale_now];
        const T zero = team.sum(n - row * part < part ? n - row * part : part, [=](const auto& lane) {
            const LaneValue<decltype(lane)> v = lane.load(g);
            lane.store(g, lane.value(v * inverse));
            return lane.value(v - v);  // 0, or NaN for infinities and NaN
        });
        team.once([this, row, zero] { bad[row] = zero == T(0) ? T(0) : T(1); });
    }
};

template <class T>
struct UpdateLossScale {
    const T* bad;
    T* state;
    Index parts;
    T largest, interval;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index) const {
        const T* flags = bad;
        const T overflow = team.max(parts, [flags](const auto& lane) { return lane.load(flags); });
        team.once([this, overflow] {
            const T scale = state[scale_now];
            state[skip_step] = overflow;
            if (overflow > T(0)) {
                state[scale_now] = scale > T(1) ? scale * T(0.5) : scale;
                state[clean_steps] = T(0);
                state[skipped_steps] += T(1);
            } else {
                const bool grow = state[clean_steps] + T(1) >= interval;
                state[clean_steps] = grow ? T(0) : state[clean_steps] + T(1);
                if (grow && scale < largest) state[scale_now] = scale * T(2);
            }
        });
    }
};

}  // namespace detail

/// Dynamic loss scaling (Micikevicius et al., Mixed Precision Training, 2018, section 3.2) for activations in fp16,
/// whose smallest numbers swallow small gradients: the loss's gradient is multiplied by S before it enters the 16-bit
/// part, the parameters' gradients are divided by S. When one of them is not finite the step is skipped and S halved;
/// after `growth_interval` steps without that, S doubles. Everything stays on the device: a step never waits for it.
template <Device D>
class LossScale {
public:
    using T = typename D::Scalar;

    /// For `gradients` values.
    LossScale(D& device, Index gradients, const LossScaleConfig& config = {})
        : device_(&device),
          config_(config),
          parts_((gradients + part - 1) / part),
          state_(device, std::vector<T>{static_cast<T>(config.initial), T(0), T(0), T(0)}),
          bad_(device, std::max<Index>(1, parts_)) {
        require(config.initial >= 1 && config.largest >= config.initial && config.growth_interval >= 1,
                "loss scale: expected 1 <= initial <= largest and an interval of at least 1");
    }

    /// x ← S·x, n values.
    void scale(T* x, Index n) { device_->map(n, detail::ScaleLoss<T>{state_.data(), x}); }

    /// gradients ← gradients/S (as many as were announced); decides about this step and the next S.
    void unscale(T* gradients, Index n) {
        device_->rows(parts_, part, detail::UnscaleGradients<T>{state_.data(), gradients, bad_.data(), n, part});
        device_->rows(1, parts_,
                      detail::UpdateLossScale<T>{bad_.data(), state_.data(), parts_, static_cast<T>(config_.largest),
                                                 static_cast<T>(config_.growth_interval)});
    }

    /// Device memory: not 0 when the optimizer must leave everything as it is.
    const T* skip() const { return state_.data() + detail::skip_step; }

    /// S, and how many steps were skipped so far (waits for the device).
    double value() const { return static_cast<double>(state_.to_host()[detail::scale_now]); }
    /// Steps that were left out because a gradient was not finite (waits for the device).
    Index skipped() const { return static_cast<Index>(state_.to_host()[detail::skipped_steps]); }

    /// For a checkpoint that resumes bit for bit.
    void save(TensorMap& map) const { map.tensors["loss_scale"] = make_tensor(state_.to_host(), {state_.size()}); }
    /// What save() wrote.
    void load(const TensorMap& map) {
        const std::vector<T> state = map.at("loss_scale", {state_.size()}).template to<T>();
        device_->upload(state_.data(), state.data(), state.size() * sizeof(T));
        device_->synchronize();
    }

private:
    static constexpr Index part = 4096;

    D* device_;
    LossScaleConfig config_;
    Index parts_;
    Buffer<D, T> state_, bad_;
};

}  // namespace promptkd
