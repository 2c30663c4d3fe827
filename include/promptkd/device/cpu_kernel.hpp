// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/eigen.hpp>

#include <utility>

namespace promptkd::detail {

/// The processor's vectors of T, through Eigen's packets, and the tile of C that one call of the kernel computes:
/// rows × columns accumulators fill the registers, but for two of B's columns and one element of A.
template <class T>
struct Tile {
    using Packet = typename Eigen::internal::packet_traits<T>::type;
    static constexpr Index width = Eigen::internal::unpacket_traits<Packet>::size;
    static constexpr Index rows = EIGEN_ARCH_DEFAULT_NUMBER_OF_REGISTERS >= 32 ? 14 : 6;
    static constexpr Index columns = 2 * width;
    /// Depth of a block: a panel of B of this depth (48 KiB) is read from the second-level cache.
    static constexpr Index depth = 49152 / (columns * static_cast<Index>(sizeof(T)));
    /// Rows of A that are used again for each panel of B, from the second-level cache.
    static constexpr Index chunk_rows = rows * (96 / rows);
};

template <class T, Index... I>
inline void accumulate(typename Tile<T>::Packet* left, typename Tile<T>::Packet* right, const T* a, Index row_stride,
                       typename Tile<T>::Packet b0, typename Tile<T>::Packet b1, std::integer_sequence<Index, I...>) {
    using namespace Eigen::internal;
    using Packet = typename Tile<T>::Packet;
    const auto row = [&](Index i) {
        const Packet x = pset1<Packet>(a[i * row_stride]);
        left[i] = pmadd(x, b0, left[i]);
        right[i] = pmadd(x, b1, right[i]);
    };
    (row(I), ...);
}

/// tile (Rows × Tile::columns) = Σ_p A(i, p)·B(p, j), p < k, in the order of p. A(i, p) = a[i·row_stride + p·step];
/// B is a packed panel: `columns` values for each p.
template <class T, Index Rows>
void multiply_tile(Index k, const T* a, Index row_stride, Index step, const T* b, T* tile) {
    using namespace Eigen::internal;
    using Packet = typename Tile<T>::Packet;
    constexpr auto all = std::make_integer_sequence<Index, Rows>{};
    Packet left[Rows], right[Rows];
    for (Index i = 0; i < Rows; ++i) left[i] = right[i] = pset1<Packet>(T(0));
    for (Index p = 0; p < k; ++p, a += step, b += Tile<T>::columns)
        accumulate<T>(left, right, a, row_stride, pload<Packet>(b), pload<Packet>(b + Tile<T>::width), all);
    for (Index i = 0; i < Rows; ++i) {
        pstore(tile + i * Tile<T>::columns, left[i]);
        pstore(tile + i * Tile<T>::columns + Tile<T>::width, right[i]);
    }
}

template <class T>
using TileKernel = void (*)(Index, const T*, Index, Index, const T*, T*);

template <class T, Index... R>
constexpr TileKernel<T> kernel_of(Index rows, std::integer_sequence<Index, R...>) {
    constexpr TileKernel<T> kernels[] = {&multiply_tile<T, R + 1>...};
    return kernels[rows - 1];
}

/// The kernel for the last `rows` rows of a product, 1 ≤ rows ≤ Tile::rows.
template <class T>
TileKernel<T> tile_kernel(Index rows) {
    return kernel_of<T>(rows, std::make_integer_sequence<Index, Tile<T>::rows>{});
}

}  // namespace promptkd::detail
