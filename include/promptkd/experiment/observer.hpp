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

/// Whom a whole run tells what happens. Every function does nothing by default; override those of interest. Calls come
/// from the thread that runs. A run prints nothing itself.
class Observer {
public:
    virtual ~Observer() = default;

    /// After each step or batch of a stage.
    virtual void on_progress(const StageProgress&) {}
    /// After each training step, once its loss is known.
    virtual void on_step(const StepRecord&) {}
    /// After each epoch, its checkpoint written.
    virtual void on_epoch(const Progress&) {}
    /// Something the user should know and that does not end the run: an image that cannot be read, say.
    virtual void on_warning(const std::string&) {}
    /// Asked after each epoch; true ends the training as if it had been the last one.
    virtual bool wants_stop() { return false; }
};

}  // namespace promptkd
