// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/core/thread_pool.hpp>
#include <promptkd/device/cpu/instruction_sets.hpp>
#include <promptkd/device/cpu/int8.hpp>
#include <promptkd/device/cpu/lanes.hpp>
#include <promptkd/device/cpu/level.hpp>
#include <promptkd/device/cpu/machine_memory.hpp>
#include <promptkd/device/device.hpp>

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace promptkd {
inline namespace PROMPTKD_CPU_ABI {

/// The host's cores: vectors through Eigen's packs, one thread pool for products, rows and maps. T is float or double;
/// A, the type of stored activations, is T, bf16 or half. Results do not depend on the number of threads. Several host
/// threads may use one Cpu: their operations wait for each other. A device each is faster, see README.md.
template <class T = float, class A = T>
class Cpu {
public:
    /// See Device.
    ///@{
    using Scalar = T;
    using Activation = A;
    ///@}
    static constexpr bool host_memory = true;  ///< device memory is host memory
    /// With 16-bit activations the frozen matrices have their type, too: bf16 pairs have a kernel of their own.
    static constexpr bool one_factor_type = !std::is_same_v<T, A>;

    /// `threads` = 0: all cores. Its kernels are those of this machine, of `highest` and of PROMPTKD_PROCESSOR_LEVEL in
    /// the environment at most. Throws ResourceError when the threads cannot be created, and Error in a program whose
    /// units are compiled for different instruction sets or where that variable is none of the levels.
    explicit Cpu(int threads = 0, ProcessorLevel highest = ProcessorLevel::v4_bf16)
        : level_(std::min({detail::machine_level(), detail::allowed_level(), highest})),
          pool_(threads),
          threads_(static_cast<std::size_t>(pool_.size())),
          team_memory_(threads_.size()) {
        detail::UnitsAgree::check();
        for (detail::ProductThread& thread : threads_) thread.level = level_;
    }

    /// What its kernels use, see ProcessorLevel.
    ProcessorLevel level() const { return level_; }

    /// Number of threads, the caller included.
    int threads() const { return pool_.size(); }

    /// How many parts of `bytes` each, shared out among the threads, stay in the threads' second-level caches.
    Index cached_parts(std::size_t bytes) const {
        return threads() * std::max<Index>(1, static_cast<Index>(cache_bytes / std::max<std::size_t>(1, bytes)));
    }

    /// Large blocks are offered huge pages: a model of 1.7 GB then costs 800 page faults, not 400,000.
    void* allocate(std::size_t bytes) {
        detail::require_memory(bytes);
        const std::size_t unit = bytes >= 2 * huge_page ? huge_page : alignment;
        void* p = std::aligned_alloc(unit, (bytes + unit - 1) / unit * unit);
        if (p == nullptr) throw ResourceError(concat("out of memory: ", bytes, " bytes requested on the CPU"));
        if (unit == huge_page) ::madvise(p, bytes / huge_page * huge_page, MADV_HUGEPAGE);
        return p;
    }
    /// See Device.
    ///@{
    void release(void* p) { std::free(p); }

    void upload(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes); }
    void download(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes); }
    void copy(void* to, const void* from, std::size_t bytes) {
        if (!is_planning() && bytes > 0) std::memmove(to, from, bytes);
    }
    void zero(void* p, std::size_t bytes) {
        if (!is_planning() && bytes > 0) std::memset(p, 0, bytes);
    }
    void synchronize() {}

    void planning(bool on) { planning_.set(on); }
    bool is_planning() const { return planning_.is_on(); }
    ///@}

    /// f(first, count) over parts of [0, n) on this device's threads: work of the host such as converting weights.
    template <class F>
    void host_parts(Index n, const F& f) {
        const Index chunk = chunk_of(n, 1024, Index{1} << 18);
        pool_.run((n + chunk - 1) / chunk, [&](Index c, int) { f(c * chunk, std::min(chunk, n - c * chunk)); });
    }

    /// f(lane) over lanes that cover [0, n).
    template <class F>
    void map(Index n, const F& f) {
        if (is_planning()) return;
        const Index chunk = chunk_of(n, PackLane<T>::width, min_elements);
        pool_.run((n + chunk - 1) / chunk, [&](Index c, int) {
            detail::at_level(level_, [&](auto compiled_for) {
                using Lane = PackLane<T, decltype(compiled_for)>;
                const Index end = std::min(n, (c + 1) * chunk);
                Index i = c * chunk;
                for (; i + Lane::width <= end; i += Lane::width) f(Lane{i});
                for (; i < end; ++i) f(ScalarLane<T>{i});
            });
        });
    }

    /// f(team, row) for every row < n; `cost` elements touched a row.
    template <class F>
    void rows(Index n, Index cost, const F& f) {
        if (is_planning()) return;
        const Index chunk = chunk_of(n, 1, std::max<Index>(1, min_elements / std::max<Index>(1, cost)));
        const ThreadPool::Alone alone(pool_);
        if constexpr (requires { f.team_values(); })
            for (auto& memory : team_memory_) memory.template at_least<T>(f.team_values());
        pool_.run((n + chunk - 1) / chunk, [&](Index c, [[maybe_unused]] int worker) {
            T* values = nullptr;
            if constexpr (requires { f.team_values(); })
                values = team_memory_[static_cast<std::size_t>(worker)].template at_least<T>(f.team_values());
            detail::at_level(level_, [&](auto compiled_for) {
                CpuTeam<T, decltype(compiled_for)> team{values};
                const Index end = std::min(n, (c + 1) * chunk);
                for (Index row = c * chunk; row < end; ++row) f(team, row);
            });
        });
    }

    /// Products, see Gemm.
    void gemm(const Gemm& g) {
        if (is_planning() || g.m == 0 || g.n == 0) return;
        const ThreadPool::Alone alone(pool_);
#if defined(PROMPTKD_BF16_PRODUCTS) || defined(PROMPTKD_DISPATCH)
        if constexpr (std::is_same_v<T, float>)
            if (detail::multiplies_pairs(level_) && g.a.type == DType::bf16 && g.b.type == DType::bf16 &&
                (g.b.panel == 0 || pairs_up(g.b.type)))
                return products<detail::Product<T, detail::Bf16Pair>>(g);
#endif
        require(g.b.panel == 0 || !pairs_up(g.b.type), "product: a matrix packed for factors of bf16 and a factor of ",
                name_of(g.a.type));
        if constexpr (quantizes)
            if (g.b.panel != 0 && g.b.type == DType::i8) return products<detail::Int8Product>(g);
        if (g.b.panel != 0 && g.b.type == DType::f16) return products<detail::Product<T, T, half>>(g);
        if (g.b.panel != 0 && g.b.type == DType::bf16) return products<detail::Product<T, T, bf16>>(g);
        products<detail::Product<T>>(g);
    }

    /// Columns of a panel of pack_panels().
    static constexpr Index panel_columns = detail::Tile<T>::columns;

    /// Packs Wᵀ of the row-major matrix `w` (n × k, of type `type`) for products that have it as the factor B: panels
    /// of panel_columns columns one behind the other, each with the whole inner dimension (Operand::panel). `to` holds
    /// packed_bytes(n, k, type). k must be even.
    void pack_panels(const void* w, Index n, Index k, DType type, void* to) {
        if (type == dtype_of<T>) return pack_panels_as<T>(w, n, k, to);
        if (type == DType::f16) return pack_panels_as<half>(w, n, k, to);
        if (type == DType::bf16) return pack_panels_as<bf16>(w, n, k, to);
        fail("product: a matrix of type ", name_of(type), " cannot be packed");
    }
    /// Bytes of n × k values packed as panels, see pack_panels().
    static std::size_t packed_bytes(Index n, Index k, DType type) {
        return static_cast<std::size_t>(round_up(n, panel_columns) * k) * size_of(type);
    }

    /// Whether there are products with matrices in 8 bits, see WeightStorage::int8.
    static constexpr bool quantizes = std::is_same_v<T, float>;

    /// Bytes a row of the panel holds beside its k values: scale and sum.
    static constexpr Index int8_row_extra = detail::Int8Panel::row_extra;

    /// The same with the rows of W in 8 bits, each with a scale of its own. `to` holds int8_bytes(n, k). k must be a
    /// multiple of 4.
    void pack_int8_panels(const void* w, Index n, Index k, DType type, void* to) requires quantizes {
        pool_.run(round_up(n, panel_columns) / panel_columns, [&](Index panel, int worker) {
            float* row = threads_[static_cast<std::size_t>(worker)].lines.template at_least<float>(k);
            const Index first = panel * panel_columns;
            const detail::Int8Panel out(static_cast<char*>(to) + first * (k + int8_row_extra));
            for (Index j = 0; j < panel_columns; ++j) {
                if (first + j < n)
                    detail::widen(w, type, {(first + j) * k, k}, row, 0, level_);
                else
                    std::fill_n(row, k, 0.0f);
                detail::quantize_weights(row, k, j, out);
            }
        });
    }
    /// Bytes of n × k values in 8 bits, see pack_int8_panels().
    static std::size_t int8_bytes(Index n, Index k) {
        return static_cast<std::size_t>(round_up(n, panel_columns) * (k + int8_row_extra));
    }

private:
    static constexpr std::size_t alignment = 256, huge_page = std::size_t{2} << 20;
    static constexpr std::size_t cache_bytes = 640 << 10;  // most of the 1 MB that today's cores have at least
    static constexpr Index min_elements = 8192;            // below this, starting a thread costs more than it saves
    static constexpr double min_flops = 4e5;               // likewise for products

    static Index round_up(Index x, Index unit) { return (x + unit - 1) / unit * unit; }

    Index chunk_of(Index n, Index unit, Index minimum) const {
        const Index parts = 4 * pool_.size();
        return std::max(round_up(minimum, unit), round_up((n + parts - 1) / parts, unit));
    }

    static double work_of(const Gemm& g) {
        return 2.0 * static_cast<double>(g.m) * static_cast<double>(g.n) * static_cast<double>(std::max<Index>(1, g.k));
    }

    struct CountsWhenDone {
        std::atomic<Index>& done;
        ~CountsWhenDone() { done.fetch_add(1, std::memory_order_release); }
    };

    /// Whether matrices of this type are packed as pairs.
    bool pairs_up(DType type) const {
        return std::is_same_v<T, float> && std::is_same_v<A, bf16> && type == DType::bf16 &&
               detail::multiplies_pairs(level_);
    }

    template <class P>
    void pack_panels_as(const void* w, Index n, Index k, void* to) {
        const Operand b{w, dtype_of<P>, k, true, 0, 0};
        pool_.run((n + panel_columns - 1) / panel_columns, [&](Index panel, int worker) {
            detail::ProductThread& thread = threads_[static_cast<std::size_t>(worker)];
            const Index first = panel * panel_columns, count = std::min(panel_columns, n - first);
            P* out = static_cast<P*>(to) + first * k;
            if (pairs_up(dtype_of<P>))
                return detail::pack_columns(b, w, 0, k, first, count, reinterpret_cast<detail::Bf16Pair*>(out),
                                            thread.lines, level_);
            T* wide = thread.packed.template at_least<T>(panel_columns * k);
            detail::pack_columns(b, w, 0, k, first, count, wide, thread.lines, level_);
            detail::narrow(wide, panel_columns * k, out, level_);
        });
    }

    template <class P>
    void products(const Gemm& g) {
        if (g.batch * g.outer > 1) return many_products<P>(g);
        one_product<P>(g);
    }

    /// All threads at one product: they pack B together, then share out the rows of C (its columns where rows are few).
    template <class P>
    void one_product(const Gemm& g) {
        const detail::TileShape shape = P::shape(level_);
        const P product(g, 0, 0);
        if (pool_.size() == 1 || work_of(g) < min_flops) return product.compute_alone(threads_[0]);
        const Index threads = pool_.size(), panels = (g.n + panel_columns - 1) / panel_columns;
        const Index wanted = round_up((g.m + shape.chunk_rows - 1) / shape.chunk_rows, threads);
        const Index rows = round_up((g.m + wanted - 1) / wanted, shape.rows), chunks = (g.m + rows - 1) / rows;
        // Few chunks are divided by columns, too, so that no thread waits long for another's last one.
        const Index parts = chunks >= 4 * threads ? 1 : std::min(panels, (4 * threads + chunks - 1) / chunks);
        const Index part_panels = (panels + parts - 1) / parts;
        // With one chunk of rows each panel is used by one task, which packs it: no waiting, and it stays in that
        // cache.
        const bool packs_own = chunks == 1 && !product.prepacked();
        const Index packs = packs_own || product.prepacked() ? 0 : std::min(panels, 2 * threads);
        const Index pack_panels = packs == 0 ? 0 : (panels + packs - 1) / packs;
        auto* packed =
            product.prepacked() ? nullptr : packed_.template at_least<typename P::Panel>(product.packed_elements());
        for (Index block = 0; block < product.blocks(); ++block) {
            std::atomic<Index> packed_parts{0};
            pool_.run(packs + chunks * parts, [&](Index i, int worker) {
                detail::ProductThread& thread = threads_[static_cast<std::size_t>(worker)];
                if (i < packs) {
                    const CountsWhenDone counts{packed_parts};  // when packing throws, too: others wait for it
                    return product.pack(block, i * pack_panels, pack_panels, packed, thread);
                }
                // Packing tasks were taken before this one, each by a thread that is at work on it: a short wait.
                ThreadPool::wait([&] { return packed_parts.load(std::memory_order_acquire) >= packs; });
                const Index row = (i - packs) / parts * rows, panel = (i - packs) % parts * part_panels;
                if (packs_own) product.pack(block, panel, part_panels, packed, thread);
                if (panel < panels)
                    product.compute(block, row, std::min(rows, g.m - row), panel, part_panels, packed, thread);
            });
        }
    }

    /// Each product in one thread.
    template <class P>
    void many_products(const Gemm& g) {
        const Index count = g.batch * g.outer, minimum = static_cast<Index>(min_flops / work_of(g)) + 1;
        const Index chunk = std::max<Index>(minimum, count / (8 * pool_.size()));
        pool_.run((count + chunk - 1) / chunk, [&](Index c, int worker) {
            const Index end = std::min(count, (c + 1) * chunk);
            for (Index i = c * chunk; i < end; ++i)
                P(g, i / g.batch, i % g.batch).compute_alone(threads_[static_cast<std::size_t>(worker)]);
        });
    }

    ProcessorLevel level_;
    ThreadPool pool_;
    std::vector<detail::ProductThread> threads_;
    std::vector<detail::GrowingBuffer> team_memory_;
    detail::GrowingBuffer packed_;
    PlanningFlag planning_;
};

}  // namespace PROMPTKD_CPU_ABI
}  // namespace promptkd
