// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/cpu/pack.hpp>
#include <promptkd/device/cpu/packets.hpp>

namespace promptkd::detail {
inline namespace PROMPTKD_CPU_ABI {

/// Rows [row, row + rows) and columns [column, column + columns) of C.
struct TilePlace {
    Index row, rows, column, columns;
};

/// Where the tiles of a product go: C's tile ← α·tile + (in the first block) β·C + bias + residual, else + C.
template <class T>
class TileFinish {
public:
    /// C of this product starts `offset` elements behind gemm.c.
    TileFinish(const Gemm& gemm, Index offset) : g_(gemm), offset_(offset) {
        require(gemm.c_type == dtype_of<T> || gemm.c_type == DType::f16 || gemm.c_type == DType::bf16,
                "product: a result of type ", name_of(gemm.c_type), " is not supported");
    }

    /// `tile` has rows of Tile::columns sums for `place` in C.
    void operator()(const T* tile, bool first, const TilePlace& place, ProcessorLevel level) const {
        at_level(level, [&](auto compiled_for) {
            using Level = decltype(compiled_for);
            if (g_.c_type == dtype_of<T>)
                finish_as<T, Level>(tile, first, place);
            else if (g_.c_type == DType::f16)
                finish_as<half, Level>(tile, first, place);
            else
                finish_as<bf16, Level>(tile, first, place);
        });
    }

private:
    template <class C, class Level>
    void finish_as(const T* tile, bool first, const TilePlace& place) const {
        using Ops = Packets<T, Level>;
        const T beta = first ? static_cast<T>(g_.beta) : T(1), alpha = static_cast<T>(g_.alpha);
        const T* bias = first && g_.bias ? static_cast<const T*>(g_.bias) + place.column : nullptr;
        const Index whole = place.columns / Ops::width * Ops::width, rest = place.columns - whole;
        for (Index i = 0; i < place.rows; ++i, tile += Tile<T>::columns) {
            const Index at = offset_ + (place.row + i) * g_.ldc + place.column;
            C* c = static_cast<C*>(g_.c) + at;
            const C* add = first && g_.residual ? static_cast<const C*>(g_.residual) + at : nullptr;
            typename Ops::Packet value;
            for (Index j = 0; j < whole; j += Ops::width) {
                finish(WholePacket<Ops>{}, alpha, beta, tile + j, bias ? bias + j : nullptr, add ? add + j : nullptr,
                       c + j, value);
                Ops::store(c + j, value);
            }
            if (rest > 0) {
                finish(FirstOfPacket<Ops>{rest}, alpha, beta, tile + whole, bias ? bias + whole : nullptr,
                       add ? add + whole : nullptr, c + whole, value);
                Ops::store_first(c + whole, value, rest);
            }
        }
    }

    template <class PacketOps>
    struct WholePacket {
        using Ops = PacketOps;
        template <class P>
        EIGEN_ALWAYS_INLINE void operator()(const P* p, typename Ops::Packet& to) const {
            Ops::load(p, to);
        }
    };
    template <class PacketOps>
    struct FirstOfPacket {
        using Ops = PacketOps;
        Index n;
        template <class P>
        EIGEN_ALWAYS_INLINE void operator()(const P* p, typename Ops::Packet& to) const {
            Ops::load_first(p, n, to);
        }
    };

    template <class C, class Load>
    EIGEN_ALWAYS_INLINE static void finish(const Load& load, T alpha, T beta, const T* tile, const T* bias,
                                           const C* add, const C* c, typename Load::Ops::Packet& value) {
        using Ops = typename Load::Ops;
        typename Ops::Packet x;
        Ops::load(tile, value);
        Ops::scale(alpha, value);
        if (beta != T(0)) {
            load(c, x);
            Ops::scale(beta, x);
            Ops::add(x, value);
        }
        if (bias) {
            load(bias, x);
            Ops::add(x, value);
        }
        if (add) {
            load(add, x);
            Ops::add(x, value);
        }
    }

    const Gemm& g_;
    Index offset_;
};

}  // namespace PROMPTKD_CPU_ABI
}  // namespace promptkd::detail
