// SPDX-License-Identifier: Apache-2.0
// The emulated CUDA device must notice what it is there for.
#include "support/devices.hpp"

#include <doctest/doctest.h>

#include <sys/wait.h>
#include <csignal>
#include <set>

namespace emulated_cuda_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

static_assert(Device<EmulatedCuda<float>> && Device<EmulatedCuda<float, bf16>> && Device<EmulatedCuda<double>>);

/// The signal that ends a child process running `f`, 0 when it returns.
template <class F>
int signal_of(const F& f) {
    const pid_t child = fork();
    if (child == 0) {
        std::signal(SIGSEGV, SIG_DFL);
        f();
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

struct Visit {
    int* order;
    int* next;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        order[lane.index] = (*next)++;
    }
};

struct WriteAt {
    float* p;
    Index at;
    template <class Team>
    PROMPTKD_HD void operator()(Team&, Index) const {
        p[at] = 1;
    }
};

}  // namespace

TEST_CASE("emulated CUDA: the host cannot touch device memory") {
    EmulatedCuda<float> device;
    Buffer<EmulatedCuda<float>, float> buffer(device, std::vector<float>{1, 2, 3});
    volatile float* p = buffer.data();
    CHECK(signal_of([&] { (void)p[0]; }) == SIGSEGV);
    CHECK(signal_of([&] { p[1] = 0; }) == SIGSEGV);
    CHECK(buffer.to_host() == std::vector<float>{1, 2, 3});
    CHECK(signal_of([&] { (void)p[0]; }) == SIGSEGV);
}

TEST_CASE("emulated CUDA: a kernel cannot use released memory or leave its pages") {
    EmulatedCuda<float> device;
    float* p = static_cast<float*>(device.allocate(64));
    float* other = static_cast<float*>(device.allocate(64));
    const auto run = [&](float* q, Index at) { device.rows(1, 1, WriteAt{q, at}), device.synchronize(); };
    CHECK(signal_of([&] { run(p, 512); }) == SIGSEGV);
    CHECK(signal_of([&] { run(p, -1024); }) == SIGSEGV);
    device.release(other);
    CHECK(signal_of([&] { run(other, 0); }) == SIGSEGV);
    CHECK(device.live_allocations() == 1);
    run(p, 16);  // behind the end, inside the page
    device.release(p);
    CHECK(device.errors() == std::vector<std::string>{"something wrote behind the end of an allocation"});
    CHECK(device.live_allocations() == 0);
}

TEST_CASE("emulated CUDA: memory starts as NaN") {
    EmulatedCuda<float> device;
    Buffer<EmulatedCuda<float>, float> buffer(device, 5);
    for (const float value : buffer.to_host()) CHECK(std::isnan(value));
}

TEST_CASE("emulated CUDA: a host buffer that changes before the copy ran is an error") {
    EmulatedCuda<float> device;
    Buffer<EmulatedCuda<float>, float> buffer(device, 1000);
    std::vector<float> host(1000, 1.0f);
    device.upload(buffer.data(), host.data(), 4000);
    host[999] = 2;
    CHECK_THROWS_WITH_AS(device.synchronize(), doctest::Contains("changed before the copy ran"), Error);
    device.upload(buffer.data(), host.data(), 4000);
    device.synchronize();
    host[999] = 3;
    CHECK(buffer.to_host()[999] == 2);
}

TEST_CASE("emulated CUDA: wrong addresses are refused") {
    EmulatedCuda<float> device;
    Buffer<EmulatedCuda<float>, float> buffer(device, 10);
    std::vector<float> host(10);
    CHECK_THROWS_WITH_AS(device.upload(host.data(), host.data(), 4), doctest::Contains("not inside one allocation"),
                         Error);
    CHECK_THROWS_WITH_AS(device.upload(buffer.data(), buffer.data(), 4), doctest::Contains("is device memory"), Error);
    CHECK_THROWS_WITH_AS(device.upload(buffer.data() + 1, host.data(), 40),
                         doctest::Contains("not inside one allocation"), Error);
    CHECK_THROWS_WITH_AS(device.zero(buffer.data(), 41), doctest::Contains("not inside one allocation"), Error);
#if !defined(__clang__)
    CHECK_THROWS_WITH_AS(device.rows(1, 1, WriteAt{host.data(), 0}), doctest::Contains("host address"), Error);
#endif
}

TEST_CASE("emulated CUDA: lanes are visited once each, out of order") {
    EmulatedCuda<float> device;
    for (const Index n : {1, 2, 7, 64, 1000}) {
        Buffer<EmulatedCuda<float>, int> order(device, n), next(device, std::vector<int>{0});
        device.map(n, Visit{order.data(), next.data()});
        const std::vector<int> seen = order.to_host();
        CHECK(std::set<int>(seen.begin(), seen.end()).size() == static_cast<std::size_t>(n));
        if (n > 2) CHECK(!std::is_sorted(seen.begin(), seen.end()));
    }
}

TEST_CASE("emulated CUDA: planning touches nothing") {
    EmulatedCuda<float> device;
    {
        PlanningScope<EmulatedCuda<float>> planning(device);
        device.zero(nullptr, 100);
        device.map(10, Visit{nullptr, nullptr});
        device.gemm(Gemm{});
    }
    CHECK(device.operations() == 0);
}

}  // namespace emulated_cuda_test
