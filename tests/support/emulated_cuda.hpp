// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "column_major.hpp"
#include "protected_memory.hpp"

#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

namespace promptkd::test {

/// The numbers 0 … n−1 in a scattered order, i → (first + i·step) mod n, without storage.
class ScatteredOrder {
public:
    template <class Random>
    ScatteredOrder(Index n, Random& random) : n_(n) {
        if (n <= 1) return;
        at_ = static_cast<Index>(random() % static_cast<std::uint64_t>(n));
        do step_ = 1 + static_cast<Index>(random() % static_cast<std::uint64_t>(n));
        while (std::gcd(step_, n) != 1);
    }
    Index next() {
        const Index i = at_;
        at_ = (at_ + step_) % std::max<Index>(1, n_);
        return i;
    }

private:
    Index n_, at_ = 0, step_ = 1;
};

/// A block of virtual threads as a Team: lanes in scattered order; reductions as a block makes them, each thread its
/// strided share, then a tree.
template <class T>
class EmulatedTeam {
public:
    explicit EmulatedTeam(std::minstd_rand& random) : random_(random) {}

    template <class G>
    void each(Index n, const G& g) {
        ScatteredOrder order(n, random_);
        for (Index i = 0; i < n; ++i) g(ScalarLane<T>{order.next()});
    }
    template <class G>
    T sum(Index n, const G& g) {
        return reduce(n, T(0), g, [](T a, T b) { return a + b; });
    }
    template <class G>
    T max(Index n, const G& g) {
        return reduce(n, -std::numeric_limits<T>::infinity(), g, [](T a, T b) { return a > b ? a : b; });
    }
    template <class G>
    void once(const G& g) {
        g();
    }

private:
    static constexpr Index threads = 64;

    template <class G, class Combine>
    T reduce(Index n, T start, const G& g, const Combine& combine) {
        T partial[threads];
        ScatteredOrder order(threads, random_);
        for (Index i = 0; i < threads; ++i) {
            const Index thread = order.next();
            T mine = start;
            for (Index j = thread; j < n; j += threads) mine = combine(mine, static_cast<T>(g(ScalarLane<T>{j})));
            partial[thread] = mine;
        }
        for (Index half = threads / 2; half > 0; half /= 2)
            for (Index i = 0; i < half; ++i) partial[i] = combine(partial[i], partial[i + half]);
        return partial[0];
    }

    std::minstd_rand& random_;
};

/// A model of the CUDA device on the host, as strict as a process can make it:
/// - device memory faults when the host touches it, starts as NaN, and overruns are noticed;
/// - everything is queued as in a stream and runs when the host waits (synchronize, download). Uploads read the host's
/// memory
///   at that time: a buffer that changed in between is an error, as it would be wrong data on a GPU;
/// - lanes and rows run one by one in scattered order, reductions as trees;
/// - kernels given a host address, copies that leave an allocation, and products that cuBLAS would reject are errors;
/// - products run column-major from the arguments that the Cuda device passes to cuBLAS.
/// Errors are thrown by the call that waits; the ones found when memory is released are kept in errors().
template <class T = float, class A = T>
class EmulatedCuda {
public:
    using Scalar = T;
    using Activation = A;
    static constexpr bool one_factor_type = true;

    EmulatedCuda() = default;
    ~EmulatedCuda() { finish_quietly(); }
    EmulatedCuda(const EmulatedCuda&) = delete;
    EmulatedCuda& operator=(const EmulatedCuda&) = delete;

    void* allocate(std::size_t bytes) { return memory_.allocate(bytes); }
    void release(void* p) {
        finish_quietly();
        if (!memory_.release(static_cast<char*>(p)))
            errors_.push_back("something wrote behind the end of an allocation");
    }

    void upload(void* to, const void* from, std::size_t bytes) {
        if (planning_ || bytes == 0) return;
        require_device(to, bytes, "upload to");
        require_host(from, "upload from");
        const std::uint64_t before = checksum(from, bytes);
        enqueue([=] {
            require(readable(from, bytes) && checksum(from, bytes) == before,
                    "emulated CUDA: the host memory of an upload of ", bytes,
                    " bytes changed before the copy ran; synchronize first");
            std::memcpy(to, from, bytes);
        });
    }
    void download(void* to, const void* from, std::size_t bytes) {
        if (planning_ || bytes == 0) return;
        require_device(from, bytes, "download from");
        require_host(to, "download to");
        enqueue([=] { std::memcpy(to, from, bytes); });
        synchronize();
    }
    void copy(void* to, const void* from, std::size_t bytes) {
        if (planning_ || bytes == 0) return;
        require_device(to, bytes, "copy to");
        require_device(from, bytes, "copy from");
        enqueue([=] { std::memmove(to, from, bytes); });
    }
    void zero(void* p, std::size_t bytes) {
        if (planning_ || bytes == 0) return;
        require_device(p, bytes, "zero");
        enqueue([=] { std::memset(p, 0, bytes); });
    }

