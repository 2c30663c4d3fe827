// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/cpu/pack.hpp>

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
        const Index whole = columns / packet_width<T> * packet_width<T>, rest = columns - whole;
        for (Index i = 0; i < rows; ++i, tile += Tile<T>::columns) {
            const Index at = offset_ + (row + i) * g_.ldc + column;
            C* c = static_cast<C*>(g_.c) + at;
            const C* add = first && g_.residual ? static_cast<const C*>(g_.residual) + at : nullptr;
            for (Index j = 0; j < whole; j += packet_width<T>)
                store_packet<T>(c + j, finished(tile + j, alpha, beta, bias ? bias + j : nullptr,
                                                add ? add + j : nullptr, c + j, WholePacket{}));
            if (rest > 0)
                store_first<T>(c + whole,
                               finished(tile + whole, alpha, beta, bias ? bias + whole : nullptr,
                                        add ? add + whole : nullptr, c + whole, FirstOfPacket{rest}),
                               rest);
        }
    }

    struct WholePacket {
        template <class P>
        EIGEN_ALWAYS_INLINE PacketOf<T> operator()(const P* p) const {
            return load_packet<T>(p);
        }
    };
    struct FirstOfPacket {
        Index n;
        template <class P>
        EIGEN_ALWAYS_INLINE PacketOf<T> operator()(const P* p) const {
            return load_first<T>(p, n);
        }
    };

    template <class C, class Load>
    EIGEN_ALWAYS_INLINE static PacketOf<T> finished(const T* tile, T alpha, T beta, const T* bias, const C* add,
                                                    const C* c, const Load& load) {
        using namespace Eigen::internal;
        using Packet = PacketOf<T>;
        Packet value = pmul(pset1<Packet>(alpha), pload<Packet>(tile));
        if (beta != T(0)) value = padd(value, pmul(pset1<Packet>(beta), load(c)));
        if (bias) value = padd(value, load(bias));
        if (add) value = padd(value, load(add));
        return value;
    }

    const Gemm& g_;
    Index offset_;
};

}  // namespace promptkd::detail
