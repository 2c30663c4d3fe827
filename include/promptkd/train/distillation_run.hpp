// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/train/distiller.hpp>
#include <promptkd/train/evaluate.hpp>
#include <promptkd/train/training_loop.hpp>

namespace promptkd {

/// A distillation as a TrainingLoop runs it: batches whose labels are never looked at.
template <Device D>
class DistillationTarget final : public TrainingTarget {
public:
    /// `batch`: images of a step. Distiller and student must outlive this.
    DistillationTarget(Distiller<D>& distiller, Student<D>& student, Index batch)
        : distiller_(distiller),
          student_(student),
          feed_(student.device(), batch, student.model().vision().resolution()) {}

    double step(const Batch& batch, double rate) override {
        distiller_.step(feed_.upload(batch), batch.size, rate);
        return distiller_.loss();
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
    ImageFeed<D> feed_;
};

/// Distils over `data` as `config` says (its resolution is set here).
template <Device D>
TrainingResult run_distillation(Distiller<D>& distiller, Student<D>& student, const Dataset& data,
                                TrainingLoopConfig config) {
    config.resolution = student.model().vision().resolution();
    DistillationTarget<D> target(distiller, student, config.batch);
    return TrainingLoop(target, data, config).run();
}

}  // namespace promptkd