    /// Runs everything that is queued. Throws the first error; what was queued behind it is dropped.
    void synchronize() {
        if (queue_.empty()) return;
        memory_.open(true);
        std::exception_ptr error;
        try {
            for (const auto& operation : queue_) operation();
        } catch (...) {
            error = std::current_exception();
        }
        memory_.open(false);
        queue_.clear();
        if (error) std::rethrow_exception(error);
    }

    void planning(bool on) { planning_ = on; }
    bool is_planning() const { return planning_; }

    template <class F>
    void map(Index n, const F& f) {
        if (planning_ || n <= 0) return;
        check_functor(f);
        enqueue([this, n, f] {
            ScatteredOrder order(n, random_);
            for (Index i = 0; i < n; ++i) f(ScalarLane<T>{order.next()});
        });
    }

    template <class F>
    void rows(Index n, Index, const F& f) {
        if (planning_ || n <= 0) return;
        check_functor(f);
        enqueue([this, n, f] {
            EmulatedTeam<T> team(random_);
            ScatteredOrder order(n, random_);
            for (Index i = 0; i < n; ++i) f(team, order.next());
        });
    }

    void gemm(const Gemm& g) {
        if (!planning_) run_blas(*this, g);
    }

    /// One call of the column-major library.
    void blas(const BlasCall& call) {
        for (const void* p : {call.a, call.b, call.c, static_cast<const void*>(call.d)})
            require_device(p, 1, "product with");
        if (call.bias) require_device(call.bias, static_cast<std::size_t>(call.m) * sizeof(T), "product with bias");
        enqueue([call] { column_major<T>(call); });
    }

    /// Allocations that are not released yet.
    std::size_t live_allocations() const { return memory_.live(); }
    /// Kernels, copies and products enqueued so far.
    std::size_t operations() const { return operations_; }
    /// What went wrong where nothing could be thrown.
    const std::vector<std::string>& errors() const { return errors_; }

private:
    template <class Operation>
    void enqueue(Operation operation) {
        queue_.emplace_back(std::move(operation));
        ++operations_;
    }

    void finish_quietly() {
        try {
            synchronize();
        } catch (const std::exception& error) {
            errors_.push_back(error.what());
        }
    }

    void require_device(const void* p, std::size_t bytes, const char* what) const {
        require(memory_.contains(p, bytes), "emulated CUDA: ", what, " ", p, ", ", bytes,
                " bytes, which is not inside one allocation of device memory");
    }
    void require_host(const void* p, const char* what) const {
        require(!memory_.in_range(p), "emulated CUDA: ", what, " ", p, ", which is device memory");
    }

    /// A kernel's arguments are copied bit by bit and must not lead to host memory. (Only where the compiler can clear
    /// the bytes between members: what is left in those may look like an address.)
    template <class F>
    void check_functor([[maybe_unused]] F f) const {
        static_assert(std::is_trivially_copyable_v<F>, "a kernel's arguments are copied bit by bit");
#if defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__)
        __builtin_clear_padding(&f);
        for (std::size_t at = 0; at + 8 <= sizeof f; at += 8) {
            std::uintptr_t word;
            std::memcpy(&word, reinterpret_cast<const char*>(&f) + at, 8);
            const void* p = reinterpret_cast<const void*>(word);
            if (word < lowest_host_address || word >> 47 || memory_.in_range(p)) continue;
            require(!readable(p, 1), "emulated CUDA: a kernel was given the host address ", p);
        }
#endif
    }

    /// Whether pages are mapped at [p, p + bytes).
    static bool readable(const void* p, std::size_t bytes) {
        constexpr std::uintptr_t page = 4096;
        const std::uintptr_t first = reinterpret_cast<std::uintptr_t>(p) / page * page,
                             last = reinterpret_cast<std::uintptr_t>(p) + bytes;
        std::vector<unsigned char> resident((last - first + page - 1) / page);
        return mincore(reinterpret_cast<void*>(first), last - first, resident.data()) == 0;
    }

    static std::uint64_t checksum(const void* p, std::size_t bytes) {
        const char* at = static_cast<const char*>(p);
        std::uint64_t hash = bytes;
        for (std::size_t i = 0; i < bytes; i += 8) {
            std::uint64_t word = 0;
            std::memcpy(&word, at + i, std::min<std::size_t>(8, bytes - i));
            hash = (hash ^ word) * 0x9E3779B97F4A7C15ull;
            hash ^= hash >> 29;
        }
        return hash;
    }

    static constexpr std::uintptr_t lowest_host_address =
        0x500000000000;  // stack, heap and libraries of x86-64 lie above

    ProtectedMemory memory_;
    std::vector<std::function<void()>> queue_;
    std::vector<std::string> errors_;
    std::minstd_rand random_{20240601};
    std::size_t operations_ = 0;
    bool planning_ = false;
};

}  // namespace promptkd::test
