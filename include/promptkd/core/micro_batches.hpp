// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace promptkd {

/// There is no room for another question: too many wait, they wait for too long, or nobody answers any more.
class OverloadError : public Error {
public:
    using Error::Error;
};

/// How questions wait for their answers in MicroBatches.
struct MicroBatchOptions {
    std::size_t batch = 8;                      ///< questions that are answered together, at most
    std::size_t waiting = 64;                   ///< questions that wait at a time, at most; more are refused
    std::chrono::milliseconds patience{10000};  ///< how long a question waits for its answer
    std::chrono::microseconds linger{0};        ///< how long a batch that has room waits for more
};

/// Questions of any number of threads, answered together by one thread: whatever waits when that thread is free, up to
/// options.batch, is one batch. Where nobody else asks, a question is a batch of its own and does not wait.
template <class Question, class Answer>
class MicroBatches {
public:
    /// Answers a batch, one answer for each question.
    using Compute = std::function<std::vector<Answer>(std::span<const Question>)>;

    /// Throws Error for a batch or a queue of none.
    explicit MicroBatches(const MicroBatchOptions& options) : options_(options) {
        require(options.batch > 0 && options.waiting > 0, "a batch and a queue hold one question at least");
    }
    MicroBatches(const MicroBatches&) = delete;
    MicroBatches& operator=(const MicroBatches&) = delete;

    /// The answer to `question`, from any thread. Throws OverloadError where there is no room, no time, or after
    /// serve() has ended; what computing the answer throws.
    Answer ask(Question question) {
        const auto asked = std::make_shared<Asked>(std::move(question));
        push(asked);
        std::unique_lock lock(mutex_);
        const auto answered = [&] { return asked->answered; };
        if (!asked->done.wait_for(lock, options_.patience, answered)) {
            if (!asked->taken) {
                std::erase(queue_, asked);  // which makes room
                throw OverloadError(concat("no answer within ", options_.patience.count(), " ms"));
            }
            asked->done.wait(lock, answered);  // it is being computed
        }
        lock.unlock();
        if (asked->error) std::rethrow_exception(std::move(asked->error));
        return std::move(*asked->answer);
    }

    /// Answers until stop() is true, which is asked several times a second; then what waits still, and no more.
    void serve(const Compute& compute, const std::function<bool()>& stop) {
        while (!stop()) {
            const Batch batch = next_batch();
            if (!batch.empty()) answer_batch(batch, compute);
        }
        close();
        for (Batch batch = next_batch(); !batch.empty(); batch = next_batch()) answer_batch(batch, compute);
    }

    /// No further question is taken.
    void close() {
        const std::lock_guard lock(mutex_);
        closed_ = true;
    }

    /// Whether questions are taken.
    bool is_open() const {
        const std::lock_guard lock(mutex_);
        return !closed_;
    }

    /// Questions that wait.
    std::size_t waiting() const {
        const std::lock_guard lock(mutex_);
        return queue_.size();
    }

private:
    /// A question, which waits, is taken by the thread that answers, and then has an answer or an error. No promise:
    /// the thread that answers keeps no part of an error, which a std::promise would.
    struct Asked {
        explicit Asked(Question q) : question(std::move(q)) {}

        Question question;
        std::optional<Answer> answer;
        std::exception_ptr error;
        bool taken = false, answered = false;  // read and written under mutex_
        std::condition_variable done;
    };
    using Batch = std::vector<std::shared_ptr<Asked>>;

    void push(const std::shared_ptr<Asked>& asked) {
        {
            const std::lock_guard lock(mutex_);
            if (closed_) throw OverloadError("no further questions are answered");
            if (queue_.size() >= options_.waiting)
                throw OverloadError(concat(queue_.size(), " questions wait already, as many as may"));
            queue_.push_back(asked);
        }
        asked_.notify_one();
    }

    /// What waits, after a moment perhaps; empty: nothing has come.
    Batch next_batch() {
        constexpr std::chrono::milliseconds moment{50};
        std::unique_lock lock(mutex_);
        if (!closed_) {
            asked_.wait_for(lock, moment, [&] { return !queue_.empty(); });
            if (options_.linger.count() > 0 && !queue_.empty())
                asked_.wait_for(lock, options_.linger, [&] { return queue_.size() >= options_.batch; });
        }
        Batch batch;
        while (!queue_.empty() && batch.size() < options_.batch) {
            queue_.front()->taken = true;
            batch.push_back(std::move(queue_.front()));
            queue_.pop_front();
        }
        return batch;
    }

    /// Where a batch fails, its questions are asked one by one: each gets its own answer or error.
    void answer_batch(const Batch& batch, const Compute& compute) {
        if (batch.size() > 1 && answer_together(batch, compute)) return;
        for (const auto& asked : batch) {
            std::optional<Answer> answer;
            std::exception_ptr error;
            try {
                answer = std::move(compute_all(std::span(&asked->question, 1), compute).front());
            } catch (...) {
                error = std::current_exception();
            }
            deliver(*asked, std::move(answer), std::move(error));
        }
    }

    bool answer_together(const Batch& batch, const Compute& compute) {
        std::vector<Answer> answers;
        try {
            std::vector<Question> questions;
            for (const auto& asked : batch) questions.push_back(asked->question);
            answers = compute_all(questions, compute);
        } catch (...) {
            return false;
        }
        for (std::size_t i = 0; i < batch.size(); ++i) deliver(*batch[i], std::move(answers[i]), nullptr);
        return true;
    }

    void deliver(Asked& asked, std::optional<Answer> answer, std::exception_ptr error) {
        {
            const std::lock_guard lock(mutex_);
            asked.answer = std::move(answer);
            asked.error = std::move(error);
            asked.answered = true;
        }
        asked.done.notify_one();
    }

    static std::vector<Answer> compute_all(std::span<const Question> questions, const Compute& compute) {
        std::vector<Answer> answers = compute(questions);
        require(answers.size() == questions.size(), questions.size(), " questions got ", answers.size(), " answers");
        return answers;
    }

    MicroBatchOptions options_;
    mutable std::mutex mutex_;
    std::condition_variable asked_;
    std::deque<std::shared_ptr<Asked>> queue_;
    bool closed_ = false;
};

}  // namespace promptkd
