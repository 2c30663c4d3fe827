// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "column_major.hpp"
#include "emulated_matrix_team.hpp"
#include "protected_memory.hpp"

#include <promptkd/device/attention_kernel.hpp>
#include <promptkd/device/cuda/lanes.hpp>

#include <cmath>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

namespace promptkd::test {

/// A block of virtual threads as a Team: lanes in scattered order; reductions as a block makes them, each thread its
/// strided share, then a tree.
template <class T>
class EmulatedTeam {
public:
    explicit EmulatedTeam(std::minstd_rand& random, T* memory = nullptr) : random_(random), memory_(memory) {}

    T* memory() const { return memory_; }

    template <class G>
    void items(Index n, const G& g) {
        ScatteredOrder order(n, random_);
        for (Index i = 0; i < n; ++i) g(order.next());
    }

    template <class G>
    void each(Index n, const G& g) {
        ScatteredOrder order(threads, random_);
        for (Index i = 0; i < threads; ++i) promptkd::detail::thread_each<T>(n, order.next(), threads, g);
    }
    template <class G>
    T sum(Index n, const G& g) {
        return reduce([&](Index thread) { return promptkd::detail::thread_sum<T>(n, thread, threads, g); },
                      [](T a, T b) { return a + b; });
    }
    template <class G>
    T max(Index n, const G& g) {
        return reduce([&](Index thread) { return promptkd::detail::thread_max<T>(n, thread, threads, g); },
                      [](T a, T b) { return a > b ? a : b; });
    }
    template <class G>
    void once(const G& g) {
        g();
    }

private:
    static constexpr Index threads = 64;

    template <class Share, class Combine>
    T reduce(const Share& share, const Combine& combine) {
        T partial[threads];
        ScatteredOrder order(threads, random_);
        for (Index i = 0; i < threads; ++i) {
            const Index thread = order.next();
            partial[thread] = share(thread);
        }
        for (Index half = threads / 2; half > 0; half /= 2)
            for (Index i = 0; i < half; ++i) partial[i] = combine(partial[i], partial[i + half]);
        return partial[0];
    }

    std::minstd_rand& random_;
    T* memory_;
};

/// A model of the CUDA device on the host, as strict as a process can make it:
/// - device memory faults when the host touches it, starts as NaN, and overruns are noticed;
/// - everything is queued as in a stream and runs when the host waits (synchronize, download). Uploads read the host's
/// memory
///   at that time: a buffer that changed in between is an error, as it would be wrong data on a GPU;
/// - threads and rows run one by one in scattered order, with the lanes that the GPU takes; reductions are trees;
/// - kernels given a host address, copies that leave an allocation, and products that cuBLAS would reject are errors;
/// - products run column-major from the arguments that the Cuda device passes to cuBLAS.
/// Errors are thrown by the call that waits; the ones found when memory is released are kept in errors().
template <class T = float, class A = T>
class EmulatedCuda {
public:
    using Scalar = T;
    using Activation = A;
    static constexpr bool one_factor_type = true;
    static constexpr bool bias_as_activation = sizeof(A) == 2;
    static constexpr Index team_memory_bytes = 47 << 10;

    explicit EmulatedCuda(AttentionKernel attention = AttentionKernel::composed) : attention_(attention) {}
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
        if (is_planning() || bytes == 0) return;
        require_device(to, bytes, "upload to");
        require_host(from, "upload from");
        require(!graph_, "emulated CUDA: an upload of ordinary memory inside a capture");
        const std::uint64_t before = checksum(from, bytes);
        enqueue([=] {
            require(readable(from, bytes) && checksum(from, bytes) == before,
                    "emulated CUDA: the host memory of an upload of ", bytes,
                    " bytes changed before the copy ran; synchronize first");
            std::memcpy(to, from, bytes);
        });
    }
    void download(void* to, const void* from, std::size_t bytes) {
        if (is_planning() || bytes == 0) return;
        require_device(from, bytes, "download from");
        require_host(to, "download to");
        enqueue([=] { std::memcpy(to, from, bytes); });
        synchronize();
    }
    void copy(void* to, const void* from, std::size_t bytes) {
        if (is_planning() || bytes == 0) return;
        require_device(to, bytes, "copy to");
        require_device(from, bytes, "copy from");
        enqueue([=] { std::memmove(to, from, bytes); });
    }
    void zero(void* p, std::size_t bytes) {
        if (is_planning() || bytes == 0) return;
        require_device(p, bytes, "zero");
        enqueue([=] { std::memset(p, 0, bytes); });
    }

