// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/dtype.hpp>
#include <promptkd/device/attention_kernel.hpp>
#include <promptkd/op/attention.hpp>
#include <promptkd/op/mma_fragments.hpp>

#include <cmath>
#include <numbers>

namespace promptkd {

/// A device with matrix units for its activations: see device/matrix_team.hpp.
template <class D>
concept MatrixDevice = Device<D> && std::is_same_v<typename D::Scalar, float> && sizeof(typename D::Activation) == 2 &&
                       requires(const D& device) {
    device.matrix_memory_bytes();
};

/// Whether the device computes this attention on its matrix units: it was told to, has them, its activations are of 16
/// bits, heads have 64 or 80 values and sequences at most 600 tokens, all rows are queries, no prefix is shared, and
/// the last row sees what the others do. Scores then never reach memory: what is kept is a number a query.
template <Device D>
bool uses_mma_attention(const D& device, const AttentionShape& shape);

namespace detail {

/// What the kernels share. Team of a launch ↔ (sequence, head, tile of `rows` rows); a warp has 16 of these rows.
template <class A, int HeadDim>
struct MmaAttention {
    static constexpr int warps = 4, rows = 16 * warps;
    using Tile = MemoryTile<rows, HeadDim>;

    Sequences s;
    Index heads;
    Index tiles;  // of a sequence
    float scale;  // 1/√HeadDim

    struct Place {
        Index head, base;  // base: first row of the sequence
        int first;         // of the tile in the sequence
    };
    PROMPTKD_HD Place place(Index team) const {
        const Division tile = divide(team, tiles), head = divide(tile.quotient, heads);
        return {head.remainder, head.quotient * s.length, static_cast<int>(tile.remainder) * rows};
    }
    PROMPTKD_HD int length() const { return static_cast<int>(s.length); }
    /// Scores are exponents of two in units of this.
    PROMPTKD_HD float scale_2() const { return scale * std::numbers::log2e_v<float>; }
    /// Tiles of keys that some query of the tile sees.
    PROMPTKD_HD int visible_tiles(const Place& at) const {
        return s.causal ? at.first / rows + 1 : static_cast<int>(tiles);
    }

    /// Begins to copy rows first … first + 63 of a head to a tile; rows behind the sequence are zero.
    template <class Team>
    PROMPTKD_HD void fetch(Team& team, const Place& at, Matrix<const A> x, int first, A* to) const {
        const A* from = x.data + (at.base + first) * x.ld + at.head * HeadDim;
        const int left = length() - first, ld = static_cast<int>(x.ld);
        team.template copy_async<16, Tile::chunks>(rows, [=](int row, int chunk) {
            const bool inside = row < left;
            return AsyncCopy{to + row * Tile::ld + 8 * chunk, from + (inside ? row * ld : 0) + 8 * chunk, inside};
        });
    }
    /// Rows of the team's tile to y.
    template <class Team>
    PROMPTKD_HD void store(Team& team, const Place& at, const A* tile, Matrix<A> y) const {
        const Index ld = y.ld;
        A* to = y.data + (at.base + at.first) * ld + at.head * HeadDim;
        const int left = length() - at.first, count = left < rows ? left : rows;
        team.template items<Tile::chunks>(count, [=](int row, int chunk) {
            copy_chunk(to + row * ld + 8 * chunk, tile + row * Tile::ld + 8 * chunk);
        });
    }
    /// numbers[row of the tile] of every query of a warp: f(lane, half, its number) for queries inside the sequence.
    template <class Warp, class N, class F>
    PROMPTKD_HD void each_number(Warp& warp, const Place& at, N* numbers, const F& f) const {
        const int first = at.first + 16 * warp.index();
        N* own = numbers + at.head * s.rows() + at.base + first;
        const int left = length() - first;
        warp.lanes([&](int lane) {
            unrolled<2>([&](auto half) {
                const int row = accumulator_place(lane, 2 * half).row;
                if (row < left) f(lane, half, own[row]);
            });
        });
    }
};

/// What of a tile of 64 keys the 16 queries of a warp may see, counted from its first key.
struct MmaWindow {
    int keys;   // of the sequence from there on
    int query;  // the warp's first
    bool causal;

    PROMPTKD_HD bool sees(const FragmentPlace& place, int first_column) const {
        const int key = first_column + place.column;
        return key < keys && (!causal || key <= query + place.row);
    }
    /// Whether all see all of the tile.
    PROMPTKD_HD bool whole(int rows) const { return keys >= rows && (!causal || query >= rows - 1); }
};

/// o = softmax(q·kᵀ·scale)·v and log Σ exp of every query's scores. The tiles of keys and values pass through a team's
/// memory, the next one on its way while one is used; a larger score than all before scales what was summed (Milakov
/// and Gimelshein, Online normalizer calculation for softmax, 2018, algorithm 3).
template <class A, int HeadDim>
struct MmaAttentionForward {
    using M = MmaAttention<A, HeadDim>;
    using Tile = typename M::Tile;
    static constexpr int warps = M::warps, teams_at_once = HeadDim == 64 ? 4 : 3;

