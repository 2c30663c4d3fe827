// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/eigen.hpp>
#include <promptkd/device/cpu/convert.hpp>

#include <cstdint>
#include <utility>

#if defined(__AVX512BF16__) && defined(EIGEN_VECTORIZE_AVX512) && !defined(__CUDACC__)
#include <immintrin.h>
#define PROMPTKD_BF16_PRODUCTS  ///< products of two bf16 factors have a kernel of their own
#endif

namespace promptkd::detail {

/// The tile of C that one call of the kernel computes: rows × columns sums, in packets, fill the registers but for two
/// of B's columns and one element of A.
template <class T>
struct Tile {
    static constexpr Index rows = EIGEN_ARCH_DEFAULT_NUMBER_OF_REGISTERS >= 32 ? 14 : 6;
    static constexpr Index columns = 2 * packet_width<T>;
    /// Depth of a block, large: C is read and written once a block. A panel of B of this depth is read from the
    /// second-level cache.
    static constexpr Index depth = 4096 / static_cast<Index>(sizeof(T));
    /// Rows of A that are used again for each panel of B, from the second-level cache.
    static constexpr Index chunk_rows = rows * (rows > 6 ? 4 : 12);
};

/// How the kernel takes one step along the inner dimension: E is what the factor A is made of, each of which holds
/// `terms` terms of the sum. The panels of B are made of E, too, or of a 16-bit type that is widened as it is loaded.
template <class T, class E = T>
struct Step {
    using Packet = PacketOf<T>;
    using Vector = Packet;
    static constexpr Index terms = 1;
    EIGEN_ALWAYS_INLINE static Vector broadcast(E a) { return Eigen::internal::pset1<Vector>(a); }
    EIGEN_ALWAYS_INLINE static Vector load(const E* b) { return Eigen::internal::pload<Vector>(b); }
    template <class B>
    EIGEN_ALWAYS_INLINE static Vector load(const B* b) {
        return load_packet<T>(b);
    }
    EIGEN_ALWAYS_INLINE static Packet multiply_add(Vector a, Vector b, Packet sum) {
        return Eigen::internal::pmadd(a, b, sum);
    }
};

/// Two bf16 values that follow one another along the inner dimension, also read where a matrix of bf16 lies.
struct [[gnu::may_alias]] Bf16Pair {
    std::uint32_t bits;
};

#ifdef PROMPTKD_BF16_PRODUCTS
/// The processor multiplies pairs of bf16 and adds both products to a float: twice the rate of floats.
template <>
struct Step<float, Bf16Pair> {
    using Packet = PacketOf<float>;
    using Vector = __m512i;
    static constexpr Index terms = 2;
    EIGEN_ALWAYS_INLINE static Vector broadcast(Bf16Pair a) { return _mm512_set1_epi32(static_cast<int>(a.bits)); }
    EIGEN_ALWAYS_INLINE static Vector load(const Bf16Pair* b) { return _mm512_load_si512(b); }
    EIGEN_ALWAYS_INLINE static Packet multiply_add(Vector a, Vector b, Packet sum) {
        return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
    }
};
#endif

// Inlined by force: a call in the innermost loop moves the sums from registers to memory, at a quarter of the speed.
template <class T, class E, bool Narrow>
EIGEN_ALWAYS_INLINE void accumulate_row(PacketOf<T>& left, [[maybe_unused]] PacketOf<T>& right, E a,
                                        typename Step<T, E>::Vector b0,
                                        [[maybe_unused]] typename Step<T, E>::Vector b1) {
    const auto x = Step<T, E>::broadcast(a);
    left = Step<T, E>::multiply_add(x, b0, left);
    if constexpr (!Narrow) right = Step<T, E>::multiply_add(x, b1, right);
}

template <class T, class E, bool Narrow, Index... I>
EIGEN_ALWAYS_INLINE void accumulate(PacketOf<T>* left, PacketOf<T>* right, const E* a, Index row_stride,
                                    typename Step<T, E>::Vector b0, typename Step<T, E>::Vector b1,
                                    std::integer_sequence<Index, I...>) {
    (accumulate_row<T, E, Narrow>(left[I], right[I], a[I * row_stride], b0, b1), ...);
}

/// tile (Rows × Tile::columns) = Σ_p A(i, p)·B(p, j), p < steps, in the order of p. A(i, p) = a[i·row_stride +
/// p·stride]; B is a packed panel: `columns` values for each p. Narrow: only the first half of the columns.
template <class T, class E, class B, bool Narrow, Index Rows>
void multiply_tile(Index steps, const E* a, Index row_stride, Index stride, const B* b, T* tile) {
    using namespace Eigen::internal;
    using Packet = PacketOf<T>;
    constexpr auto all = std::make_integer_sequence<Index, Rows>{};
    Packet left[std::size_t{Rows}], right[std::size_t{Rows}];
    for (Index i = 0; i < Rows; ++i) left[i] = right[i] = pset1<Packet>(T(0));
    for (Index p = 0; p < steps; ++p, a += stride, b += Tile<T>::columns) {
        const auto b0 = Step<T, E>::load(b), b1 = Narrow ? b0 : Step<T, E>::load(b + packet_width<T>);
        accumulate<T, E, Narrow>(left, right, a, row_stride, b0, b1, all);
    }
    for (Index i = 0; i < Rows; ++i) {
        pstore(tile + i * Tile<T>::columns, left[i]);
        if constexpr (!Narrow) pstore(tile + i * Tile<T>::columns + packet_width<T>, right[i]);
    }
}

template <class T, class E, class B>
using TileKernel = void (*)(Index, const E*, Index, Index, const B*, T*);

template <class T, class E, class B, bool Narrow, Index... R>
constexpr TileKernel<T, E, B> kernel_of(Index rows, std::integer_sequence<Index, R...>) {
    constexpr TileKernel<T, E, B> kernels[] = {&multiply_tile<T, E, B, Narrow, R + 1>...};
    return kernels[rows - 1];
}

/// The kernel for a tile of `rows` rows, 1 ≤ rows ≤ Tile::rows, of which `columns` columns are wanted.
template <class T, class E, class B>
TileKernel<T, E, B> tile_kernel(Index rows, Index columns = Tile<T>::columns) {
    constexpr auto heights = std::make_integer_sequence<Index, Tile<T>::rows>{};
    return columns <= packet_width<T> ? kernel_of<T, E, B, true>(rows, heights)
                                      : kernel_of<T, E, B, false>(rows, heights);
}

}  // namespace promptkd::detail
