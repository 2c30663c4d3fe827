// SPDX-License-Identifier: Apache-2.0
#include <promptkd/core/error.hpp>
#include <promptkd/core/thread_pool.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <set>
#include <string>
#include <thread>

namespace thread_pool_test {

namespace {

using namespace promptkd;

TEST_CASE("thread pool: every index once, by a worker of the pool") {
    for (const int threads : {1, 2, 5}) {
        ThreadPool pool(threads);
        CHECK(pool.size() == threads);
        for (const Index count : {Index{0}, Index{1}, Index{2}, Index{1000}}) {
            std::vector<std::atomic<int>> calls(static_cast<std::size_t>(count));
            std::atomic<bool> known_worker{true};
            pool.run(count, [&](Index i, int worker) {
                ++calls[static_cast<std::size_t>(i)];
                if (worker < 0 || worker >= threads) known_worker = false;
            });
            CHECK(known_worker);
            for (const auto& n : calls) CHECK(n == 1);
        }
    }
}

TEST_CASE("thread pool: no size given takes all cores, and at least the caller") {
    ThreadPool pool;
    CHECK(pool.size() >= 1);
    CHECK(ThreadPool(-3).size() == pool.size());
}

TEST_CASE("thread pool: one worker number is never used by two threads at once") {
    ThreadPool pool(4);
    std::vector<std::atomic<int>> inside(4);
    std::atomic<bool> alone{true};
    pool.run(400, [&](Index, int worker) {
        if (++inside[static_cast<std::size_t>(worker)] != 1) alone = false;
        std::this_thread::yield();
        --inside[static_cast<std::size_t>(worker)];
    });
    CHECK(alone);
}

TEST_CASE("thread pool: many short runs, the results of one visible to the next") {
    ThreadPool pool(3);
    std::vector<int> value(64, 0);
    for (int round = 0; round < 2000; ++round)
        pool.run(64, [&](Index i, int) { ++value[static_cast<std::size_t>(i)]; });
    for (const int v : value) CHECK(v == 2000);
}

TEST_CASE("thread pool: sleeping workers wake for the next run") {
    ThreadPool pool(2);
    std::atomic<int> calls{0};
    for (int round = 0; round < 3; ++round) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));  // longer than the workers spin
        pool.run(10, [&](Index, int) { ++calls; });
    }
    CHECK(calls == 30);
}

TEST_CASE("thread pool: nested runs stay on the calling thread") {
    ThreadPool pool(3);
    std::atomic<bool> same{true};
    std::atomic<int> calls{0};
    pool.run(6, [&](Index, int outer) {
        const auto thread = std::this_thread::get_id();
        pool.run(5, [&](Index, int inner) {
            if (inner != outer || std::this_thread::get_id() != thread) same = false;
            ++calls;
        });
    });
    CHECK(same);
    CHECK(calls == 30);
}

TEST_CASE("thread pool: an exception ends up at the caller, after all calls, and the pool goes on") {
    for (const int threads : {2, 4}) {
        ThreadPool pool(threads);
        std::atomic<int> calls{0};
        const auto failing = [&](Index i, int) {
            ++calls;
            require(i != 7, "call ", i, " failed");
        };
        CHECK_THROWS_WITH_AS(pool.run(20, failing), "call 7 failed", Error);
        CHECK(calls == 20);
        pool.run(20, [&](Index, int) { ++calls; });
        CHECK(calls == 40);
    }
}

TEST_CASE("thread pool: several threads may submit to one pool") {
    ThreadPool pool(3);
    std::atomic<int> calls{0};
    std::vector<std::thread> callers;
    for (int i = 0; i < 3; ++i)
        callers.emplace_back([&] {
            for (int round = 0; round < 50; ++round) pool.run(8, [&](Index, int) { ++calls; });
        });
    for (std::thread& caller : callers) caller.join();
    CHECK(calls == 3 * 50 * 8);
}

TEST_CASE("thread pool: wait returns once another thread says so") {
    std::atomic<bool> done{false};
    std::thread other([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        done = true;
    });
    ThreadPool::wait([&] { return done.load(); });
    CHECK(done);
    other.join();
}

}  // namespace

}  // namespace thread_pool_test