    /// Runs everything that is queued. Throws the first error; what was queued behind it is dropped.
    void synchronize() {
        require(!graph_, "emulated CUDA: the host waits inside a capture");
        run_until(operations_);
    }

    // See AsyncDevice. Host memory that a copy is going to read faults when it is written, memory that a copy is going
    // to write faults when it is touched. A copy beside the queue runs as early as it may, or as late.
    void* allocate_pinned(std::size_t bytes) { return pinned_.allocate(bytes); }
    void release_pinned(void* p) {
        finish_quietly();
        for (Aside& aside : asides_)
            if (aside.pinned == p) {
                aside.pinned = nullptr;
                aside.copy = nullptr;
            }
        pinned_.release(p);
    }
    void upload_aside(int slot, void* to, const void* pinned, std::size_t bytes) {
        require(!graph_, "emulated CUDA: a copy beside the queue inside a capture");
        require_device(to, bytes, "upload to");
        require(pinned_.contains(pinned, bytes), "emulated CUDA: a copy beside the queue needs pinned memory");
        Aside& aside = asides_[slot];
        require(!aside.copy, "emulated CUDA: slot ", slot, " is written again before its copy was used");
        pinned_.protect(pinned, PROT_READ);
        aside.pinned = pinned;
        aside.copy = [=] { std::memcpy(to, pinned, bytes); };
        if (random_() % 2 == 0) run_aside(slot);
    }
    void use_upload(int slot) {
        enqueue([this, slot] {
            if (asides_[slot].copy) {
                asides_[slot].copy();
                asides_[slot].copy = nullptr;
            }
        });
    }
    void finished_with(int slot) { asides_[slot].finished = operations_; }
    void await_upload(int slot) {
        run_aside(slot);
        if (asides_[slot].pinned) pinned_.protect(asides_[slot].pinned, PROT_READ | PROT_WRITE);
        asides_[slot].pinned = nullptr;
    }
    std::size_t download_later(void* pinned, const void* from, std::size_t bytes) {
        require_device(from, bytes, "download from");
        require(pinned_.contains(pinned, bytes), "emulated CUDA: a later download needs pinned memory");
        require(!graph_, "emulated CUDA: a download inside a capture");
        pinned_.protect(pinned, PROT_NONE);
        enqueue([=, this] {
            pinned_.protect(pinned, PROT_READ | PROT_WRITE);
            std::memcpy(pinned, from, bytes);
            pinned_.protect(pinned, PROT_NONE);  // until somebody has waited
        });
        tickets_.push_back({operations_, pinned});
        return tickets_.size() - 1;
    }
    void await(std::size_t ticket) {
        run_until(tickets_.at(ticket).first);
        pinned_.protect(tickets_[ticket].second, PROT_READ | PROT_WRITE);
    }

    // See GraphDevice: what is recorded runs when it is replayed, and only then.
    using Graph = std::shared_ptr<std::vector<std::function<void()>>>;
    void begin_capture() {
        require(!graph_, "emulated CUDA: a capture inside a capture");
        graph_ = std::make_shared<std::vector<std::function<void()>>>();
    }
    Graph end_capture() { return std::exchange(graph_, nullptr); }
    void replay(const Graph& graph) {
        for (const auto& operation : *graph) enqueue(operation);
    }

    AttentionKernel attention() const { return attention_; }
    /// What the smallest GPUs with matrix units for bf16 give a block that asks for it.
    Index matrix_memory_bytes() const { return 99 << 10; }

    void planning(bool on) { planning_.set(on); }
    bool is_planning() const { return planning_.is_on(); }

    template <class F>
    void map(Index n, const F& f) {
        if (is_planning() || n <= 0) return;
        check_functor(f);
        enqueue([this, n, f] {
            const Index threads = std::min<Index>(n, 256);
            ScatteredOrder order(threads, random_);
            for (Index i = 0; i < threads; ++i) promptkd::detail::thread_each<T>(n, order.next(), threads, f);
        });
    }

