// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/cpu/pack.hpp>

#include <cstdint>
#include <cstring>

namespace promptkd::detail {
inline namespace PROMPTKD_CPU_ABI {

// The factors of a product of bf16 values, for the kernel that takes two terms at a step: what cpu_pack.hpp is to
// others.

/// The pairs of one line of `n` values along the inner dimension; a last value without a second gets zero.
inline void pair_up(const bf16* line, Index n, Bf16Pair* to) {
    std::memcpy(to, line, static_cast<std::size_t>(n) * sizeof(bf16));
    if (n % 2 != 0) to[n / 2].bits = line[n - 1].bits;
}

/// The pairs of two lines that follow one another along the inner dimension; no `second`: zeros.
inline void pair_up(const bf16* first, const bf16* second, Index n, Bf16Pair* to) {
    for (Index i = 0; i < n; ++i)
        to[i].bits = first[i].bits | (second ? static_cast<std::uint32_t>(second[i].bits) << 16 : 0u);
}

/// Where lines of bf16 can be read as pairs where they lie.
inline bool pairs_in_place(const bf16* start, Index ld, Index k) {
    return k % 2 == 0 && ld % 2 == 0 && reinterpret_cast<std::uintptr_t>(start) % alignof(Bf16Pair) == 0;
}

template <>
inline void pack_columns<Bf16Pair>(const Operand& b, const void* base, Index k0, Index k, Index first, Index columns,
                                   Bf16Pair* to, GrowingBuffer& lines, ProcessorLevel) {
    constexpr Index panel = Tile<float>::columns;
    const Index steps = (k + 1) / 2;
    const auto* values = static_cast<const bf16*>(base);
    for (Index j = 0; j < columns; j += panel, to += steps * panel) {
        const Index count = std::min(panel, columns - j);
        if (!b.transposed) {
            for (Index p = 0; p < k; p += 2) {
                const bf16* line = values + (k0 + p) * b.ld + first + j;
                Bf16Pair* row = to + p / 2 * panel;
                pair_up(line, p + 1 < k ? line + b.ld : nullptr, count, row);
                std::fill(row + count, row + panel, Bf16Pair{0});
            }
            continue;
        }
        Bf16Pair* pairs = lines.at_least<Bf16Pair>(panel * steps);
        for (Index i = 0; i < count; ++i) pair_up(values + (first + j + i) * b.ld + k0, k, pairs + i * steps);
        std::fill(pairs + count * steps, pairs + panel * steps, Bf16Pair{0});
        transpose_panel(reinterpret_cast<const float*>(pairs), steps, steps, reinterpret_cast<float*>(to));
    }
}

template <>
inline Rows<Bf16Pair> rows_of<Bf16Pair>(const Operand& a, const void* base, Index row0, Index rows, Index k0, Index k,
                                        bool reused, GrowingBuffer& buffer, ProcessorLevel) {
    const Index steps = (k + 1) / 2;
    const bf16* start = static_cast<const bf16*>(base) + (a.transposed ? k0 * a.ld + row0 : row0 * a.ld + k0);
    if (!a.transposed && !reused && pairs_in_place(start, a.ld, k))
        return {reinterpret_cast<const Bf16Pair*>(start), a.ld / 2, 1};
    const Index stride = row_distance<Bf16Pair>(steps);
    Bf16Pair* pairs = buffer.at_least<Bf16Pair>(a.transposed ? rows * steps : rows * stride);
    if (!a.transposed) {
        for (Index i = 0; i < rows; ++i) pair_up(start + i * a.ld, k, pairs + i * stride);
        return {pairs, stride, 1};
    }
    for (Index p = 0; p < k; p += 2)
        pair_up(start + p * a.ld, p + 1 < k ? start + (p + 1) * a.ld : nullptr, rows, pairs + p / 2 * rows);
    return {pairs, 1, rows};
}

}  // namespace PROMPTKD_CPU_ABI
}  // namespace promptkd::detail
