// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/parallel/communicator.hpp>
#include <promptkd/optim/scaled_optimizer.hpp>

#include <concepts>
#include <memory>
#include <utility>

namespace promptkd {

/// Something that learns from batches on a device. One step is: params().clear_gradients(), accumulate() for each
/// micro-batch, update(). Prompt learners and the distiller satisfy it; a StepPipeline turns any of them into what a
/// TrainingLoop drives.
///   accumulate(images, supervision, n): adds the gradients of the mean loss of n device images (n, 3, r, r) and leaves
///     that loss on the device; `supervision` are the labels or teacher's targets of these images, device memory.
///   update(rate): the optimizer's step with learning rate `rate` on what was accumulated, on all ranks.
///   loss_on_device(): the last micro-batch's loss, after update() that of all ranks.
///   replayed(): a recorded step was queued again: what the host counts.
///   end_epoch(epoch), finish(): after the last step of an epoch (from 0), and of the last epoch.
///   save(state), load(state): everything that a run needs to continue bit for bit.
template <class X>
concept Trainer = requires(X& x, const X& saved, const typename X::DeviceType::Scalar* images,
                           const typename X::Supervision* supervision, Index n, TensorMap& state,
                           const TensorMap& from) {
    { x.params() } -> std::same_as<ParamSet<typename X::DeviceType>&>;
    x.accumulate(images, supervision, n);
    x.update(0.1);
    { x.loss_on_device() } -> std::same_as<const typename X::DeviceType::Scalar*>;
    x.replayed();
    x.end_epoch(n);
    x.finish();
    saved.save(state);
    x.load(from);
};

/// What all trainers share: the optimizer with its loss scale, the loss on the device, this rank's share of both.
template <Device D>
class TrainerBase {
public:
    /// See Trainer.
    using DeviceType = D;
    using T = typename D::Scalar;

    /// `params` is bound and outlives this. `scale`: where activations are stored in fp16. Throws Error for a global
    /// batch of fewer images than ranks.
    TrainerBase(D& device, ParamSet<D>& params, const OptimizerConfig& optimizer, const LossScaleConfig& scale,
                const DataParallel<D>& parallel = {})
        : device_(device),
          parallel_(parallel),
          params_(params),
          optimizer_(params, optimizer, scale),
          loss_(device, 1) {
        require(parallel.ranks.alone() || parallel.global_batch >= parallel.ranks.size(), "data parallel: a batch of ",
                parallel.global_batch, " images for ", parallel.ranks.size(), " ranks");
    }
    TrainerBase(const TrainerBase&) = delete;
    TrainerBase& operator=(const TrainerBase&) = delete;

    /// What is learned.
    ParamSet<D>& params() { return params_; }
    /// Where it runs.
    D& device() { return device_; }

    /// An optimizer of one's own over params() in the place of the configured one, before the first step; loss scale
    /// and clipping stay. Throws Error for null.
    void use_optimizer(std::unique_ptr<Optimizer<D>> rule) { optimizer_.use(std::move(rule)); }

    /// The optimizer's step with what was accumulated on all ranks.
    void update(double rate) {
        parallel_.ranks.all_reduce_sum(device_, params_.gradients(), params_.size());
        parallel_.ranks.all_reduce_sum(device_, loss_.data(), 1);
        optimizer_.step(rate);
    }

    /// The last micro-batch's loss (waits for the device).
    double loss() {
        T value = 0;
        device_.download(&value, loss_.data(), sizeof value);
        return static_cast<double>(value);
    }
    /// The same in device memory.
    const T* loss_on_device() const { return loss_.data(); }
    /// Empty unless activations are stored in fp16.
    const std::optional<LossScale<D>>& loss_scale() const { return optimizer_.loss_scale(); }
    /// Norm of all gradients of the last step; empty unless it is clipped.
    const std::optional<GradientNorm<D>>& gradient_norm() const { return optimizer_.gradient_norm(); }

protected:
    ~TrainerBase() = default;

    /// This rank's share of the gradient of a mean over `rows` images, times the loss scale, on its way backward.
    void scale_gradient(T* gradient, Index n, Index rows) {
        if (!parallel_.ranks.alone()) scale(device_, parallel_.share(rows), gradient, n);
        optimizer_.scale(gradient, n);
    }
    /// This rank's share of the loss of `rows` images.
    void share_loss(Index rows) {
        if (!parallel_.ranks.alone()) scale(device_, parallel_.share(rows), loss_.data(), 1);
    }
    /// Where a step leaves its loss.
    T* device_loss() { return loss_.data(); }
    /// The other ranks of the step.
    const DataParallel<D>& parallel() const { return parallel_; }
    /// Optimizer and loss scale.
    ScaledOptimizer<D>& optimizer() { return optimizer_; }
    /// Optimizer and loss scale.
    const ScaledOptimizer<D>& optimizer() const { return optimizer_; }

    D& device_;  ///< where it runs

private:
    DataParallel<D> parallel_;
    ParamSet<D>& params_;
    ScaledOptimizer<D> optimizer_;
    Buffer<D, T> loss_;
};

}  // namespace promptkd
