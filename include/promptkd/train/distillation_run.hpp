// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/optim/schedule.hpp>
#include <promptkd/train/checkpoint.hpp>
#include <promptkd/train/distiller.hpp>
#include <promptkd/train/evaluate.hpp>
#include <promptkd/train/step_log.hpp>

#include <chrono>

namespace promptkd {

/// How a whole distillation runs over a data set.
struct DistillationRunConfig {
    Index batch = 8;
    Index max_steps = 0;  ///< stop after so many steps; 0: after schedule.max_epoch epochs
    ScheduleConfig schedule;
    Augmentation augmentation = Augmentation::random_resized_crop;
    bool shuffle = true;  ///< otherwise images in the order of the data set
    std::uint64_t seed = 1;
    int loader_threads = 2;
    std::string out;        ///< output folder; empty: keep no log and no checkpoint
    bool resume = false;    ///< continue from the checkpoint in `out`, where there is one
    nlohmann::json identity = nlohmann::json::object();  ///< everything the result depends on; a checkpoint of another is refused
    std::function<void(const StepRecord&)> on_step;
    std::function<void(const Progress&)> on_epoch;  ///< after each epoch, its checkpoint written
    std::function<void(const std::string&)> warn;
};

/// What a run did.
struct DistillationRunResult {
    Progress progress;
    double wait_seconds = 0;  ///< of the time, spent waiting for the loader
};

/// Epochs over `data` (labels are never looked at): shuffled, incomplete last batches dropped, the learning rate set by epoch,
/// a checkpoint after each. Throws Error for a loss that is not finite, naming the step; the last checkpoint stays.
template <Device D>
class DistillationRun {
public:
    DistillationRun(Distiller<D>& distiller, Student<D>& student, Dataset data, const DistillationRunConfig& config)
        : distiller_(distiller), student_(student), data_(std::move(data)), config_(config),
          feed_(student.device(), config.batch, student.model().vision().resolution()) {
        validate(config.schedule);
        require(config.batch >= 1 && config.batch <= student.max_batch(), "batch size ", config.batch, " is not between 1 and the planned ", student.max_batch());
        require(data_.size() >= config.batch, data_.name, ": ", data_.size(), " images are fewer than one batch of ", config.batch,
                "; lower the batch size");
    }

    DistillationRunResult run() {
        DistillationRunResult result;
        Progress& at = result.progress;
        if (config_.resume && !config_.out.empty() && has_checkpoint(config_.out)) restore(at);
        std::unique_ptr<StepLog> log;
        if (!config_.out.empty()) {
            make_directories(config_.out);
            log = std::make_unique<StepLog>(config_.out + "/log.jsonl", at.step);
        }
        LoaderOptions loading;
        loading.batch = config_.batch, loading.resolution = student_.model().vision().resolution(), loading.augmentation = config_.augmentation;
        loading.seed = config_.seed, loading.drop_last = true, loading.threads = config_.loader_threads, loading.warn = config_.warn;
        BatchLoader loader(data_, loading);
        const auto start = std::chrono::steady_clock::now();
        const double before = at.seconds;
        while (at.epoch < config_.schedule.max_epoch && !finished(at)) {
            epoch(loader, log.get(), result);
            at.seconds = before + std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
            if (log) log->flush();
            if (!config_.out.empty()) save(at);
            if (config_.on_epoch) config_.on_epoch(at);
        }
        return result;
    }

private:
    bool finished(const Progress& at) const { return config_.max_steps > 0 && at.step >= config_.max_steps; }

    void epoch(BatchLoader& loader, StepLog* log, DistillationRunResult& result) {
        using Clock = std::chrono::steady_clock;
        Progress& at = result.progress;
        const auto number = static_cast<std::uint32_t>(at.epoch);
        const double rate = learning_rate(config_.schedule, at.epoch);
        loader.start(config_.shuffle ? shuffled(data_.size(), config_.seed, number) : in_order(data_.size()), number);
        Index steps = 0;
        while (!finished(at)) {
            const auto asked = Clock::now();
            const Batch* batch = loader.next();
            result.wait_seconds += std::chrono::duration<double>(Clock::now() - asked).count();
            if (!batch) break;
            distiller_.step(feed_.upload(*batch), batch->size, rate);
            const StepRecord record{at.step, at.epoch, rate, distiller_.loss()};
            require(std::isfinite(record.loss), "step ", at.step, ": the loss is ", record.loss, "; training stopped",
                    config_.out.empty() ? "" : ", the last good checkpoint is kept in " + config_.out + "/checkpoint");
            if (at.step == 0) at.first_loss = record.loss;
            at.last_loss = record.loss;
            if (log) log->write(record);
            if (config_.on_step) config_.on_step(record);
            ++at.step, ++steps;
        }
        require(steps > 0, data_.name, ": no full batch of ", config_.batch, " readable images");
        at.unreadable = std::max(at.unreadable, loader.unreadable());
        ++at.epoch;
    }

    void save(const Progress& at) {
        TensorMap state;
        student_.save(state);
        distiller_.optimizer().save(state);
        write_checkpoint(config_.out, std::move(state), config_.identity, at);
    }

    void restore(Progress& at) {
        const TensorMap state = read_checkpoint(config_.out, config_.identity, at);
        student_.load(state);
        distiller_.optimizer().load(state);
    }

    Distiller<D>& distiller_;
    Student<D>& student_;
    Dataset data_;
    DistillationRunConfig config_;
    ImageFeed<D> feed_;
};

}  // namespace promptkd
