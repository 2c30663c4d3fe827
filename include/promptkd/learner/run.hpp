// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/learner/trainer.hpp>
#include <promptkd/train/label_feed.hpp>
#include <promptkd/train/loop.hpp>
#include <promptkd/train/step_pipeline.hpp>

namespace promptkd {

/// A prompt learner as a TrainingLoop drives it: labelled images.
template <Device D>
using LearnerPipeline = StepPipeline<LearnerTrainer<D>, LabelFeed<D>>;

/// Trains a prompt learner on labelled `data` as `config` says; `steps.batch` is set here.
template <Device D>
TrainingResult run_learner(LearnerTrainer<D>& trainer, const Dataset& data, const TrainingLoopConfig& config,
                           StepOptions steps = {}) {
    steps.batch = slice_of(config.batch, config.rank, config.ranks).count;
    LabelFeed<D> labels(trainer.device(), steps.batch, trainer.classes());
    LearnerPipeline<D> pipeline(trainer, labels, config.preprocessing, steps);
    return TrainingLoop(pipeline, data, config).run();
}

}  // namespace promptkd
