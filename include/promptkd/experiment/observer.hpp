// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/train/checkpoint.hpp>
#include <promptkd/train/log.hpp>

#include <string>

namespace promptkd {

/// How far one stage of a run has come.
struct StageProgress {
    std::string stage;  ///< what is done ("distil", "teacher", "evaluate")
    std::string unit;   ///< what is counted ("steps", "images")
    Index done = 0;     ///< so many units are done …
    Index total = 0;    ///< … of so many
    Index resumed = 0;  ///< units that an earlier, interrupted run had done
    std::string note;   ///< more for the reader ("epoch 3, loss 1.2345"), or empty
};

/// A training that is about to begin.
struct TrainingStart {
    Index images = 0;      ///< that it learns from
    Index classes = 0;     ///< among which its model decides
    Index parameters = 0;  ///< learnable values
    Index steps = 0;       ///< in all, those of an interrupted run counted
};

/// A checkpoint that a training continues from.
struct Resumption {
    Progress at;            ///< where the training stands
    Index steps = 0;        ///< of the whole training
    bool complete = false;  ///< nothing is left to be done
};

/// Whom a whole run tells what happens. Every function does nothing by default; override those of interest. Calls come
/// from the thread that runs. A run prints nothing itself. Of several processes each has an observer of its own.
class Observer {
public:
    virtual ~Observer() = default;

    /// Models and data are loaded, the training begins.
    virtual void on_start(const TrainingStart&) {}
    /// There is a checkpoint of this very run, which is continued.
    virtual void on_resume(const Resumption&) {}
    /// When a stage begins, and after each of its steps or batches.
    virtual void on_progress(const StageProgress&) {}
    /// A stage is over; on_progress() need not have reached its total (unreadable images, an early stop).
    virtual void on_stage_end(const std::string& /*stage*/) {}
    /// After each training step, once its loss is known.
    virtual void on_step(const StepRecord&) {}
    /// After each epoch, its checkpoint written.
    virtual void on_epoch(const Progress&) {}
    /// An image cannot be read and is left out, which one and why; said again whenever it is asked for.
    virtual void on_skipped(const std::string& text) { on_warning("skipped: " + text); }
    /// Something the user should know and that does not end the run.
    virtual void on_warning(const std::string&) {}
    /// What the run has decided where the specification left it open.
    virtual void on_note(const std::string&) {}
    /// Asked after each epoch; true ends the training as if it had been the last one. Of several processes the first
    /// decides for all.
    virtual bool wants_stop() { return false; }
    /// Asked after each training step; true ends the run there, with a checkpoint from which the same run goes on.
    /// Nothing else is written. Of several processes any one decides for all.
    virtual bool is_interrupted() { return false; }
};

/// The observer that keeps silent.
inline Observer& silent_observer() {
    static Observer silent;
    return silent;
}

}  // namespace promptkd
