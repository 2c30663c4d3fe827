// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace promptkd {

/// A fixed set of threads that runs index ranges without allocating. The calling thread works too. Workers that are
/// asleep join when they wake; the caller never waits for one that has not begun, so a busy machine costs no stall.
class ThreadPool {
public:
    /// `threads` includes the caller; 0 means all cores.
    explicit ThreadPool(int threads = 0) {
        if (threads <= 0) threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
        size_ = threads;
        workers_.reserve(static_cast<std::size_t>(threads - 1));
        for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
    }

    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    ~ThreadPool() {
        {
            std::lock_guard lock(mutex_);
            stopping_ = true;
            generation_.fetch_add(1);
        }
        wake_.notify_all();
        for (auto& worker : workers_) worker.join();
    }

    /// Number of threads, the caller included.
    int size() const { return size_; }

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

    /// Calls f(i, worker) once for every i in [0, count), worker in [0, size()). Returns when all calls have.
    /// The first exception thrown by a call is rethrown here. Nested calls run on the calling thread.
    template <class F>
    void run(Index count, const F& f) {
        if (count <= 0) return;
        if (count == 1 || size_ == 1 || current_worker() >= 0) {
            const int worker = std::max(0, current_worker());
            for (Index i = 0; i < count; ++i) f(i, worker);
            return;
        }
        std::lock_guard one_job(submit_);
        {
            std::lock_guard lock(mutex_);
            call_ = [](const void* context, Index i, int worker) { (*static_cast<const F*>(context))(i, worker); };
            context_ = &f;
            count_ = count;
            next_.store(0);
            open_ = true;
            generation_.fetch_add(1);
        }
        if (sleeping_.load() > 0) wake_.notify_all();
        current_worker() = 0;
        drain(0);
        current_worker() = -1;
        finish();
    }

private:
    static constexpr int spins = 4000;

    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }

    static int& current_worker() {
        thread_local int worker = -1;
        return worker;
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

    void finish() {
        {
            std::lock_guard lock(mutex_);
            open_ = false;
        }
        wait([&] { return active_.load(std::memory_order_acquire) == 0; });
        if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    }

    void work(int worker) {
        current_worker() = worker;
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

    int size_ = 1;
    std::vector<std::thread> workers_;
    std::mutex submit_, mutex_;
    std::condition_variable wake_;
    std::atomic<std::uint64_t> generation_{0};
    std::atomic<int> sleeping_{0}, active_{0};
    bool open_ = false, stopping_ = false;
    void (*call_)(const void*, Index, int) = nullptr;
    const void* context_ = nullptr;
    Index count_ = 0;
    std::atomic<Index> next_{0};
    std::exception_ptr error_;
};

}  // namespace promptkd
