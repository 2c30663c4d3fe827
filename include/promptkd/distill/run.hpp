// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/compiled.hpp>
#include <promptkd/distill/distiller.hpp>
#include <promptkd/distill/teachers.hpp>
#include <promptkd/train/loop.hpp>
#include <promptkd/train/step_pipeline.hpp>

namespace promptkd {

/// Throws Error when the teacher's targets are not what the distiller compares with.
template <Device D, class O>
void require_fits(const Distiller<D, O>& distiller, const TeacherSource<D>& teacher) {
    require(teacher.size() == distiller.target_size(), "the teacher's targets have ", teacher.size(),
            " values an image, the student is compared in ", distiller.target_size());
}

/// A distillation as a TrainingLoop drives it: images whose labels are never looked at.
template <Device D, class O = DistillationObjective<D>>
using DistillationPipeline = StepPipeline<Distiller<D, O>, TeacherSource<D>>;

/// Distils `teacher` into the distiller's student over `data` as `config` says (its preprocessing and steps.batch are
/// set here). Throws Error when the teacher's targets are not what the distiller compares with.
template <Device D, class O>
TrainingResult run_distillation(Distiller<D, O>& distiller, TeacherSource<D>& teacher, const Dataset& data,
                                TrainingLoopConfig config, StepOptions steps = {}) {
    require_fits(distiller, teacher);
    config.preprocessing = distiller.student().model().preprocessing();
    config.further = teacher.further_inputs(config.preprocessing);
    steps.batch = slice_of(config.batch, config.rank, config.ranks).count;
    DistillationPipeline<D, O> pipeline(distiller, teacher, config.preprocessing, steps);
    return TrainingLoop(pipeline, data, config).run();
}

PROMPTKD_COMPILED_FUNCTION(TrainingResult run_distillation(Distiller<Cpu<float>>&, TeacherSource<Cpu<float>>&,
                                                           const Dataset&, TrainingLoopConfig, StepOptions));

}  // namespace promptkd
