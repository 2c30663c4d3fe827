// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/parallel/communicator.hpp>

#include <barrier>
#include <exception>
#include <thread>
#include <vector>

namespace promptkd::test {

/// What the ranks of one test share.
template <class T>
struct ThreadWorld {
    explicit ThreadWorld(int size) : values(static_cast<std::size_t>(size)), all(size) {}
    std::vector<std::vector<T>> values;
    std::vector<char> bytes;
    std::barrier<> all;
};

/// Ranks as threads of one process, each with a device of its own: sums in rank order.
template <class T>
class ThreadCommunicator {
public:
    ThreadCommunicator(ThreadWorld<T>& world, int rank) : world_(world), rank_(rank) {}
    int rank() const { return rank_; }
    int size() const { return static_cast<int>(world_.values.size()); }

    template <Device D>
    void all_reduce_sum(D& device, T* p, Index n) {
        std::vector<T>& mine = world_.values[static_cast<std::size_t>(rank_)];
        mine.resize(static_cast<std::size_t>(n));
        device.download(mine.data(), p, mine.size() * sizeof(T));
        world_.all.arrive_and_wait();
        std::vector<T> sum(mine.size(), T(0));
        for (const std::vector<T>& part : world_.values)
            for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += part.at(i);
        world_.all.arrive_and_wait();
        device.upload(p, sum.data(), sum.size() * sizeof(T));
        device.synchronize();
        ++reductions;
    }
    template <Device D>
    void broadcast(D& device, void* p, std::size_t bytes, int root) {
        if (rank_ == root) {
            world_.bytes.resize(bytes);
            device.download(world_.bytes.data(), p, bytes);
        }
        world_.all.arrive_and_wait();
        if (rank_ != root) {
            device.upload(p, world_.bytes.data(), bytes);
            device.synchronize();
        }
        world_.all.arrive_and_wait();
    }
    template <Device D>
    void barrier(D& device) {
        device.synchronize();
        world_.all.arrive_and_wait();
    }

    int reductions = 0;

private:
    ThreadWorld<T>& world_;
    int rank_;
};

/// Runs f(ranks, rank) in `size` threads; rethrows the first error. An error in one rank alone would leave the others
/// waiting: f reports what it finds, checks are made after.
template <class D, class F>
void as_ranks(int size, const F& f) {
    using T = typename D::Scalar;
    ThreadWorld<T> world(size);
    std::vector<std::exception_ptr> errors(static_cast<std::size_t>(size));
    std::vector<std::thread> threads;
    for (int rank = 0; rank < size; ++rank)
        threads.emplace_back([&, rank] {
            try {
                ThreadCommunicator<T> communicator(world, rank);
                f(Ranks<D>(communicator), rank);
            } catch (...) {
                errors[static_cast<std::size_t>(rank)] = std::current_exception();
                world.all.arrive_and_drop();
            }
        });
    for (std::thread& thread : threads) thread.join();
    for (const std::exception_ptr& error : errors)
        if (error) std::rethrow_exception(error);
}

}  // namespace promptkd::test
