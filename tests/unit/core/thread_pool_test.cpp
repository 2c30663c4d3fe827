// SPDX-License-Identifier: Apache-2.0
#include "support/sanitizer.hpp"

#include <promptkd/core/error.hpp>
#include <promptkd/core/thread_pool.hpp>

#include <doctest/doctest.h>

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

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

TEST_CASE("thread pool: a run inside a call of another, larger pool has that pool's own workers") {
    ThreadPool outer(4);
    ThreadPool inner(2);
    std::atomic<bool> known_worker{true};
    std::atomic<int> calls{0};
    std::vector<std::atomic<int>> inside(2);
    outer.run(40, [&](Index, int) {
        inner.run(5, [&](Index, int worker) {
            if (worker < 0 || worker >= 2 || ++inside[static_cast<std::size_t>(worker)] != 1) known_worker = false;
            ++calls;
            --inside[static_cast<std::size_t>(worker)];
        });
    });
    CHECK(known_worker);
    CHECK(calls == 200);
}

TEST_CASE("thread pool: who holds it alone may run in it, others wait") {
    ThreadPool pool(2);
    std::atomic<bool> held{false};
    std::atomic<bool> disturbed{false};
    std::vector<std::thread> callers;
    for (int i = 0; i < 3; ++i)
        callers.emplace_back([&] {
            for (int round = 0; round < 50; ++round) {
                const ThreadPool::Alone alone(pool);
                if (held.exchange(true)) disturbed = true;
                pool.run(3, [](Index, int) { std::this_thread::yield(); });
                held = false;
            }
        });
    for (std::thread& caller : callers) caller.join();
    CHECK_FALSE(disturbed);
}

#if defined(__GLIBC__) && !defined(PROMPTKD_ADDRESS_SANITIZER) && !defined(PROMPTKD_THREAD_SANITIZER)
TEST_CASE("thread pool: threads that the system does not give are an error") {
    pthread_attr_t before, huge;
    REQUIRE(::pthread_getattr_default_np(&before) == 0);
    REQUIRE(::pthread_attr_init(&huge) == 0);
    REQUIRE(::pthread_attr_setstacksize(&huge, std::size_t{3} << 45) == 0);  // 96 TiB: two do not fit
    REQUIRE(::pthread_setattr_default_np(&huge) == 0);
    std::string said = "no error";
    try {
        ThreadPool pool(8);
    } catch (const ResourceError& error) {
        said = error.what();
    }
    REQUIRE(::pthread_setattr_default_np(&before) == 0);
    CHECK(said.rfind("8 threads were asked for, but after ", 0) == 0);
    CHECK(ThreadPool(8).size() == 8);
}
#endif

#if !defined(PROMPTKD_THREAD_SANITIZER)  // which allows no threads in the child of a process with threads
TEST_CASE("thread pool: the child of a fork has threads of its own") {
    for (const int threads : {1, 3}) {
        ThreadPool pool(threads);
        std::atomic<int> calls{0};
        const auto count = [&](Index, int) { ++calls; };
        pool.run(100, count);
        const pid_t child = ::fork();
        if (child == 0) {
            ::alarm(20);  // a child that hangs is a failure, not a test without an end
            {
                ThreadPool own(2);
                own.run(50, count);
                pool.run(100, count);
                pool.run(100, count);
            }
            ::_exit(calls == 350 ? 0 : 1);
        }
        int status = 0;
        REQUIRE(::waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status));
        CHECK(WEXITSTATUS(status) == 0);
        pool.run(100, count);
        CHECK(calls == 200);
    }
}

TEST_CASE("thread pool: the child of a fork may leave without a run") {
    auto pool = std::make_unique<ThreadPool>(3);
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(20);
        pool.reset();
        ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
}
#endif

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