    M m;
    Matrix<const A> q, k, v;
    Matrix<A> o;
    float* log_sum;  // (heads, rows)

    Index memory_bytes() const { return Index{5} * Tile::values * static_cast<Index>(sizeof(A)); }

    template <class Warp>
    struct State {
        typename Warp::template Values<std::uint32_t, HeadDim / 4> q;
        typename Warp::template Values<float, HeadDim / 2> o;
        typename Warp::template Values<float, 2> top, total;  // of each row: the largest score, Σ 2^(score − top)
    };

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        using Warp = typename Team::Warp;
        const typename M::Place at = m.place(row);
        A* queries = team.template memory<A>();
        A* pairs = queries + Tile::values;
        typename Team::template OfWarps<State<Warp>> states;
        m.fetch(team, at, q, at.first, queries);
        team.commit();
        fetch_keys(team, at, 0, pairs);
        team.template wait<1>();
        team.warps([&](Warp& warp) { begin(warp, states(warp), queries); });
        const int count = m.visible_tiles(at);
        for (int j = 0; j < count; ++j) {
            if (j + 1 < count) {
                fetch_keys(team, at, j + 1, pairs);
                team.template wait<1>();
            } else {
                team.template wait<0>();
            }
            team.warps([&](Warp& warp) {
                const int first = at.first + 16 * warp.index(), passed = j * M::rows;
                const MmaWindow window{m.length() - passed, first - passed, m.s.causal};
                if (first < m.length()) step(warp, states(warp), tiles_of(pairs, j), window);
            });
        }
        team.warps([&](Warp& warp) { finish(warp, states(warp), at, queries); });
        m.store(team, at, queries, o);
    }

private:
    PROMPTKD_HD static A* tiles_of(A* pairs, int j) { return pairs + j % 2 * 2 * Tile::values; }

    /// Tile j of the keys, and the values behind it.
    template <class Team>
    PROMPTKD_HD void fetch_keys(Team& team, const typename M::Place& at, int j, A* pairs) const {
        A* to = tiles_of(pairs, j);
        m.fetch(team, at, k, j * M::rows, to);
        m.fetch(team, at, v, j * M::rows, to + Tile::values);
        team.commit();
    }

    template <class Warp>
    PROMPTKD_HD void begin(Warp& warp, State<Warp>& x, const A* queries) const {
        Tile::load_left(warp, x.q, queries + 16 * warp.index() * Tile::ld);
        fill<HeadDim / 2>(warp, x.o, 0.0f);
        fill<2>(warp, x.top, -INFINITY);
        fill<2>(warp, x.total, 0.0f);
    }

    template <class Warp>
    PROMPTKD_HD void step(Warp& warp, State<Warp>& x, const A* keys, const MmaWindow& window) const {
        constexpr int parts = M::rows / 16;
        typename Warp::template Values<float, 8 * parts> scores;
        typename Warp::template Values<std::uint32_t, 4 * parts> weights;
        fill<8 * parts>(warp, scores, 0.0f);
        unrolled<parts>([&](auto p) {
            if (16 * p < window.keys) Tile::add_products(warp, scores, 2 * p, x.q, keys + 16 * p * Tile::ld);
        });
        if (!window.whole(M::rows)) hide(warp, scores, window);
        weigh(warp, x, scores, weights);
        const A* values = keys + Tile::values;
        unrolled<parts>([&](auto p) {
            if (16 * p < window.keys) Tile::add_mix(warp, x.o, weights, p, values + 16 * p * Tile::ld);
        });
    }

    template <class Warp, class Scores>
    PROMPTKD_HD static void hide(Warp& warp, Scores& scores, const MmaWindow& window) {
        warp.lanes([&](int lane) {
            unrolled<M::rows / 2>([&](auto i) {
                if (!window.sees(accumulator_place(lane, i % 4), i / 4 * 8)) scores.at(lane, i) = -INFINITY;
            });
        });
    }

    /// The weights 2^(score − top) as left factors; o and the sums become those of the new top.
    template <class Warp, class Scores, class Weights>
    PROMPTKD_HD void weigh(Warp& warp, State<Warp>& x, Scores& scores, Weights& weights) const {
        typename Warp::template Values<float, 2> top;
        warp.lanes([&](int lane) {
            unrolled<2>([&](auto half) {
                float best = x.top.at(lane, half);
                unrolled<M::rows / 4>([&](auto c) {
                    const float score = scores.at(lane, 4 * (c / 2) + 2 * half + c % 2);
                    best = best < score ? score : best;
                });
                top.at(lane, half) = best;
            });
        });
        warp.quad_max(top, 0);
        warp.quad_max(top, 1);
        warp.lanes([&](int lane) {
            unrolled<2>([&](auto half) { rescale(warp, x, scores, lane, half, top.at(lane, half)); });
            unrolled<M::rows / 16>([&](auto p) { pack_left<A, Warp>(scores, 2 * p, weights, p, lane); });
        });
    }

