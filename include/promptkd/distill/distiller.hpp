// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/objective.hpp>
#include <promptkd/distill/student.hpp>
#include <promptkd/optim/scaled_optimizer.hpp>

namespace promptkd {

/// PromptKD's second stage, one step at a time: the teacher's target of a batch of unlabelled images, the student's
/// features, the objective, the gradients of prompts and projector, the update. After the constructor nothing is
/// allocated. A device that stores activations in fp16 gets a LossScale. With several ranks, each gives its slice of
/// the batch; loss and gradients are those of the whole batch, on every rank.
template <Device D>
class Distiller {
public:
    using T = typename D::Scalar;

    /// `class_vectors` (classes, embed), normalised, on the host: what the student's features are compared with, and a
    /// teacher's too. Student and teacher must outlive the distiller; `teacher` may be null when every step brings its
    /// target. `own_vectors`: see DistillationObjective. Throws Error when the sizes do not fit. `max_batch` images a
    /// step at most (0: as many as the student was planned for).
    Distiller(Student<D>& student, FrozenImageTower<D>* teacher, const std::vector<T>& class_vectors,
              const DistillationConfig& config, Index max_batch = 0, const std::vector<T>& own_vectors = {},
              const DataParallel<D>& parallel = {})
        : device_(student.device()),
          student_(&student),
          teacher_(teacher),
          config_(config),
          parallel_(parallel),
          optimizer_(device_, student.params(), config.optimizer, config.loss_scale),
          arena_(device_),
          max_batch_(max_batch > 0 ? max_batch : student.max_batch()),
          objective_(device_, student.model(), student.config().embed, class_vectors, own_vectors, config, max_batch_),
          teacher_logits_(device_, max_batch_ * objective_.classes()),
          loss_(device_, 1) {
        require(!teacher || teacher->embed() == objective_.embed(), "the teacher's features have ",
                teacher ? teacher->embed() : 0, " values, the class vectors ", objective_.embed());
        require(parallel.ranks.alone() || parallel.global_batch >= parallel.ranks.size(), "data parallel: a batch of ",
                parallel.global_batch, " images for ", parallel.ranks.size(), " ranks");
        {
            PlanningScope<D> planning(device_);
            accumulate(nullptr, teacher_logits_.data(), max_batch_, true);
        }
        arena_.bind();
    }

    /// One training step on device images (batch, 3, resolution, resolution) with learning rate `rate`. The loss stays
    /// on the device until loss() reads it.
    void step(const T* images, Index batch, double rate) {
        step_with_target(images, teacher_target(images, batch), batch, rate);
    }

    /// The same with the teacher's `target` (batch, target_size()) in device memory: its logits, or for a loss on
    /// features its normalised features.
    void step_with_target(const T* images, const T* target, Index batch, double rate) {
        accumulate(images, target, batch, true);
        update(rate);
    }

    /// Gradients of one micro-batch, added to what is there unless `first`; its loss. BatchNorm sees the micro-batch.
    /// Then update().
    void accumulate(const T* images, const T* target, Index batch, bool first) {
        require(batch <= max_batch_ && batch <= student_->max_batch(), "a batch of ", batch, " images, but ",
                max_batch_, " were planned");
        arena_.reset();
        if (first) student_->params().clear_gradients();
        const T* unit = student_->forward_training(arena_, images, batch, tape_, parallel_);
        typename Arena<D>::Scope scope(arena_);
        T* d_unit = arena_.template scratch<T>(batch * objective_.embed());
        T* d_encoded = objective_.reads_encoded()
                           ? arena_.template scratch<T>(batch * student_->model().vision().embed())
                           : nullptr;
        objective_.evaluate(arena_, images, target, batch, unit, tape_.encoded, d_unit, d_encoded, loss_.data());
        scale_gradient(d_unit, batch * objective_.embed(), batch);
        if (d_encoded) scale_gradient(d_encoded, batch * student_->model().vision().embed(), batch);
        if (!parallel_.ranks.alone()) scale(device_, parallel_.share(batch), loss_.data(), 1);
        student_->backward(arena_, d_unit, tape_, d_encoded);
    }

    /// The optimizer's step with what accumulate() has gathered on all ranks.
    void update(double rate) {
        ParamSet<D>& params = student_->params();
        parallel_.ranks.all_reduce_sum(device_, params.gradients(), params.size());
        parallel_.ranks.all_reduce_sum(device_, loss_.data(), 1);
        optimizer_.step(rate);
    }

    /// What the live teacher makes of device images, in device memory: logits or normalised features, as the objective
    /// needs them.
    const T* teacher_target(const T* images, Index batch) {
        require(teacher_ != nullptr, "this distiller has no teacher; give it stored logits");
        return config_.kd == KdLoss::logits ? teacher_logits(images, batch) : teacher_->encode(images, batch);
    }

    /// exp(s_t)·u_t·Wᵀ (batch, classes) of the live teacher, in device memory.
    const T* teacher_logits(const T* images, Index batch) {
        const T* features = teacher_->encode(images, batch);
        cosine_logits(device_, features, objective_.vectors(), teacher_logits_.data(), batch, objective_.classes(),
                      objective_.embed(), teacher_->logit_scale());
        return teacher_logits_.data();
    }

    /// The last (micro-)batch's loss (waits for the device).
    double loss() {
        T value = 0;
        device_.download(&value, loss_.data(), sizeof value);
        return static_cast<double>(value);
    }

    /// The same in device memory.
    const T* loss_on_device() const { return loss_.data(); }

    /// A recorded step was queued again: what the host counts. Throws Error for an optimizer that cannot be repeated.
    void replayed() {
        student_->replayed();
        optimizer_.replayed();
    }

    Index classes() const { return objective_.classes(); }
    Index target_size() const { return objective_.target_size(); }
    /// Empty unless activations are stored in fp16.
    const std::optional<LossScale<D>>& loss_scale() const { return optimizer_.loss_scale(); }
    /// State of optimizer and loss scale, for a checkpoint that resumes bit for bit.
    void save(TensorMap& state) const { optimizer_.save(state); }
    void load(const TensorMap& state) { optimizer_.load(state); }
    /// Bytes of activations and temporaries of one step of the student.
    std::size_t arena_bytes() const { return arena_.peak(); }
    /// Normalised features of the last step (batch, embed), in device memory.
    const T* student_features() const { return tape_.unit; }

private:
    /// This rank's share of a gradient, times the loss scale, on its way into the backward pass.
    void scale_gradient(T* gradient, Index n, Index batch) {
        if (!parallel_.ranks.alone()) scale(device_, parallel_.share(batch), gradient, n);
        optimizer_.scale(gradient, n);
    }

    D& device_;
    Student<D>* student_;
    FrozenImageTower<D>* teacher_;
    DistillationConfig config_;
    DataParallel<D> parallel_;
    ScaledOptimizer<D> optimizer_;
    Arena<D> arena_;
    Index max_batch_;
    DistillationObjective<D> objective_;
    Buffer<D, T> teacher_logits_, loss_;
    typename Student<D>::Tape tape_;
};

}  // namespace promptkd
