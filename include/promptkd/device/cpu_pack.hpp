// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/device/cpu_kernel.hpp>
#include <promptkd/device/gemm.hpp>

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace promptkd::detail {

/// Memory that only grows: what a thread needs for packing and widening, allocated in the first steps and then reused.
template <class T>
class GrowingBuffer {
public:
    T* at_least(Index n) {
        if (n > size_) {
            data_.reset(
                static_cast<T*>(std::aligned_alloc(64, (static_cast<std::size_t>(n) * sizeof(T) + 63) / 64 * 64)));
            require(data_ != nullptr, "out of memory: ", n, " elements of work space");
            size_ = n;
        }
        return data_.get();
    }

private:
    struct Free {
        void operator()(T* p) const { std::free(p); }
    };
    std::unique_ptr<T, Free> data_;
    Index size_ = 0;
};

/// to[i] = from[first + i] in type T, i < n; Eigen converts 16-bit types with the processor's own instructions.
template <class T>
void widen(const void* from, DType type, Index first, Index n, T* to) {
    Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>> wide(to, n);
    const auto run = [&](auto tag) {
        using W = decltype(tag);
        wide = Eigen::Map<const Eigen::Array<W, Eigen::Dynamic, 1>>(static_cast<const W*>(from) + first, n)
                   .template cast<T>();
    };
    if (type == dtype_of<T>)
        run(T{});
    else if (type == DType::f16)
        run(Eigen::half{});
    else if (type == DType::bf16)
        run(Eigen::bfloat16{});
    else
        fail("product: a factor of type ", name_of(type), " cannot be used on a device that computes in ",
             name_of(dtype_of<T>));
}

/// Elements that pack_columns() writes for `k` rows of `columns` columns.
template <class T>
Index packed_size(Index k, Index columns) {
    return (columns + Tile<T>::columns - 1) / Tile<T>::columns * Tile<T>::columns * k;
}

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"  // a packet as the argument of Eigen's PacketBlock
#endif

/// to[p·columns + j] = lines[j·ld + p], p < k, j < Tile::columns: the transpose of as many lines as a panel has
/// columns.
template <class T>
void transpose_panel(const T* lines, Index ld, Index k, T* to) {
    using namespace Eigen::internal;
    using Packet = typename Tile<T>::Packet;
    constexpr Index w = Tile<T>::width, columns = Tile<T>::columns;
    const Index whole = k / w * w;
    for (Index p = 0; p < whole; p += w)
        for (Index j = 0; j < columns; j += w) {
            PacketBlock<Packet, static_cast<int>(w)> block;
            for (Index i = 0; i < w; ++i) block.packet[i] = ploadu<Packet>(lines + (j + i) * ld + p);
            ptranspose(block);
            for (Index i = 0; i < w; ++i) pstore(to + (p + i) * columns + j, block.packet[i]);
        }
    for (Index p = whole; p < k; ++p)
        for (Index j = 0; j < columns; ++j) to[p * columns + j] = lines[j * ld + p];
}

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

/// Rows [k0, k0+k) and columns [first, first+columns) of the factor B whose matrix starts at `base`, in type T and in
/// panels of Tile::columns columns: `to` holds, panel by panel, for each row the panel's columns (zeros past the last).
/// `lines` is scratch.
template <class T>
void pack_columns(const Operand& b, const void* base, Index k0, Index k, Index first, Index columns, T* to,
                  GrowingBuffer<T>& lines) {
    constexpr Index panel = Tile<T>::columns;
    for (Index j = 0; j < columns; j += panel, to += k * panel) {
        const Index count = std::min(panel, columns - j);
        if (!b.transposed) {
            for (Index p = 0; p < k; ++p) {
                T* row = to + p * panel;
                widen(base, b.type, (k0 + p) * b.ld + first + j, count, row);
                for (Index i = count; i < panel; ++i) row[i] = T(0);
            }
        } else if (b.type == dtype_of<T> && count == panel) {
            transpose_panel(static_cast<const T*>(base) + (first + j) * b.ld + k0, b.ld, k, to);
        } else {
            T* wide = lines.at_least(panel * k);
            for (Index i = 0; i < count; ++i) widen(base, b.type, (first + j + i) * b.ld + k0, k, wide + i * k);
            std::fill(wide + count * k, wide + panel * k, T(0));
            transpose_panel(static_cast<const T*>(wide), k, k, to);
        }
    }
}

/// A block of the factor A as the kernel reads it: element (i, p) = data[i·row_stride + p·step].
template <class T>
struct Rows {
    const T* data;
    Index row_stride, step;
};

/// Rows [row0, row0+rows) × columns [k0, k0+k) of the factor A whose matrix starts at `base`: copied into `buffer` when
/// it is stored in another type, or when it is `reused` so often that fewer pages and cache lines repay the copy; else
/// where it lies.
template <class T>
Rows<T> rows_of(const Operand& a, const void* base, Index row0, Index rows, Index k0, Index k, bool reused,
                GrowingBuffer<T>& buffer) {
    const Index start = a.transposed ? k0 * a.ld + row0 : row0 * a.ld + k0;
    if (a.type == dtype_of<T> && !reused)
        return {static_cast<const T*>(base) + start, a.transposed ? 1 : a.ld, a.transposed ? a.ld : 1};
    const Index lines = a.transposed ? k : rows, length = a.transposed ? rows : k;
    T* wide = buffer.at_least(lines * length);
    for (Index i = 0; i < lines; ++i) widen(base, a.type, start + i * a.ld, length, wide + i * length);
    return {wide, a.transposed ? 1 : length, a.transposed ? length : 1};
}

}  // namespace promptkd::detail
