// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/eigen.hpp>
#include <promptkd/device/cpu/convert.hpp>
#include <promptkd/device/cpu/level.hpp>

#include <cstdint>
#include <utility>

#if defined(__AVX512BF16__) && defined(EIGEN_VECTORIZE_AVX512) && !defined(__CUDACC__)
#include <immintrin.h>
#define PROMPTKD_BF16_PRODUCTS  ///< products of two bf16 factors have a kernel of their own
#endif

namespace promptkd::detail {
inline namespace PROMPTKD_CPU_ABI {

#ifdef PROMPTKD_DISPATCH
/// Whether products of T choose their kernel when the program runs. Panels then have one width, whatever the kernel.
template <class T>
inline constexpr bool chooses_kernel = sizeof(T) == 4;
#else
template <class T>
inline constexpr bool chooses_kernel = false;
#endif

/// The tile of C that one call of a kernel computes: rows × columns sums, in packets, fill the registers but for two
/// of B's columns and one element of A.
struct TileShape {
    Index rows, columns;
    Index chunk_rows;  ///< rows of A that are used again for each panel of B, from the second-level cache
};

inline constexpr TileShape tile_of_16_registers(Index packet) { return {6, 2 * packet, 72}; }
inline constexpr TileShape tile_of_32_registers(Index packet) { return {14, 2 * packet, 56}; }

/// The tile of the kernels that the program is compiled for.
template <class T>
inline constexpr TileShape compiled_tile = EIGEN_ARCH_DEFAULT_NUMBER_OF_REGISTERS >= 32
                                               ? tile_of_32_registers(packet_width<T>)
                                               : tile_of_16_registers(packet_width<T>);

/// What holds for all tiles of T: the most rows, and the columns of a panel of B, one or more tiles wide.
template <class T>
struct Tile {
    static constexpr Index rows = chooses_kernel<T> ? 14 : compiled_tile<T>.rows;
    static constexpr Index columns = chooses_kernel<T> ? 32 : compiled_tile<T>.columns;
    /// Depth of a block, large: C is read and written once a block. A panel of B of this depth is read from the
    /// second-level cache.
    static constexpr Index depth = 4096 / static_cast<Index>(sizeof(T));
};

/// How many terms of a sum one E holds, an element of the factor A.
template <class E>
inline constexpr Index terms_of = 1;

/// How the kernel of a level takes one step along the inner dimension: E is what the factor A is made of. The panels of
/// B are made of E, too, or of a 16-bit type that is widened as it is loaded. Sums are in packets of `width`.
template <class T, class E = T, class Level = Compiled>
struct Step {
    using Packet = PacketOf<T>;
    using Vector = Packet;
    static constexpr Index width = packet_width<T>;
    static constexpr TileShape shape = compiled_tile<T>;
    EIGEN_ALWAYS_INLINE static void zero(Packet& sum) { sum = Eigen::internal::pset1<Packet>(T(0)); }
    EIGEN_ALWAYS_INLINE static void broadcast(E a, Vector& to) { to = Eigen::internal::pset1<Vector>(a); }
    EIGEN_ALWAYS_INLINE static void load(const E* b, Vector& to) { to = Eigen::internal::pload<Vector>(b); }
    template <class B>
    EIGEN_ALWAYS_INLINE static void load(const B* b, Vector& to) {
        to = load_packet<T>(b);
    }
    EIGEN_ALWAYS_INLINE static void store(T* to, const Packet& sum) { Eigen::internal::pstore(to, sum); }
    EIGEN_ALWAYS_INLINE static void multiply_add(const Vector& a, const Vector& b, Packet& sum) {
        sum = Eigen::internal::pmadd(a, b, sum);
    }
};

/// Two bf16 values that follow one another along the inner dimension, also read where a matrix of bf16 lies.
struct [[gnu::may_alias]] Bf16Pair {
    std::uint32_t bits;
};

template <>
inline constexpr Index terms_of<Bf16Pair> = 2;

#ifdef PROMPTKD_BF16_PRODUCTS
/// The processor multiplies pairs of bf16 and adds both products to a float: twice the rate of floats.
template <>
struct Step<float, Bf16Pair> {
    using Packet = PacketOf<float>;
    using Vector = __m512i;
    static constexpr Index width = packet_width<float>;
    static constexpr TileShape shape = compiled_tile<float>;
    EIGEN_ALWAYS_INLINE static void zero(Packet& sum) { sum = Eigen::internal::pset1<Packet>(0.0f); }
    EIGEN_ALWAYS_INLINE static void broadcast(Bf16Pair a, Vector& to) {
        to = _mm512_set1_epi32(static_cast<int>(a.bits));
    }
    EIGEN_ALWAYS_INLINE static void load(const Bf16Pair* b, Vector& to) { to = _mm512_load_si512(b); }
    EIGEN_ALWAYS_INLINE static void store(float* to, const Packet& sum) { Eigen::internal::pstore(to, sum); }
    EIGEN_ALWAYS_INLINE static void multiply_add(const Vector& a, const Vector& b, Packet& sum) {
        sum = _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
    }
};
#endif

/// Whether products of pairs of bf16 have a kernel.
inline bool multiplies_pairs([[maybe_unused]] ProcessorLevel level) {
#ifdef PROMPTKD_BF16_PRODUCTS
    return true;
#else
    return level >= ProcessorLevel::v4_bf16;
#endif
}

// Inlined by force: a call in the innermost loop moves the sums from registers to memory, at a quarter of the speed.
template <class S, class E, bool Narrow>
EIGEN_ALWAYS_INLINE void accumulate_row(typename S::Packet& left, [[maybe_unused]] typename S::Packet& right, E a,
                                        const typename S::Vector& b0, [[maybe_unused]] const typename S::Vector& b1) {
    typename S::Vector x;
    S::broadcast(a, x);
    S::multiply_add(x, b0, left);
    if constexpr (!Narrow) S::multiply_add(x, b1, right);
}

template <class S, class E, bool Narrow, Index... I>
EIGEN_ALWAYS_INLINE void accumulate(typename S::Packet* left, typename S::Packet* right, const E* a, Index row_stride,
                                    const typename S::Vector& b0, const typename S::Vector& b1,
                                    std::integer_sequence<Index, I...>) {
    (accumulate_row<S, E, Narrow>(left[I], right[I], a[I * row_stride], b0, b1), ...);
}

/// Where a kernel reads the factor A: A(i, p) = data[i·row_stride + p·stride].
template <class E>
struct Rows {
    const E* data;
    Index row_stride, stride;
};

/// tile (Rows × the kernel's columns) = Σ_p A(i, p)·B(p, j), p < steps, in the order of p. Rows of the tile and of the
/// packed panel B are Tile::columns apart. Narrow: only the first half of the columns.
template <class T, class E, class B, bool Narrow, Index Height, class Level>
EIGEN_ALWAYS_INLINE void multiply_tile_at(Index steps, const Rows<E>& rows, const B* b, T* tile) {
    using S = Step<T, E, Level>;
    constexpr auto all = std::make_integer_sequence<Index, Height>{};
    const E* a = rows.data;
    const Index row_stride = rows.row_stride, stride = rows.stride;
    typename S::Packet left[std::size_t{Height}], right[std::size_t{Height}];
    for (Index i = 0; i < Height; ++i) {
        S::zero(left[i]);
        S::zero(right[i]);
    }
    for (Index p = 0; p < steps; ++p, a += stride, b += Tile<T>::columns) {
        typename S::Vector b0, b1;
        S::load(b, b0);
        if constexpr (Narrow)
            b1 = b0;
        else
            S::load(b + S::width, b1);
        accumulate<S, E, Narrow>(left, right, a, row_stride, b0, b1, all);
    }
    for (Index i = 0; i < Height; ++i) {
        S::store(tile + i * Tile<T>::columns, left[i]);
        if constexpr (!Narrow) S::store(tile + i * Tile<T>::columns + S::width, right[i]);
    }
}

template <class T, class E, class B, bool Narrow, Index Height, class Level>
void multiply_tile(Index steps, const Rows<E>& rows, const B* b, T* tile) {
    Level::run([&] { multiply_tile_at<T, E, B, Narrow, Height, Level>(steps, rows, b, tile); });
}

/// The kernels of a level, one for each height of a tile, for all columns or the first half of them.
template <class T, class E, class B>
struct TileKernels {
    using Kernel = void (*)(Index, const Rows<E>&, const B*, T*);
    TileShape shape;
    Kernel wide[14], narrow[14];

    /// For a tile of `rows` rows, 1 ≤ rows ≤ shape.rows, of which `columns` columns are wanted.
    Kernel of(Index rows, Index columns) const { return (2 * columns <= shape.columns ? narrow : wide)[rows - 1]; }
};

template <class T, class E, class B, class Level, Index... R>
constexpr TileKernels<T, E, B> make_kernels(std::integer_sequence<Index, R...>) {
    return {Step<T, E, Level>::shape,
            {&multiply_tile<T, E, B, false, R + 1, Level>...},
            {&multiply_tile<T, E, B, true, R + 1, Level>...}};
}

template <class T, class E, class B, class Level>
inline constexpr TileKernels<T, E, B> kernels_of =
    make_kernels<T, E, B, Level>(std::make_integer_sequence<Index, Step<T, E, Level>::shape.rows>{});

}  // namespace PROMPTKD_CPU_ABI
}  // namespace promptkd::detail
