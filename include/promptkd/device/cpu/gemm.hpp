// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/cpu/finish.hpp>
#include <promptkd/device/cpu/level_steps.hpp>
#include <promptkd/device/cpu/pack_bf16.hpp>

namespace promptkd::detail {
inline namespace PROMPTKD_CPU_ABI {

/// What one thread needs to compute blocks of products.
struct ProductThread {
    GrowingBuffer packed, lines, rows;
    ProcessorLevel level = ProcessorLevel::compiled;  ///< of the kernels
};

/// One product of a Gemm, computed block by block: for each block of the inner dimension B's columns are packed once,
/// then chunks of C are computed, in any order and by any thread. Every element of C is summed in the same order
/// whatever the blocks, so results depend neither on the threads nor on how many rows are computed together.
/// T is the type of the sums; E and B what the kernel reads of A and of B's panels, see Step. A factor B that was
/// packed before (Operand::panel) is read where it lies: panel behind panel, each with the whole inner dimension.
template <class T, class E = T, class B = E>
class Product {
public:
    using Panel = B;

    Product(const Gemm& gemm, Index outer, Index batch)
        : g_(gemm),
          a_(gemm.a.at(outer, batch)),
          b_(gemm.b.at(outer, batch)),
          finish_(gemm, gemm.offset_c(outer, batch)),
          blocks_(block_count(gemm)) {}

    /// The tile of the kernels for a level.
    static TileShape shape(ProcessorLevel level) { return tile_kernels<T, E, B>(level).shape; }
    /// Blocks of the inner dimension, at least 1.
    Index blocks() const { return blocks_; }
    /// Elements of the packed B of one block.
    Index packed_elements() const { return packed_size<T>(block_depth() / terms, g_.n); }

    /// Whether nothing is left to pack.
    bool prepacked() const { return g_.b.panel != 0; }

    /// Packs the panels [panel, panel + panels) of B's block `block` to their place in `packed`.
    void pack(Index block, Index panel, Index panels, [[maybe_unused]] B* packed,
              [[maybe_unused]] ProductThread& thread) const {
        const Index k0 = begin_of(block), k = begin_of(block + 1) - k0, first = panel * Tile<T>::columns;
        if (first >= g_.n) return;
        if constexpr (std::is_same_v<E, B>)  // others exist prepacked only
            pack_columns(g_.b, b_, k0, k, first, std::min(panels * Tile<T>::columns, g_.n - first),
                         packed + first * steps_of(k), thread.lines, thread.level);
    }

    /// Rows [row0, row0+rows) of C, in the panels [panel, panel + panels), from block `block`, whose packed panels are
    /// `packed` unless prepacked().
    void compute(Index block, Index row0, Index rows, Index panel, Index panels, const B* packed,
                 ProductThread& thread) const {
        const Index k0 = begin_of(block), k = begin_of(block + 1) - k0, steps = steps_of(k);
        const Rows<E> a = rows_of<E>(g_.a, a_, row0, rows, k0, k, copies_rows(panels), thread.rows, thread.level);
        const auto& kernels = tile_kernels<T, E, B>(thread.level);
        const TileShape& shape = kernels.shape;
        alignas(64) T tile[Tile<T>::rows * Tile<T>::columns];
        const Index end = std::min((panel + panels) * Tile<T>::columns, g_.n);
        if (prepacked()) packed = static_cast<const B*>(b_) + k0 / terms * Tile<T>::columns;
        const Index depth = prepacked() ? steps_of(g_.k) : steps;
        const auto tile_at = [&](Index i, Index j) {
            const Index in_panel = j % Tile<T>::columns;
            const B* b = packed + (j - in_panel) * depth + in_panel;
            const Index height = std::min(shape.rows, rows - i), width = std::min(shape.columns, end - j);
            kernels.of(height, width)(steps, {a.data + i * a.row_stride, a.row_stride, a.stride}, b, tile);
            finish_(tile, block == 0, {row0 + i, height, j, width}, thread.level);
        };
        const Index begin = panel * Tile<T>::columns;
        if (steps <= shallow) {
            for (Index i = 0; i < rows; i += shape.rows)
                for (Index j = begin; j < end; j += shape.columns) tile_at(i, j);
        } else {
            for (Index j = begin; j < end; j += shape.columns)
                for (Index i = 0; i < rows; i += shape.rows) tile_at(i, j);
        }
    }

    /// The whole product in this thread.
    void compute_alone(ProductThread& thread) const {
        B* packed = prepacked() ? nullptr : thread.packed.at_least<B>(packed_elements());
        const Index panels = (g_.n + Tile<T>::columns - 1) / Tile<T>::columns;
        const Index chunk = shape(thread.level).chunk_rows;
        for (Index block = 0; block < blocks_; ++block) {
            if (!prepacked()) pack(block, 0, panels, packed, thread);
            for (Index i = 0; i < g_.m; i += chunk)
                compute(block, i, std::min(chunk, g_.m - i), 0, panels, packed, thread);
        }
    }

private:
    static constexpr Index terms = terms_of<E>;
    /// Steps up to which a tile of C costs more than a panel of B: then C is walked along its rows.
    static constexpr Index shallow = 48;

    /// Whether so many panels read a chunk of A often enough to copy it first: fewer do when rows at their distance
    /// meet in the same sets of the first-level cache.
    bool copies_rows(Index panels) const {
        const bool meet = !g_.a.transposed && g_.a.ld * static_cast<Index>(size_of(g_.a.type)) % 2048 == 0;
        return panels >= (meet ? 4 : 16);
    }

    /// A result in 16 bits is rounded once, so its inner dimension is not divided.
    static Index block_count(const Gemm& g) {
        if (g.c_type != dtype_of<T>) return 1;
        return std::max<Index>(1, (steps_of(g.k) + Tile<T>::depth - 1) / Tile<T>::depth);
    }
    static Index steps_of(Index k) { return (k + terms - 1) / terms; }
    Index block_depth() const { return steps_of((g_.k + blocks_ - 1) / blocks_) * terms; }
    Index begin_of(Index block) const { return std::min(g_.k, block * block_depth()); }

    const Gemm& g_;
    const void *a_, *b_;
    TileFinish<T> finish_;
    Index blocks_;
};

}  // namespace PROMPTKD_CPU_ABI
}  // namespace promptkd::detail
