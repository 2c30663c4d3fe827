// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/core/thread_pool.hpp>
#include <promptkd/device/cpu_gemm.hpp>
#include <promptkd/device/cpu_lanes.hpp>
#include <promptkd/device/device.hpp>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace promptkd {

/// The host's cores: Eigen for products and packs, one thread pool for products, rows and maps. T is float or double;
/// A, the type of stored activations, is T, bf16 or half. Results do not depend on the number of threads. Not for use
/// by several host threads at once.
template <class T = float, class A = T>
class Cpu {
public:
    using Scalar = T;
    using Activation = A;
    static constexpr bool host_memory = true;  ///< device memory is host memory

    /// `threads` = 0: all cores.
    explicit Cpu(int threads = 0)
        : pool_(threads), products_(static_cast<std::size_t>(pool_.size())), team_memory_(products_.size()) {}

    int threads() const { return pool_.size(); }

    void* allocate(std::size_t bytes) {
        void* p = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
        require(p != nullptr, "out of memory: ", bytes, " bytes requested on the CPU");
        return p;
    }
    void release(void* p) { std::free(p); }

    void upload(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes); }
    void download(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes); }
    void copy(void* to, const void* from, std::size_t bytes) {
        if (!planning_ && bytes > 0) std::memmove(to, from, bytes);
    }
    void zero(void* p, std::size_t bytes) {
        if (!planning_ && bytes > 0) std::memset(p, 0, bytes);
    }
    void synchronize() {}

    void planning(bool on) { planning_ = on; }
    bool is_planning() const { return planning_; }

    /// f(lane) over lanes that cover [0, n).
    template <class F>
    void map(Index n, const F& f) {
        if (planning_) return;
        const Index chunk = chunk_of(n, PackLane<T>::width, min_elements);
        pool_.run((n + chunk - 1) / chunk, [&](Index c, int) {
            const Index end = std::min(n, (c + 1) * chunk);
            Index i = c * chunk;
            for (; i + PackLane<T>::width <= end; i += PackLane<T>::width) f(PackLane<T>{i});
            for (; i < end; ++i) f(ScalarLane<T>{i});
        });
    }

    /// f(team, row) for every row < n; `cost` elements touched a row.
    template <class F>
    void rows(Index n, Index cost, const F& f) {
        if (planning_) return;
        const Index chunk = chunk_of(n, 1, std::max<Index>(1, min_elements / std::max<Index>(1, cost)));
        if constexpr (requires { f.team_values(); })
            for (auto& memory : team_memory_) memory.at_least(f.team_values());
        pool_.run((n + chunk - 1) / chunk, [&](Index c, [[maybe_unused]] int worker) {
            CpuTeam<T> team;
            if constexpr (requires { f.team_values(); })
                team.values = team_memory_[static_cast<std::size_t>(worker)].at_least(f.team_values());
            const Index end = std::min(n, (c + 1) * chunk);
            for (Index row = c * chunk; row < end; ++row) f(team, row);
        });
    }

    /// Products, see Gemm.
    void gemm(const Gemm& g) {
        if (planning_ || g.m == 0 || g.n == 0) return;
        const Index products = g.batch * g.outer;
        if (products > 1) return many_products(g, products);
        if (g.b.type == dtype_of<T>) return one_product(g);
        Gemm wide = g;  // frozen 16-bit weights: widened once for all threads
        wide.b.data = widened(g.b, g.b.transposed ? g.n : g.k, g.b.transposed ? g.k : g.n);
        wide.b.type = dtype_of<T>, wide.b.ld = g.b.transposed ? g.k : g.n;
        one_product(wide);
    }

private:
    static constexpr std::size_t alignment = 256;
    static constexpr Index min_elements = 8192;  // below this, starting a thread costs more than it saves
    static constexpr double min_flops = 4e5;     // likewise for products

    static Index round_up(Index x, Index unit) { return (x + unit - 1) / unit * unit; }

    Index chunk_of(Index n, Index unit, Index minimum) const {
        const Index parts = 4 * pool_.size();
        return std::max(round_up(minimum, unit), round_up((n + parts - 1) / parts, unit));
    }

    void one_product(const Gemm& g) {
        const double work = 2.0 * static_cast<double>(g.m) * static_cast<double>(g.n) * static_cast<double>(g.k);
        const bool by_columns = g.n >= g.m;
        const Index extent = by_columns ? g.n : g.m, parts = work < min_flops ? 1 : pool_.size();
        const Index chunk = round_up((extent + parts - 1) / parts, 48);
        pool_.run((extent + chunk - 1) / chunk, [&](Index c, int worker) {
            detail::ProductBlock<T> block(g, 0, 0, products_[static_cast<std::size_t>(worker)]);
            const Index first = c * chunk, length = std::min(chunk, extent - first);
            by_columns ? block.compute(0, g.m, first, length) : block.compute(first, length, 0, g.n);
        });
    }

    /// `rows` lines of `columns` of a 16-bit matrix in type T, contiguous; valid until the next call.
    const T* widened(const Operand& x, Index rows, Index columns) {
        T* to = wide_.at_least(rows * columns);
        const Index chunk = std::max<Index>(1, std::max(min_elements / columns, rows / (4 * pool_.size())));
        pool_.run((rows + chunk - 1) / chunk, [&](Index c, int) {
            for (Index i = c * chunk; i < std::min(rows, (c + 1) * chunk); ++i)
                detail::widen(x.data, x.type, i * x.ld, columns, to + i * columns);
        });
        return to;
    }

    void many_products(const Gemm& g, Index products) {
        const double work =
            2.0 * static_cast<double>(g.m) * static_cast<double>(g.n) * static_cast<double>(std::max<Index>(1, g.k));
        const Index minimum = static_cast<Index>(min_flops / std::max(1.0, work)) + 1;
        const Index chunk = std::max<Index>(minimum, products / (8 * pool_.size()));
        pool_.run((products + chunk - 1) / chunk, [&](Index c, int worker) {
            const Index end = std::min(products, (c + 1) * chunk);
            for (Index i = c * chunk; i < end; ++i)
                detail::ProductBlock<T>(g, i / g.batch, i % g.batch, products_[static_cast<std::size_t>(worker)])
                    .compute(0, g.m, 0, g.n);
        });
    }

    ThreadPool pool_;
    std::vector<detail::ProductThread<T>> products_;
    std::vector<detail::GrowingBuffer<T>> team_memory_;
    detail::GrowingBuffer<T> wide_;
    bool planning_ = false;
};

}  // namespace promptkd
