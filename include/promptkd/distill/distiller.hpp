// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/compiled.hpp>
#include <promptkd/distill/objective.hpp>
#include <promptkd/distill/student.hpp>
#include <promptkd/train/trainer.hpp>

#include <utility>

namespace promptkd {

/// How a distiller works.
template <Device D>
struct DistillerOptions {
    Index max_batch = 0;       ///< images of a micro-batch at most; 0: as many as the student was planned for
    DataParallel<D> parallel;  ///< the other ranks of the step
};

/// PromptKD's second stage, a Trainer (train/trainer.hpp) whose supervision is the teacher's target: the student's
/// features of a batch of unlabelled images, the objective, the gradients of prompts and projector, the update. After
/// the constructor nothing is allocated. A device that stores activations in fp16 gets a LossScale. With several ranks,
/// each gives its slice of the batch; loss and gradients are those of the whole batch, on every rank.
template <Device D, class O = DistillationObjective<D>>
requires Objective<O, D>
class Distiller final : public TrainerBase<D> {
    using Base = TrainerBase<D>;
    using Base::device_;

public:
    using T = typename D::Scalar;
    /// The teachers' targets; see Trainer.
    using Supervision = T;

    /// PromptKD's own objective. Throws Error when class vectors and student do not fit.
    Distiller(Student<D>& student, const ClassVectors<T>& vectors, const DistillationConfig& config,
              const DistillerOptions<D>& options = {}) requires std::same_as<O, DistillationObjective<D>>
        : Distiller(student, O(student, vectors, config, batch_of(student, options)), config, options) {}

    /// Any objective; of `config` the optimizer and the loss scale are looked at. The student outlives the distiller.
    Distiller(Student<D>& student, O objective, const DistillationConfig& config,
              const DistillerOptions<D>& options = {})
        : Base(student.device(), student.params(), config.optimizer, config.loss_scale, options.parallel),
          student_(student),
          objective_(std::move(objective)),
          arena_(student.device()),
          max_batch_(batch_of(student, options)) {
        arena_.plan([&] { run(nullptr, nullptr, max_batch_); });
    }

    /// One training step on device images (batch, 3, r, r) and the teacher's `target` (batch, target_size()) with
    /// learning rate `rate`. The loss stays on the device until loss() reads it.
    void step(const T* images, const T* target, Index batch, double rate) {
        this->params().clear_gradients();
        accumulate(images, target, batch);
        this->update(rate);
    }

    /// Adds the gradients of one micro-batch. BatchNorm sees the micro-batch.
    void accumulate(const T* images, const T* target, Index batch) {
        require(batch <= max_batch_ && batch <= student_.max_batch(), "a batch of ", batch, " images, but ", max_batch_,
                " were planned");
        run(images, target, batch);
        student_.count_batch();
    }

    /// A recorded step was queued again: what the host counts. Throws Error for an optimizer that cannot be repeated.
    void replayed() {
        student_.count_batch();
        this->optimizer().replayed();
    }
    /// Nothing to do; see Trainer.
    void end_epoch(Index) {}
    /// Nothing to do; see Trainer.
    void finish() {}

    /// Parameters, statistics, optimizer, loss scale: a checkpoint that resumes bit for bit.
    void save(TensorMap& state) const {
        student_.save(state);
        this->optimizer().save(state);
    }
    /// What save() wrote. Throws Error when it does not fit.
    void load(const TensorMap& state) {
        student_.load(state);
        this->optimizer().load(state);
    }

    /// What is trained.
    Student<D>& student() { return student_; }
    /// The loss.
    const O& objective() const { return objective_; }
    /// Values of a target's row.
    Index target_size() const { return objective_.target_size(); }
    /// Bytes of activations and temporaries of one step of the student.
    std::size_t arena_bytes() const { return arena_.peak(); }
    /// Normalised features of the last step (batch, embed), in device memory.
    Matrix<const T> student_features() const { return tape_.unit; }

private:
    static Index batch_of(const Student<D>& student, const DistillerOptions<D>& options) {
        return options.max_batch > 0 ? options.max_batch : student.max_batch();
    }

    /// Forward, objective, backward.
    void run(const T* images, const T* target, Index batch);

    Student<D>& student_;
    O objective_;
    Arena<D> arena_;
    Index max_batch_;
    typename Student<D>::Tape tape_;
};

template <Device D, class O>
requires Objective<O, D>
void Distiller<D, O>::run(const T* images, const T* target, Index batch) {
    arena_.reset();
    const Workspace<D> w{device_, arena_};
    StudentBatch<T> in;
    in.images = student_.pixels(images, batch);
    in.target = {target, batch, objective_.target_size()};
    in.unit = student_.forward_training(w, in.images, tape_, this->parallel());
    in.encoded = tape_.encoded;
    const WorkspaceScope scope(w);
    StudentGradients<T> out;
    out.d_unit = scratch<T>(w, batch, in.unit.columns);
    if (objective_.reads_encoded()) out.d_encoded = scratch<T>(w, batch, in.encoded.columns);
    out.loss = this->device_loss();
    objective_.evaluate(w, in, out);
    this->scale_gradient(out.d_unit.data, out.d_unit.count(), batch);
    if (out.d_encoded.data) this->scale_gradient(out.d_encoded.data, out.d_encoded.count(), batch);
    this->share_loss(batch);
    student_.backward(w, out.d_unit, tape_, out.d_encoded);
}

PROMPTKD_COMPILED_CLASS(Distiller);

}  // namespace promptkd
