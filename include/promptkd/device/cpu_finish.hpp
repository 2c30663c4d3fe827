// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/cpu_pack.hpp>

namespace promptkd::detail {

/// Where the tiles of a product go: C's tile ← α·tile + (in the first block) β·C + bias + residual, else + C.
template <class T>
class TileFinish {
public:
    /// C of this product starts `offset` elements behind gemm.c.
    TileFinish(const Gemm& gemm, Index offset) : g_(gemm), offset_(offset) {
        require(gemm.c_type == dtype_of<T> || gemm.c_type == DType::f16 || gemm.c_type == DType::bf16,
                "product: a result of type ", name_of(gemm.c_type), " is not supported");
    }

    /// `tile` has rows of Tile::columns sums for C's rows [row, row + rows) and columns [column, column + columns).
    void operator()(const T* tile, bool first, Index row, Index rows, Index column, Index columns) const {
        if (g_.c_type == dtype_of<T>)
            finish_as<T>(tile, first, row, rows, column, columns);
        else if (g_.c_type == DType::f16)
            finish_as<half>(tile, first, row, rows, column, columns);
        else
            finish_as<bf16>(tile, first, row, rows, column, columns);
    }

private:
    template <class C>
    void finish_as(const T* tile, bool first, Index row, Index rows, Index column, Index columns) const {
        const T beta = first ? static_cast<T>(g_.beta) : T(1), alpha = static_cast<T>(g_.alpha);
        const T* bias = first && g_.bias ? static_cast<const T*>(g_.bias) + column : nullptr;
        for (Index i = 0; i < rows; ++i, tile += Tile<T>::columns) {
            const Index at = offset_ + (row + i) * g_.ldc + column;
            C* c = static_cast<C*>(g_.c) + at;
            const C* add = first && g_.residual ? static_cast<const C*>(g_.residual) + at : nullptr;
            if (columns == Tile<T>::columns) {
                finish_row(tile, alpha, beta, bias, add, c);
                continue;
            }
            for (Index j = 0; j < columns; ++j) {
                T value = alpha * tile[j];
                if (beta != T(0)) value += beta * static_cast<T>(c[j]);
                if (bias) value += bias[j];
                if (add) value += static_cast<T>(add[j]);
                c[j] = C(value);
            }
        }
    }

    template <class C>
    static void finish_row(const T* tile, T alpha, T beta, const T* bias, const C* add, C* c) {
        using namespace Eigen::internal;
        using Packet = PacketOf<T>;
        for (Index j = 0; j < Tile<T>::columns; j += packet_width<T>) {
            Packet value = pmul(pset1<Packet>(alpha), pload<Packet>(tile + j));
            if (beta != T(0)) value = padd(value, pmul(pset1<Packet>(beta), load_packet<T>(c + j)));
            if (bias) value = padd(value, ploadu<Packet>(bias + j));
            if (add) value = padd(value, load_packet<T>(add + j));
            store_packet<T>(c + j, value);
        }
    }

    const Gemm& g_;
    Index offset_;
};

}  // namespace promptkd::detail
