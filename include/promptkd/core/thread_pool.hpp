// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace promptkd {

namespace detail {

/// How many times this process or one that it came from was the child of a fork.
inline unsigned forks() {
    static std::atomic<unsigned> count{0};
    static const int registered = ::pthread_atfork(nullptr, nullptr, [] { count.fetch_add(1); });
    static_cast<void>(registered);
    return count.load(std::memory_order_relaxed);
}

/// The threads of a ThreadPool and what they share. They exist in the process that made them alone.
class ThreadTeam {
public:
    /// The team that the calling thread is at work for, and its number there; none: null.
    struct Place {
        const ThreadTeam* team = nullptr;
        int worker = 0;
    };
    static Place& place() {
        thread_local Place here;
        return here;
    }

    /// The calling thread is at work for `team` until this ends.
    class AtWork {
    public:
        explicit AtWork(const ThreadTeam* team) : before_(place()) { place() = {team, 0}; }
        ~AtWork() { place() = before_; }
        AtWork(const AtWork&) = delete;
        AtWork& operator=(const AtWork&) = delete;

    private:
        Place before_;
    };

    /// Throws ResourceError when a thread cannot be created.
    explicit ThreadTeam(int threads) {
        try {
            workers_.reserve(static_cast<std::size_t>(threads - 1));
            for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
        } catch (const std::exception& error) {
            const std::size_t made = workers_.size() + 1;
            stop();
            throw ResourceError(concat(threads, " threads were asked for, but after ", made,
                                       " the system gives no more (", error.what(), "); ask for fewer"));
        }
    }
    ThreadTeam(const ThreadTeam&) = delete;
    ThreadTeam& operator=(const ThreadTeam&) = delete;
    ~ThreadTeam() { stop(); }

    /// For who submits work.
    std::recursive_mutex& submit() { return submit_; }

    /// Waits for another thread, a few microseconds as a rule: spins until done() and soon lets others run, since the
    /// one that is waited for may have lost its core.
    template <class F>
    static void wait(const F& done) {
        for (int i = 0; !done(); ++i) {
            if (i < spins)
                pause();
            else
                std::this_thread::yield();
        }
    }

    /// call(context, i, worker) for every i in [0, count), by all threads. The caller holds submit().
    void run(void (*call)(const void*, Index, int), const void* context, Index count) {
        {
            std::lock_guard lock(mutex_);
            call_ = call;
            context_ = context;
            count_ = count;
            next_.store(0);
            open_ = true;
            generation_.fetch_add(1);
        }
        if (sleeping_.load() > 0) wake_.notify_all();
        {
            const AtWork here(this);
            drain(0);
        }
        {
            std::lock_guard lock(mutex_);
            open_ = false;
        }
        wait([&] { return active_.load(std::memory_order_acquire) == 0; });
        if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    }

private:
    static constexpr int spins = 4000;

    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }

    void drain(int worker) {
        for (Index i; (i = next_.fetch_add(1)) < count_;) {
            try {
                call_(context_, i, worker);
            } catch (...) {
                std::lock_guard lock(mutex_);
                if (!error_) error_ = std::current_exception();
            }
        }
    }

    void stop() {
        {
            std::lock_guard lock(mutex_);
            stopping_ = true;
            generation_.fetch_add(1);
        }
        wake_.notify_all();
        for (std::thread& worker : workers_) worker.join();
    }

    void work(int worker) {
        place() = {this, worker};
        std::uint64_t seen = 0;
        for (;;) {
            for (int i = 0; i < spins && generation_.load(std::memory_order_relaxed) == seen; ++i) pause();
            {
                std::unique_lock lock(mutex_);
                if (generation_.load() == seen) {
                    sleeping_.fetch_add(1);
                    wake_.wait(lock, [&] { return generation_.load() != seen; });
                    sleeping_.fetch_sub(1);
                }
                seen = generation_.load();
                if (stopping_) return;
                if (!open_) continue;
                active_.fetch_add(1);
            }
            drain(worker);
            active_.fetch_sub(1, std::memory_order_release);
        }
    }

