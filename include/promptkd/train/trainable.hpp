// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>
#include <promptkd/data/loader.hpp>

namespace promptkd {

/// What a TrainingLoop drives: steps on batches, and the state that a checkpoint holds. A Trainer becomes one by a
/// StepPipeline.
class Trainable {
public:
    virtual ~Trainable() = default;
    /// Before the first step of epoch `epoch` (from 0).
    virtual void begin_epoch(Index epoch) = 0;
    /// Queues one step with learning rate `rate`. At most two steps are open, so that a device always has the next one
    /// to do while the host reads the loss of the one before.
    virtual void begin_step(const Batch& batch, double rate) = 0;
    /// The loss of the oldest step that was queued and not finished yet.
    virtual double end_step() = 0;
    /// After the last step of epoch `epoch` (from 0).
    virtual void end_epoch(Index epoch) = 0;
    /// After the last epoch of a run that was not ended early: what is learned takes its final form.
    virtual void finish() = 0;
    /// Everything that a run needs to continue bit for bit.
    virtual void save(TensorMap& state) const = 0;
    /// What save() wrote. Throws Error when it does not fit.
    virtual void load(const TensorMap& state) = 0;
};

}  // namespace promptkd