    template <class F>
    void rows(Index n, Index, const F& f) {
        if (is_planning() || n <= 0) return;
        check_functor(f);
        enqueue([this, n, f] {
            std::vector<T> memory = team_memory(f);
            EmulatedTeam<T> team(random_, memory.data());
            ScatteredOrder order(n, random_);
            for (Index i = 0; i < n; ++i) {
                std::fill(memory.begin(), memory.end(), std::numeric_limits<T>::quiet_NaN());
                f(team, order.next());
            }
        });
    }

    template <class F>
    void matrix_teams(Index n, const F& f) {
        if (is_planning() || n <= 0) return;
        check_functor(f);
        const Index bytes = f.memory_bytes();
        require(bytes <= matrix_memory_bytes(), "emulated CUDA: a team needs ", bytes, " bytes of memory");
        enqueue([this, n, f, bytes] {
            ScatteredOrder order(n, random_);
            for (Index i = 0; i < n; ++i) {
                TeamMemory memory(static_cast<std::size_t>(bytes));
                EmulatedMatrixTeam<F::warps> team(random_, memory, memory_);
                f(team, order.next());
                team.require_finished();
            }
        });
    }

    void gemm(const Gemm& g) {
        if (!is_planning()) run_blas(*this, g);
    }

    /// One call of the column-major library.
    void blas(const BlasCall& call) {
        for (const void* p : {call.a, call.b, call.c, static_cast<const void*>(call.d)})
            require_device(p, 1, "product with");
        if (call.bias)
            require_device(call.bias, static_cast<std::size_t>(call.m) * size_of(call.result_type),
                           "product with bias");
        enqueue([call] { column_major<T>(call); });
    }

    /// Allocations that are not released yet.
    std::size_t live_allocations() const { return memory_.live() + pinned_.live(); }
    /// Kernels, copies and products enqueued so far.
    std::size_t operations() const { return operations_; }
    /// What went wrong where nothing could be thrown.
    const std::vector<std::string>& errors() const { return errors_; }

private:
    template <class Operation>
    void enqueue(Operation operation) {
        if (graph_) {
            graph_->emplace_back(std::move(operation));
            return;
        }
        queue_.emplace_back(std::move(operation));
        ++operations_;
    }

    /// Runs what is queued up to the operation of this number.
    void run_until(std::size_t number) {
        if (queue_.empty() || operations_ - queue_.size() >= number) return;
        memory_.open(true);
        std::exception_ptr error;
        try {
            while (!queue_.empty() && operations_ - queue_.size() < number) {
                const std::function<void()> operation = std::move(queue_.front());
                queue_.pop_front();
                operation();
            }
        } catch (...) {
            error = std::current_exception();
            queue_.clear();
        }
        memory_.open(false);
        if (error) std::rethrow_exception(error);
    }

    /// The slot's copy, behind what must be done before it.
    void run_aside(int slot) {
        if (!asides_[slot].copy) return;
        run_until(asides_[slot].finished);
        memory_.open(true);
        asides_[slot].copy();
        memory_.open(false);
        asides_[slot].copy = nullptr;
    }

    struct Aside {
        std::function<void()> copy;
        const void* pinned = nullptr;
        std::size_t finished = 0;
    };

    void finish_quietly() {
        try {
            synchronize();
        } catch (const std::exception& error) {
            errors_.push_back(error.what());
        }
    }

    /// What a block of the GPU would have as its own.
    template <class F>
    static std::vector<T> team_memory(const F& f) {
        if constexpr (requires { f.team_values(); }) {
            const Index bytes = f.team_values() * static_cast<Index>(sizeof(T));
            require(bytes <= team_memory_bytes, "emulated CUDA: a row needs ", bytes, " bytes of team memory");
            return std::vector<T>(static_cast<std::size_t>(f.team_values()));
        } else {
            return {};
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
    PinnedMemory pinned_;
    std::deque<std::function<void()>> queue_;
    Aside asides_[2];
    std::vector<std::pair<std::size_t, void*>> tickets_;
    Graph graph_;
    std::vector<std::string> errors_;
    std::minstd_rand random_{20240601};
    std::size_t operations_ = 0;
    AttentionKernel attention_;
    PlanningFlag planning_;
};

}  // namespace promptkd::test
