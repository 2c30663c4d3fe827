// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/loader.hpp>
#include <promptkd/device/parallel/communicator.hpp>
#include <promptkd/optim/schedule.hpp>
#include <promptkd/train/checkpoint.hpp>
#include <promptkd/train/log.hpp>
#include <promptkd/train/trainable.hpp>

#include <sys/stat.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>

namespace promptkd {

/// How a training runs over a data set.
struct TrainingLoopConfig {
    Index batch = 8;              ///< images a step, on all ranks together
    Preprocessing preprocessing;  ///< what the trained encoder takes
    /// what other encoders take of the same images, see LoaderOptions
    std::vector<Preprocessing> further;
    Index max_steps = 0;      ///< stop after so many steps; 0: after schedule.max_epoch epochs
    ScheduleConfig schedule;  ///< learning rate by epoch, and the number of epochs
    Augmentation augmentation = Augmentation::random_resized_crop;  ///< of each image, drawn anew each epoch
    bool shuffle = true;                                            ///< otherwise images in the order of the data set
    std::uint64_t seed = 1;                  ///< of the order and, without view_seed, of the views
    std::optional<std::uint64_t> view_seed;  ///< of the augmentation, where it is not `seed`
    bool fixed_views = false;                ///< every epoch sees the views of the first
    int loader_threads = 2;                  ///< that decode and preprocess
    int rank = 0, ranks = 1;                 ///< this process takes its slice of every batch; rank 0 writes
    std::function<void(Index)> meet;  ///< called with the first step's number: waits for the other ranks, throws Error
                                      ///< unless all begin there
    std::string out;                  ///< output folder; empty: keep no log and no checkpoint
    bool resume = false;              ///< continue from the checkpoint in `out`, where there is one
    nlohmann::json identity =
        nlohmann::json::object();  ///< every setting the result depends on; a checkpoint of another run is refused
    nlohmann::json inputs =
        nlohmann::json::object();  ///< fingerprints of what it is made of; a checkpoint of something else is refused
    /// after each step, once its loss is known
    std::function<void(const StepRecord&)> on_step;
    std::function<void(const Progress&)> on_epoch;     ///< after each epoch, its checkpoint written
    std::function<bool(const Progress&)> should_stop;  ///< asked after that: true ends the run here (on every rank)
    std::function<bool()> interrupted;  ///< asked after each step, on every rank: true ends the run there (it must be
                                        ///< true on all), with a checkpoint from which it goes on
    /// an image cannot be read
    std::function<void(const std::string&)> warn;
    std::function<void(const std::string&)> note;  ///< something else that the user should know
};

/// What a checkpoint of a run over `images` images belongs to.
inline RunIdentity run_identity(const TrainingLoopConfig& config, Index images) {
    return {config.identity, config.inputs, config.schedule.max_epoch, images / std::max<Index>(1, config.batch)};
}

namespace detail {

/// Which folder stands under this name: device and number; zeros where there is none.
inline std::pair<std::uint64_t, std::uint64_t> identify(const std::string& folder) {
    struct stat status {};
    if (::stat(folder.c_str(), &status) != 0) return {};
    return {static_cast<std::uint64_t>(status.st_dev), static_cast<std::uint64_t>(status.st_ino)};
}

}  // namespace detail

/// What a run did.
struct TrainingResult {
    Progress progress;         ///< where it stands
    double wait_seconds = 0;   ///< of the time, spent waiting for the loader
    bool stopped = false;      ///< should_stop ended it
    bool interrupted = false;  ///< `interrupted` did; the run is to be continued
};

/// Epochs over `data`: shuffled, incomplete last batches dropped, the learning rate set by epoch or step, a checkpoint
/// after each epoch and a line of log.jsonl and log.csv for each step. Throws Error for a loss that is not finite,
/// naming the step (the last checkpoint stays), and when the output folder is removed under it. With several ranks
/// every rank sees the images and views that one process would, its slice of each batch; an unreadable image is then
/// replaced by a later one of the same rank, and the epoch keeps its length. A run that is not ended early is finished:
/// see Trainable.
class TrainingLoop {
public:
    /// `trained` must outlive this. Throws Error for settings that cannot be run.
    TrainingLoop(Trainable& trained, Dataset data, const TrainingLoopConfig& config)
        : trained_(trained), data_(std::move(data)), config_(config) {
        validate(config.schedule);
        require(config.batch >= 1, "batch size must be at least 1, found ", config.batch);
        require(config.batch >= config.ranks, "a batch of ", config.batch, " images cannot be divided among ",
                config.ranks, " processes");
        require(data_.size() >= config.batch, data_.name, ": ", data_.size(), " images are fewer than one batch of ",
                config.batch, "; lower the batch size");
    }

    /// All epochs, from the checkpoint where there is one.
    TrainingResult run() {
        TrainingResult result;
        Progress& at = result.progress;
        if (config_.resume && !config_.out.empty() && has_checkpoint(config_.out))
            trained_.load(read_checkpoint(config_.out, run_identity(config_, data_.size()), at));
        if (config_.meet) config_.meet(at.step);
        std::unique_ptr<StepLog> log;
        if (writes()) {
            make_directories(config_.out);
            folder_ = detail::identify(config_.out);
            log = std::make_unique<StepLog>(config_.out, at.step);
            if (!log->complete()) tell("the log lacks steps before the checkpoint; it goes on from there");
        }
        BatchLoader loader(data_, loader_options());
        const auto start = Clock::now();
        const double before = at.seconds;
        while (at.epoch < config_.schedule.max_epoch && !finished(at)) {
            epoch(loader, log.get(), result);
            at.seconds = before + seconds_since(start);
            if (log) save(*log, at);
            if (result.interrupted) return result;
            if (config_.on_epoch) config_.on_epoch(at);
            result.stopped = config_.should_stop && config_.should_stop(at);
            if (result.stopped) return result;
        }
        trained_.finish();
        return result;
    }

private:
    using Clock = std::chrono::steady_clock;