    std::recursive_mutex submit_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<std::uint64_t> generation_{0};
    std::atomic<int> sleeping_{0}, active_{0};
    bool open_ = false, stopping_ = false;
    void (*call_)(const void*, Index, int) = nullptr;
    const void* context_ = nullptr;
    Index count_ = 0;
    std::atomic<Index> next_{0};
    std::exception_ptr error_;
    std::vector<std::thread> workers_;
};

}  // namespace detail

/// A fixed set of threads that runs index ranges without allocating. The calling thread works too. Workers that are
/// asleep join when they wake; the caller never waits for one that has not begun, so a busy machine costs no stall.
///
/// Several threads may submit work: one waits for the other. In the child of a fork() the first run makes new threads;
/// no other thread may be at work in the pool while the process forks.
class ThreadPool {
    using Team = detail::ThreadTeam;

public:
    /// `threads` includes the caller; 0 means all cores. Throws ResourceError when they cannot be created.
    explicit ThreadPool(int threads = 0)
        : size_(threads > 0 ? threads : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()))),
          forks_(detail::forks()),
          team_(std::make_unique<Team>(size_)) {}

    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    ~ThreadPool() {
        if (forks_.load() != detail::forks()) static_cast<void>(team_.release());  // its threads are the parent's
    }

    /// Number of threads, the caller included.
    int size() const { return size_; }

    /// See ThreadTeam: waits for another thread of a run.
    template <class F>
    static void wait(const F& done) {
        Team::wait(done);
    }

    /// While this lives, other threads wait before they run anything in the pool: for scratch memory that belongs to
    /// the pool's owner. Inside a call of run() it does nothing, since the pool is taken already.
    class Alone {
    public:
        /// Of `pool`, as soon as it is free.
        explicit Alone(ThreadPool& pool) {
            pool.revive();
            if (Team::place().team != pool.team_.get()) lock_ = std::unique_lock(pool.team_->submit());
        }

    private:
        std::unique_lock<std::recursive_mutex> lock_;
    };

    /// Calls f(i, worker) once for every i in [0, count), worker in [0, size()); no two calls at a time have one
    /// worker. Returns when all calls have. The first exception thrown by a call is rethrown here. Runs inside a call
    /// of this or another pool stay on their thread.
    template <class F>
    void run(Index count, const F& f) {
        if (count <= 0) return;
        const Alone alone(*this);
        const Team::Place place = Team::place();
        if (place.team == team_.get()) {
            for (Index i = 0; i < count; ++i) f(i, place.worker);
        } else if (count == 1 || size_ == 1 || place.team != nullptr) {
            const Team::AtWork here(team_.get());
            for (Index i = 0; i < count; ++i) f(i, 0);
        } else {
            team_->run([](const void* context, Index i, int worker) { (*static_cast<const F*>(context))(i, worker); },
                       &f, count);
        }
    }

private:
    static constexpr unsigned reviving = ~0u;

    /// In the child of a fork: threads of its own in the place of those that stayed behind, with locks that nobody
    /// holds.
    void revive() {
        const unsigned now = detail::forks();
        unsigned seen = forks_.load(std::memory_order_acquire);
        if (seen == now) return;
        if (seen == reviving || !forks_.compare_exchange_strong(seen, reviving)) {
            wait([&] { return forks_.load(std::memory_order_acquire) == now; });
            return;
        }
        static_cast<void>(team_.release());
        try {
            team_ = std::make_unique<Team>(size_);
        } catch (...) {
            forks_.store(seen, std::memory_order_release);
            throw;
        }
        forks_.store(now, std::memory_order_release);
    }

    int size_ = 1;
    std::atomic<unsigned> forks_;
    std::unique_ptr<Team> team_;
};

}  // namespace promptkd
