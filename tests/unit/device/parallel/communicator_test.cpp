// SPDX-License-Identifier: Apache-2.0
#include "support/devices.hpp"
#include "support/thread_ranks.hpp"

#include <doctest/doctest.h>

namespace promptkd::test::communicator_test {

static_assert(Communicator<SingleProcess, Cpu<float>>);
static_assert(Communicator<ThreadCommunicator<float>, EmulatedCuda<float>>);

TEST_CASE("slices cover everything once and differ by at most one") {
    for (const Index n : {0, 1, 7, 32, 1000003})
        for (const int size : {1, 2, 3, 7}) {
            Index at = 0;
            for (int rank = 0; rank < size; ++rank) {
                const Slice s = slice_of(n, rank, size);
                CHECK(s.first == at);
                CHECK(s.count >= n / size);
                CHECK(s.count <= n / size + 1);
                at += s.count;
            }
            CHECK(at == n);
        }
}

TEST_CASE_TEMPLATE("collectives", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    constexpr int size = 3;
    std::vector<std::vector<T>> sums(size), copies(size);
    bool planned_nothing = true;
    as_ranks<D>(size, [&](const Ranks<D>& ranks, int rank) {
        D device = make_device<D>();
        const auto at = static_cast<std::size_t>(rank);
        Tensor<D> x(device, {1.0 + rank, 10.0 * rank}), y(device, {100.0 + rank});
        {
            PlanningScope<D> planning(device);  // every rank plans at its own time
            if (rank == 1) ranks.all_reduce_sum(device, nullptr, 5);
            planned_nothing = planned_nothing && ranks.size() == size;
        }
        ranks.all_reduce_sum(device, x.data(), 2);
        ranks.broadcast(device, y.data(), sizeof(T), 2);
        ranks.barrier(device);
        sums[at] = x.to_host();
        copies[at] = y.to_host();
    });
    for (int rank = 0; rank < size; ++rank) {
        CHECK(sums[static_cast<std::size_t>(rank)] == std::vector<T>{6, 30});
        CHECK(copies[static_cast<std::size_t>(rank)] == std::vector<T>{102});
    }
    CHECK(planned_nothing);
}

TEST_CASE("one process needs no communicator") {
    Cpu<float> device(1);
    SingleProcess single;
    const Ranks<Cpu<float>> none, one(single);
    float value = 3;
    for (const auto& ranks : {none, one}) {
        CHECK(ranks.alone());
        CHECK(ranks.is_root());
        ranks.all_reduce_sum(device, &value, 1);
        ranks.broadcast(device, &value, sizeof value);
        ranks.barrier(device);
    }
    CHECK(value == 3);
    const DataParallel<Cpu<float>> parallel;
    CHECK(parallel.all_rows(5) == 5);
    CHECK(parallel.share(5) == 1);
}

}  // namespace promptkd::test::communicator_test