    static double seconds_since(Clock::time_point start) {
        return std::chrono::duration<double>(Clock::now() - start).count();
    }

    bool writes() const { return !config_.out.empty() && config_.rank == 0; }
    Slice slice() const { return slice_of(config_.batch, config_.rank, config_.ranks); }

    /// The positions of an epoch's images, of which this rank takes its slice of every whole batch.
    std::vector<Index> positions(std::uint32_t number) const {
        std::vector<Index> all =
            config_.shuffle ? shuffled(data_.size(), config_.seed, number) : in_order(data_.size());
        if (config_.ranks == 1) return all;
        std::vector<Index> mine;
        for (Index at = slice().first; at + config_.batch <= data_.size() + slice().first; at += config_.batch)
            mine.insert(mine.end(), all.begin() + at, all.begin() + at + slice().count);
        return mine;
    }

    /// Steps of the whole run, where every image can be read.
    Index steps_of_run() const {
        const Index steps = config_.schedule.max_epoch * (data_.size() / config_.batch);
        return config_.max_steps > 0 ? std::min(config_.max_steps, steps) : steps;
    }
    bool finished(const Progress& at) const { return config_.max_steps > 0 && at.step >= config_.max_steps; }

    LoaderOptions loader_options() const {
        LoaderOptions o;
        o.batch = slice().count;
        o.preprocessing = config_.preprocessing;
        o.further = config_.further;
        o.augmentation = config_.augmentation;
        o.seed = config_.view_seed.value_or(config_.seed);
        o.drop_last = data_.size() > config_.batch || config_.ranks > 1;  // a single batch may lack unreadable images
        o.threads = config_.loader_threads;
        o.warn = config_.warn;
        return o;
    }

    void epoch(BatchLoader& loader, StepLog* log, TrainingResult& result) {
        Progress& at = result.progress;
        const auto number = static_cast<std::uint32_t>(at.epoch);
        double rate = 0;  // of the step that is queued and not reported yet
        const std::vector<Index> order = positions(number);
        const std::uint32_t views = config_.fixed_views ? 0 : number;
        loader.start(order, views);
        const auto next = [&](Index done) {
            const Batch* batch = loader.next();
            if (batch || config_.ranks == 1 || done == 0) return batch;
            loader.start(order, views);  // every rank must make as many steps as the others
            return loader.next();
        };
        for (Index i = 0; i < at.step_of_epoch; ++i) next(i);  // what an interrupted run has trained on
        trained_.begin_epoch(at.epoch);
        const Index whole = data_.size() / config_.batch;
        Index steps = at.step_of_epoch, unreadable = 0;
        Index open = 0;  // steps that are queued and not reported yet: one at most
        while (!finished(at) && (config_.ranks == 1 || steps < whole)) {
            const auto asked = Clock::now();
            const Batch* batch = next(steps);
            unreadable = std::max(unreadable, loader.unreadable());
            result.wait_seconds += seconds_since(asked);
            if (!batch) break;
            const double next = learning_rate(config_.schedule, at.epoch, at.step, steps_of_run());
            trained_.begin_step(*batch, next);
            if (open > 0) report_step({at.step - 1, at.epoch, rate, trained_.end_step()}, at, log);
            rate = next;
            open = 1;
            ++at.step;
            ++steps;
            result.interrupted = !finished(at) && config_.interrupted && config_.interrupted();
            if (result.interrupted) break;
        }
        if (open > 0) report_step({at.step - 1, at.epoch, rate, trained_.end_step()}, at, log);
        at.step_of_epoch = result.interrupted ? steps : 0;
        if (result.interrupted) return;
        require(steps > 0, data_.name, ": no full batch of ", config_.batch, " readable images");
        trained_.end_epoch(at.epoch);
        at.unreadable = std::max(at.unreadable, unreadable);
        ++at.epoch;
    }

    /// A finished step: its loss is known once the step behind it is queued.
    void report_step(const StepRecord& record, Progress& at, StepLog* log) {
        const std::string kept = record.step == 0      ? ", before anything was learned: weights, prompts or images "
                                                         "make NaN or infinity"
                                 : config_.out.empty() ? ""
                                 : at.epoch > 0 ? ", the last good checkpoint is kept in " + config_.out + "/checkpoint"
                                                : ", before its first checkpoint; a lower learning rate may help";
        require(std::isfinite(record.loss), "step ", record.step, ": the loss is ", record.loss, "; training stopped",
                kept);
        if (record.step == 0) at.first_loss = record.loss;
        at.last_loss = record.loss;
        if (log) log->write(record);
        if (config_.on_step) config_.on_step(record);
    }

    void tell(const std::string& what) const {
        if (config_.note) config_.note(config_.out + ": " + what);
    }

    /// First the log, then the checkpoint that counts its steps.
    void save(StepLog& log, const Progress& at) {
        require(detail::identify(config_.out) == folder_, config_.out,
                ": the output folder was removed or replaced during the run; training stopped after epoch ", at.epoch);
        if (!log.save()) tell("the log was removed during the run; it goes on in a new file");
        TensorMap state;
        trained_.save(state);
        write_checkpoint(config_.out, std::move(state), run_identity(config_, data_.size()), at);
    }

    Trainable& trained_;
    Dataset data_;
    TrainingLoopConfig config_;
    std::pair<std::uint64_t, std::uint64_t> folder_;  ///< which one `out` is
};

}  // namespace promptkd