    template <class Warp, class Scores, class Half>
    PROMPTKD_HD void rescale(Warp& warp, State<Warp>& x, Scores& scores, int lane, Half half, float top) const {
        const float unit = m.scale_2(), shrink = warp.exp2((x.top.at(lane, half) - top) * unit), shift = -top * unit;
        x.top.at(lane, half) = top;
        float total = x.total.at(lane, half) * shrink;
        unrolled<M::rows / 4>([&](auto c) {
            float& score = scores.at(lane, 4 * (c / 2) + 2 * half + c % 2);
            score = warp.exp2(std::fma(score, unit, shift));
            total += score;
        });
        x.total.at(lane, half) = total;
        unrolled<HeadDim / 4>([&](auto c) { x.o.at(lane, 4 * (c / 2) + 2 * half + c % 2) *= shrink; });
    }

    /// o to the warp's rows of `tile`, the logarithms to memory.
    template <class Warp>
    PROMPTKD_HD void finish(Warp& warp, State<Warp>& x, const typename M::Place& at, A* tile) const {
        if (at.first + 16 * warp.index() >= m.length()) return;
        warp.quad_sum(x.total, 0);
        warp.quad_sum(x.total, 1);
        Tile::template store<A>(warp, x.o, tile + 16 * warp.index() * Tile::ld,
                                [&](int lane, auto half) { return 1.0f / x.total.at(lane, half); });
        m.each_number(warp, at, log_sum, [&](int lane, auto half, float& number) {
            if (lane % 4 == 0) number = std::fma(x.top.at(lane, half), m.scale, std::log(x.total.at(lane, half)));
        });
    }
};

/// The shared part of the kernels for `shape`. Throws Error where rows are not at multiples of 16 bytes.
template <class A, int HeadDim>
MmaAttention<A, HeadDim> mma_attention(const AttentionShape& shape) {
    MmaAttention<A, HeadDim> m;
    m.s = shape.sequences;
    m.heads = shape.heads;
    m.tiles = (m.s.length + m.rows - 1) / m.rows;
    m.scale = static_cast<float>(shape.scale());
    return m;
}

/// Throws Error unless the rows of all matrices begin at multiples of 16 bytes, as the kernels' copies need them.
template <class... A>
void require_chunks(const char* what, const Matrix<A>&... x) {
    require(((x.ld % 8 == 0 && reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0) && ...), what,
            ": rows of an attention on the matrix units must begin at multiples of 16 bytes");
}

/// Teams of a launch.
template <class M>
Index mma_teams(const M& m) {
    return m.s.count * m.heads * m.tiles;
}

/// f(integral constant) with the values of a head, 64 or 80.
template <class F>
void with_head_dim(Index head_dim, const F& f) {
    require(head_dim == 64 || head_dim == 80, "attention on the matrix units takes heads of 64 or 80 values, not of ",
            head_dim);
    if (head_dim == 64) return f(std::integral_constant<int, 64>());
    f(std::integral_constant<int, 80>());
}

/// Bytes of team memory that the largest kernel takes.
inline Index mma_attention_bytes(Index head_dim) { return 64 * (6 * (head_dim + 8) * 2 + 16); }

}  // namespace detail

template <Device D>
bool uses_mma_attention([[maybe_unused]] const D& device, [[maybe_unused]] const AttentionShape& shape) {
    if constexpr (MatrixDevice<D>) {
        const Sequences& s = shape.sequences;
        return device.attention() == AttentionKernel::mma && (shape.head_dim == 64 || shape.head_dim == 80) &&
               s.length <= 600 && s.prefix == 0 && !s.last_row_keys && !shape.selection &&
               detail::mma_attention_bytes(shape.head_dim) <= device.matrix_memory_bytes();
    } else {
        return false;
    }
}

/// o (rows, width) = attention(x.q, x.k, x.v), see attention_forward; log_sum (heads·rows values) is what the backward
/// pass needs. Weights are rounded to A before they are divided by their sum, which is one of fp32. Only for shapes
/// that uses_mma_attention() takes; throws Error for rows that do not begin at multiples of 16 bytes.
template <Device D, class A>
void mma_attention_forward(D& device, const AttentionShape& shape,
                           const std::type_identity_t<QueriesKeysValues<const A>>& x, float* log_sum, Matrix<A> o) {
    x.require_fit(shape, "attention: an input");
    require_shape(o, shape.queries(), shape.width(), "attention: the output");
    detail::require_chunks("attention", x.q, x.k, x.v, o);
    detail::with_head_dim(shape.head_dim, [&](auto head_dim) {
        const auto m = detail::mma_attention<A, head_dim>(shape);
        device.matrix_teams(detail::mma_teams(m),
                            detail::MmaAttentionForward<A, head_dim>{m, x.q, x.k, x.v, o, log_sum});
    });
}

}  // namespace promptkd
