// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/train/accumulation.hpp>
#include <promptkd/train/distiller.hpp>
#include <promptkd/train/evaluate.hpp>
#include <promptkd/train/targets.hpp>
#include <promptkd/train/training_loop.hpp>

namespace promptkd {

/// The teacher that a Distiller was given, as a source of targets.
template <Device D>
class DistillerTeacher final : public TargetSource<D> {
public:
    using T = typename D::Scalar;
    explicit DistillerTeacher(Distiller<D>& distiller) : distiller_(distiller) {}
    Index size() const override { return distiller_.target_size(); }
    const T* targets(const Batch& batch, const T* images, Index) override {
        return distiller_.teacher_target(images, batch.size);
    }

private:
    Distiller<D>& distiller_;
};

/// A distillation as a TrainingLoop runs it: batches whose labels are never looked at.
template <Device D>
class DistillationTarget final : public TrainingTarget {
public:
    using T = typename D::Scalar;

    /// `batch`: images of a step, worked through in `parts` micro-batches (each has BatchNorm statistics of its own).
    /// All references must outlive this. Throws Error when the source's targets are not what the distiller compares
    /// with.
    DistillationTarget(Distiller<D>& distiller, Student<D>& student, TargetSource<D>& source, Index batch,
                       Index parts = 1)
        : distiller_(distiller),
          student_(student),
          source_(source),
          parts_(parts),
          feed_(student.device(), batch, student.model().vision().resolution()) {
        require_parts(batch, parts);
        require(source.size() == distiller.target_size(), "the teacher's targets have ", source.size(),
                " values an image, the student is compared in ", distiller.target_size());
    }

    void begin_epoch(Index epoch) override { epoch_ = epoch; }

    double step(const Batch& batch, double rate) override {
        const T* images = feed_.upload(batch);
        const T* targets = source_.targets(batch, images, epoch_);
        const Index resolution = student_.model().vision().resolution(), values = 3 * resolution * resolution;
        const double loss = accumulate_parts(student_.params(), batch.size, parts_, [&](Index first, Index n) {
            distiller_.accumulate(images + first * values, targets + first * source_.size(), n, first == 0);
            return distiller_.loss();
        });
        distiller_.optimizer().step(rate);
        return loss;
    }
    void save(TensorMap& state) const override {
        student_.save(state);
        distiller_.optimizer().save(state);
    }
    void restore(const TensorMap& state) override {
        student_.load(state);
        distiller_.optimizer().load(state);
    }

private:
    Distiller<D>& distiller_;
    Student<D>& student_;
    TargetSource<D>& source_;
    Index parts_, epoch_ = 0;
    ImageFeed<D> feed_;
};

/// Distils over `data` as `config` says (its resolution is set here) with the distiller's own teacher.
template <Device D>
TrainingResult run_distillation(Distiller<D>& distiller, Student<D>& student, const Dataset& data,
                                TrainingLoopConfig config) {
    config.resolution = student.model().vision().resolution();
    DistillerTeacher<D> teacher(distiller);
    DistillationTarget<D> target(distiller, student, teacher, config.batch);
    return TrainingLoop(target, data, config).run();
}

}  // namespace promptkd
