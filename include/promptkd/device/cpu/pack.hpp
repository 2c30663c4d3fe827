// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/device/cpu/convert.hpp>
#include <promptkd/device/cpu/kernel.hpp>
#include <promptkd/device/cpu/packets.hpp>
#include <promptkd/device/gemm.hpp>

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace promptkd::detail {
inline namespace PROMPTKD_CPU_ABI {

/// Memory that only grows: what a thread needs for packing and widening, allocated in the first steps and then reused.
class GrowingBuffer {
public:
    template <class E>
    E* at_least(Index n) {
        const std::size_t bytes = (static_cast<std::size_t>(n) * sizeof(E) + 63) / 64 * 64;
        if (bytes > bytes_) {
            data_.reset(std::aligned_alloc(64, bytes));
            bytes_ = data_ ? bytes : 0;
            require(data_ != nullptr, "out of memory: ", bytes, " bytes of work space");
        }
        return static_cast<E*>(data_.get());
    }

private:
    struct Free {
        void operator()(void* p) const { std::free(p); }
    };
    std::unique_ptr<void, Free> data_;
    std::size_t bytes_ = 0;
};

/// Lines of `length` elements each: `count` of them, `distance` apart, from the element `first` on.
struct Lines {
    Index first, length, count = 1, distance = 0;
};

template <class T, class Level, class P>
void widen_as(const P* from, const Lines& lines, T* to, Index to_distance) {
    using Ops = Packets<T, Level>;
    const Index whole = lines.length / Ops::width * Ops::width, rest = lines.length - whole;
    typename Ops::Packet x;
    for (Index line = 0; line < lines.count; ++line, from += lines.distance, to += to_distance) {
        for (Index i = 0; i < whole; i += Ops::width) {
            Ops::load(from + i, x);
            Ops::store(to + i, x);
        }
        if (rest > 0) {
            Ops::load_first(from + whole, rest, x);
            Ops::store_first(to + whole, x, rest);
        }
    }
}

/// The lines of `from`, which is of `type`, in type T, `to_distance` apart.
template <class T>
void widen(const void* from, DType type, const Lines& lines, T* to, Index to_distance, ProcessorLevel level) {
    require(type == dtype_of<T> || type == DType::f16 || type == DType::bf16, "product: a factor of type ",
            name_of(type), " cannot be used on a device that computes in ", name_of(dtype_of<T>));
    at_level(level, [&](auto compiled_for) {
        using Level = decltype(compiled_for);
        if (type == dtype_of<T>)
            widen_as<T, Level>(static_cast<const T*>(from) + lines.first, lines, to, to_distance);
        else if (type == DType::f16)
            widen_as<T, Level>(static_cast<const half*>(from) + lines.first, lines, to, to_distance);
        else
            widen_as<T, Level>(static_cast<const bf16*>(from) + lines.first, lines, to, to_distance);
    });
}

/// to[i] = from[i] rounded to P, for n values: whole packets.
template <class T, class P>
void narrow(const T* from, Index n, P* to, ProcessorLevel level) {
    at_level(level, [&](auto compiled_for) {
        using Ops = Packets<T, decltype(compiled_for)>;
        for (Index i = 0; i < n; i += Ops::width) {
            typename Ops::Packet x;
            Ops::load(from + i, x);
            Ops::store(to + i, x);
        }
    });
}

/// Elements of a factor's `columns` columns in panels, for `steps` steps along the inner dimension.
template <class T>
Index packed_size(Index steps, Index columns) {
    return (columns + Tile<T>::columns - 1) / Tile<T>::columns * Tile<T>::columns * steps;
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
    using Packet = PacketOf<T>;
    constexpr Index w = packet_width<T>, columns = Tile<T>::columns;
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
                  GrowingBuffer& lines, ProcessorLevel level) {
    constexpr Index panel = Tile<T>::columns;
    for (Index j = 0; j < columns; j += panel, to += k * panel) {
        const Index count = std::min(panel, columns - j);
        if (!b.transposed) {
            widen(base, b.type, {k0 * b.ld + first + j, count, k, b.ld}, to, panel, level);
            for (Index p = 0; count < panel && p < k; ++p)
                std::fill(to + p * panel + count, to + (p + 1) * panel, T(0));
        } else if (b.type == dtype_of<T> && count == panel) {
            transpose_panel(static_cast<const T*>(base) + (first + j) * b.ld + k0, b.ld, k, to);
        } else {
            T* wide = lines.at_least<T>(panel * k);
            widen(base, b.type, {(first + j) * b.ld + k0, k, count, b.ld}, wide, k, level);
            std::fill(wide + count * k, wide + panel * k, T(0));
            transpose_panel(static_cast<const T*>(wide), k, k, to);
        }
    }
}

/// Between copied rows of `length` elements: whole cache lines and one more, since rows at powers of two would fall
/// into the same sets of the cache.
template <class E>
constexpr Index row_distance(Index length) {
    constexpr Index line = 64 / static_cast<Index>(sizeof(E));
    return (length + line - 1) / line * line + line;
}

/// Rows [row0, row0+rows) × columns [k0, k0+k) of the factor A whose matrix starts at `base`: copied into `buffer` when
/// it is stored in another type, or when it is `reused` so often that fewer pages and cache lines repay the copy; else
/// where it lies.
template <class T>
Rows<T> rows_of(const Operand& a, const void* base, Index row0, Index rows, Index k0, Index k, bool reused,
                GrowingBuffer& buffer, ProcessorLevel level) {
    const Index start = a.transposed ? k0 * a.ld + row0 : row0 * a.ld + k0;
    if (a.type == dtype_of<T> && !reused)
        return {static_cast<const T*>(base) + start, a.transposed ? 1 : a.ld, a.transposed ? a.ld : 1};
    const Index lines = a.transposed ? k : rows, length = a.transposed ? rows : k;
    const Index stride = a.transposed ? rows : row_distance<T>(k);
    T* wide = buffer.at_least<T>(lines * stride);
    widen(base, a.type, {start, length, lines, a.ld}, wide, stride, level);
    return {wide, a.transposed ? 1 : stride, a.transposed ? stride : 1};
}

}  // namespace PROMPTKD_CPU_ABI
}  // namespace promptkd::detail
