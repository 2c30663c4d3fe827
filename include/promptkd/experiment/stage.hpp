// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/observer.hpp>
#include <promptkd/train/loop.hpp>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>

namespace promptkd {

/// Counts the units of one stage and tells an observer. end() closes it.
class Stage {
public:
    /// Of `total` units; tells `observer`.
    Stage(std::string name, std::string unit, Index total, Observer& observer) : observer_(observer) {
        now_.stage = std::move(name);
        now_.unit = std::move(unit);
        now_.total = total;
        observer_.on_progress(now_);
    }

    /// So many units are done.
    void update(Index done, std::string note = "") {
        now_.done = done;
        now_.note = std::move(note);
        observer_.on_progress(now_);
    }
    /// `resumed` units were done by an earlier run.
    void resume(Index resumed) { now_.resumed = resumed; }
    /// The stage is done.
    void end() { observer_.on_stage_end(now_.stage); }

private:
    Observer& observer_;
    StageProgress now_;
};

/// Steps that a training of `images` images makes in all.
inline Index count_steps(const TrainingLoopConfig& loop, Index images) {
    const Index steps = loop.schedule.max_epoch * (images / std::max<Index>(1, loop.batch));
    return loop.max_steps > 0 ? std::min(loop.max_steps, steps) : steps;
}

/// The batch of a training of `images` images: of a set that is smaller than a batch all of it, as in the published
/// loaders. Tells `observer`.
inline Index whole_batch(const TrainingLoopConfig& loop, Index images, Observer& observer) {
    if (images >= loop.batch || images < 1) return loop.batch;
    observer.on_note(concat("the ", images, " images are fewer than a batch of ", loop.batch,
                            ": each epoch is one batch of all of them"));
    return images;
}

/// Tells `observer` when a training of `images` images ends before its learning rate has left the warm-up.
inline void warn_of_warm_up(const TrainingLoopConfig& loop, Index images, Observer& observer) {
    const ScheduleConfig& s = loop.schedule;
    const Index in_epoch = std::max<Index>(1, images / std::max<Index>(1, loop.batch));
    Index epochs = s.max_epoch;
    if (loop.max_steps > 0) epochs = std::min(epochs, (loop.max_steps + in_epoch - 1) / in_epoch);
    if (s.warmup == Warmup::none || s.warmup_epoch <= 0 || epochs > s.warmup_epoch) return;
    observer.on_warning(concat("all of the training is warm-up (", epochs, " of ", s.warmup_epoch,
                               " epochs), so the learning rate never reaches ", s.lr,
                               " and hardly anything is learned; train for more epochs, or without a warm-up"));
}

/// A training loop under the eyes of an observer.
class TrainingStage {
public:
    /// Of `steps` steps.
    TrainingStage(std::string name, Index steps, Observer& observer)
        : name_(std::move(name)), steps_(steps), observer_(observer) {}

    /// `loop` over `images` images with callbacks into this, which must outlive it. A checkpoint of the same run in the
    /// output folder is continued unless `fresh`; of another run, it is an Error.
    TrainingLoopConfig connect(TrainingLoopConfig loop, Index images, bool fresh) {
        loop.resume = !fresh && finds_checkpoint(loop, images);
        loop.on_step = [this](const StepRecord& record) { step(record); };
        loop.on_epoch = [this](const Progress& at) { observer_.on_epoch(at); };
        loop.warn = [this](const std::string& text) { observer_.on_skipped(text); };
        loop.note = [this](const std::string& text) { observer_.on_warning(text); };
        loop.interrupted = [this] { return observer_.is_interrupted(); };
        loop.should_stop = [this](const Progress&) { return observer_.wants_stop(); };
        return loop;
    }

    /// Only so many steps will be made. Before begin().
    void shorten(Index steps) { steps_ = steps; }
    /// The first step comes next: what came before takes no time of the steps.
    void begin() { stage_.emplace(name_, "steps", steps_, observer_); }
    /// The stage is done.
    void end() { observer_.on_stage_end(name_); }

private:
    bool finds_checkpoint(const TrainingLoopConfig& loop, Index images) {
        if (loop.out.empty() || !has_checkpoint(loop.out)) return false;
        Resumption found;
        read_checkpoint(loop.out, run_identity(loop, images), found.at);
        found.steps = steps_;
        found.complete = found.at.step >= steps_ || found.at.epoch >= loop.schedule.max_epoch;
        observer_.on_resume(found);
        return true;
    }

    void step(const StepRecord& record) {
        if (!stage_) begin();
        if (first_ < 0) {
            first_ = record.step;
            stage_->resume(first_);
        }
        char note[64];
        std::snprintf(note, sizeof note, "epoch %lld, loss %.4f", static_cast<long long>(record.epoch + 1),
                      record.loss);
        stage_->update(record.step + 1, note);
        observer_.on_step(record);
    }

    std::string name_;
    Index steps_, first_ = -1;
    Observer& observer_;
    std::optional<Stage> stage_;
};

}  // namespace promptkd
