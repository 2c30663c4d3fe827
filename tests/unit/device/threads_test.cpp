// SPDX-License-Identifier: Apache-2.0
#include "support/devices.hpp"
#include "support/temporary_folder.hpp"

#include <promptkd/device/cpu.hpp>
#include <promptkd/device/memory.hpp>
#include <promptkd/op/elementwise.hpp>
#include <promptkd/op/norm.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace device_threads_test {

namespace {

using namespace promptkd;
using namespace promptkd::test;

constexpr Index side = 160;  // a product of many tasks

/// a·bᵀ (side, side), its rows scaled to unit length, `rounds` times with one answer.
template <class D>
std::vector<float> product(D& device, const std::vector<float>& a, const std::vector<float>& b, int rounds) {
    const Buffer<D, float> x(device, a);
    const Buffer<D, float> y(device, b);
    Buffer<D, float> c(device, side * side);
    for (int i = 0; i < rounds; ++i) {
        device.zero(c.data(), static_cast<std::size_t>(side * side) * sizeof(float));
        const Matrix<const float> left = x.matrix(side, side);
        const Matrix<const float> right = y.matrix(side, side);
        device.gemm(matrix_product(operand(left), transposed(right), side, c.matrix(side, side)));
        normalize_forward(device, c.matrix(side, side), c.matrix(side, side));
    }
    return c.to_host();
}

TEST_CASE("threads: operations of several threads on one Cpu do not disturb each other") {
    for (const int threads : {1, 3}) {
        Cpu<float> device(threads);
        std::vector<std::vector<float>> in, want, got(4);
        for (unsigned i = 0; i < 4; ++i) in.push_back(as<float>(numbers(side * side, 60 + i)));
        for (std::size_t i = 0; i < 4; ++i) want.push_back(product(device, in[i], in[(i + 1) % 4], 1));
        std::vector<std::thread> callers;
        for (std::size_t i = 0; i < 4; ++i)
            callers.emplace_back([&, i] { got[i] = product(device, in[i], in[(i + 1) % 4], 20); });
        for (std::thread& caller : callers) caller.join();
        CHECK(got == want);
    }
}

TEST_CASE("threads: a thread that plans does not stop another one's work") {
    Cpu<float> device(2);
    const std::vector<float> a = as<float>(numbers(side * side, 71));
    const std::vector<float> want = product(device, a, a, 1);
    std::atomic<bool> done{false};
    std::atomic<bool> planned{true};
    std::thread planner([&] {
        while (!done) {
            Arena<Cpu<float>> arena(device);
            arena.plan([&] {
                if (!device.is_planning()) planned = false;
                device.zero(arena.keep<float>(1000), 4000);
            });
            if (device.is_planning()) planned = false;
        }
    });
    for (int i = 0; i < 20; ++i) CHECK(product(device, a, a, 1) == want);
    done = true;
    planner.join();
    CHECK(planned);
}

TEST_CASE_TEMPLATE("threads: planning belongs to a device, a thread and a scope", D, Cpu<float>, EmulatedCuda<float>) {
    D device = make_device<D>();
    D other = make_device<D>();
    bool elsewhere = true;
    {
        const PlanningScope<D> outer(device);
        CHECK(device.is_planning());
        CHECK_FALSE(other.is_planning());
        std::thread([&] { elsewhere = device.is_planning(); }).join();
        {
            const PlanningScope<D> inner(device);
            const PlanningScope<D> another(other);
            CHECK(other.is_planning());
        }
        CHECK(device.is_planning());
        CHECK_FALSE(other.is_planning());
    }
    CHECK_FALSE(device.is_planning());
    CHECK_FALSE(elsewhere);
}

TEST_CASE("threads: a plan inside a plan is an error, and so are too many") {
    Cpu<float> device(1);
    Arena<Cpu<float>> outer(device);
    Arena<Cpu<float>> inner(device);
    CHECK(error_of([&] { outer.plan([&] { inner.plan([] {}); }); }) == "Arena::bind: leave planning mode first");
    CHECK_FALSE(device.is_planning());
    PlanningFlag flag;
    for (int i = 0; i < 16; ++i) flag.set(true);
    CHECK(error_of([&] { flag.set(true); }) == "planning: more than 16 plans inside each other");
    for (int i = 0; i < 16; ++i) flag.set(false);
    flag.set(false);  // nothing is left to end
    CHECK_FALSE(flag.is_on());
}

TEST_CASE("memory: sizes that are none are errors") {
    using D = Cpu<float>;
    D device(1);
    CHECK(error_of([&] { Buffer<D, float>(device, -1); }) == "memory for -1 elements was asked for");
    CHECK(error_of([&] { Buffer<D, float>(device, Index{1} << 62); }) ==
          "memory for 4611686018427387904 elements was asked for");
    Arena<D> arena(device);
    CHECK(error_of([&] { arena.plan([&] { arena.keep<float>(-5); }); }) == "memory for -5 elements was asked for");
}

}  // namespace

}  // namespace device_threads_test
