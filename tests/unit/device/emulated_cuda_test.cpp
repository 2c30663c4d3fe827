// SPDX-License-Identifier: Apache-2.0
// The emulated CUDA device must notice what it is there for.
#include "support/devices.hpp"

#include <promptkd/device/async.hpp>

#include <doctest/doctest.h>

#include <sys/wait.h>
#include <csignal>
#include <set>

namespace emulated_cuda_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

static_assert(AsyncDevice<EmulatedCuda<float>> && GraphDevice<EmulatedCuda<float>> && !AsyncDevice<Cpu<float>>);
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
        for (Index i = 0; i < Lane::width; ++i) order[lane.index + i] = (*next)++;
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
    const auto run = [&](float* q, Index at) {
        device.rows(1, 1, WriteAt{q, at});
        device.synchronize();
    };
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
        if (n > 8) CHECK(!std::is_sorted(seen.begin(), seen.end()));
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

namespace {

struct AddOne {
    float* x;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        lane.store(x, lane.load(x) + 1);
    }
};

using Emulated = EmulatedCuda<float>;

}  // namespace

TEST_CASE("emulated CUDA: reading before the copy back was waited for is an error") {
    Emulated device;
    Buffer<Emulated, float> x(device, std::vector<float>{1});
    PinnedBuffer<Emulated, float> host(device, 1), other(device, 1);
    device.map(1, AddOne{x.data()});
    const std::size_t ticket = device.download_later(host.data(), x.data(), sizeof(float));
    device.map(1, AddOne{x.data()});
    const std::size_t later = device.download_later(other.data(), x.data(), sizeof(float));
    volatile float* p = host.data();
    CHECK(signal_of([&] { (void)p[0]; }) == SIGSEGV);  // nothing has run
    device.await(ticket);
    CHECK(*host.data() == 2);  // as it was at that place in the queue
    p = other.data();
    CHECK(signal_of([&] { (void)p[0]; }) == SIGSEGV);
    device.synchronize();
    CHECK(signal_of([&] { (void)p[0]; }) == SIGSEGV);  // waited for, but not through its ticket
    device.await(later);
    CHECK(*other.data() == 3);
}

TEST_CASE("emulated CUDA: pinned memory on its way to the device cannot be written") {
    Emulated device;
    Buffer<Emulated, float> x(device, 1);
    PinnedBuffer<Emulated, float> host(device, 1);
    *host.data() = 5;
    device.upload_aside(0, x.data(), host.data(), sizeof(float));
    volatile float* p = host.data();
    CHECK(signal_of([&] { p[0] = 6; }) == SIGSEGV);
    device.use_upload(0);
    device.await_upload(0);
    p[0] = 6;
    CHECK(x.to_host()[0] == 5);
    float ordinary = 0;
    CHECK_THROWS_WITH_AS(device.upload_aside(0, x.data(), &ordinary, 4), doctest::Contains("pinned"), Error);
    CHECK_THROWS_WITH_AS(device.download_later(&ordinary, x.data(), 4), doctest::Contains("pinned"), Error);
}

TEST_CASE("emulated CUDA: a copy beside the queue arrives too early or too late where the marks are missing") {
    bool early = false, late = false;
    for (int round = 0; round < 40; ++round) {
        Emulated device;
        Buffer<Emulated, float> x(device, std::vector<float>(7, 0)), y(device, 1);
        PinnedBuffer<Emulated, float> host(device, 1);
        for (int i = 0; i < round; ++i) device.map(7, AddOne{x.data()});  // draws other numbers in every round
        device.synchronize();
        // finished_with() is missing: the new value may overwrite what the queued copy should have read
        *host.data() = 1000;
        device.copy(y.data(), x.data(), sizeof(float));
        device.upload_aside(0, x.data(), host.data(), sizeof(float));
        device.use_upload(0);
        const float read = y.to_host()[0];
        CHECK((read == 1000 || read == static_cast<float>(round)));
        early = early || read == 1000;
        // use_upload() is missing: the copy may not have arrived
        device.await_upload(0);
        *host.data() = 2000;
        device.finished_with(0);
        device.upload_aside(0, x.data(), host.data(), sizeof(float));
        late = late || x.to_host()[0] == 1000;
        device.await_upload(0);
        CHECK(x.to_host()[0] == 2000);
    }
    CHECK(early);
    CHECK(late);
}

TEST_CASE("conveyor and later numbers: every value in its step, whatever the timing") {
    for (int round = 0; round < 10; ++round) {
        Emulated device;
        UploadQueue<Emulated, float> conveyor(device, 2);
        DeferredValues<Emulated> numbers(device);
        std::vector<float> host(2), got;
        Buffer<Emulated, float> sum(device, std::vector<float>{0});
        for (int step = 0; step < 6; ++step) {
            host = {static_cast<float>(step), 100};
            const float* x = conveyor.upload(host.data(), 1 + step % 2);
            host = {-1, -1};  // free at once
            device.copy(sum.data(), x, sizeof(float));
            device.map(1, AddOne{sum.data()});
            numbers.queue(sum.data());
            if (step > 0) got.push_back(*numbers.read());
        }
        got.push_back(*numbers.read());
        CHECK(got == std::vector<float>{1, 2, 3, 4, 5, 6});
        CHECK_THROWS_AS(numbers.read(), Error);
        CHECK(device.errors().empty());
    }
    Cpu<double> cpu(1);
    UploadQueue<Cpu<double>, double> conveyor(cpu, 2);
    DeferredValues<Cpu<double>> numbers(cpu);
    const float host[2] = {3, 4};
    const double* x = conveyor.upload(host, 2);
    numbers.queue(x);
    numbers.queue(x + 1);
    CHECK_THROWS_AS(numbers.queue(x), Error);
    CHECK(*numbers.read() == 3);
    CHECK(*numbers.read() == 4);
}

TEST_CASE("emulated CUDA: a capture runs nothing until it is replayed") {
    Emulated device;
    Buffer<Emulated, float> x(device, std::vector<float>{1});
    device.begin_capture();
    device.map(1, AddOne{x.data()});
    float host = 0;
    CHECK_THROWS_WITH_AS(device.synchronize(), doctest::Contains("inside a capture"), Error);
    CHECK_THROWS_WITH_AS(device.upload(x.data(), &host, 4), doctest::Contains("inside a capture"), Error);
    const Emulated::Graph graph = device.end_capture();
    CHECK(x.to_host()[0] == 1);
    device.replay(graph);
    device.replay(graph);
    CHECK(x.to_host()[0] == 3);
}
}  // namespace emulated_cuda_test
