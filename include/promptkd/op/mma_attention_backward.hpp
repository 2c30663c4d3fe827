// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/op/mma_attention.hpp>

namespace promptkd {

namespace detail {

/// dq, and for every query Σ_j P_ij·dP_ij: a pass over all keys for the sums, another one for dq, from recomputed
/// probabilities.
template <class A, int HeadDim>
struct MmaAttentionBackwardQueries {
    using M = MmaAttention<A, HeadDim>;
    using Tile = typename M::Tile;
    static constexpr int warps = M::warps, teams_at_once = 3;

    M m;
    Matrix<const A> q, k, v, d_o;
    const float* log_sum;
    Matrix<A> dq;
    float* dots;  // (heads, rows)

    Index memory_bytes() const { return Index{6} * Tile::values * static_cast<Index>(sizeof(A)); }

    template <class Warp>
    struct State {
        typename Warp::template Values<std::uint32_t, HeadDim / 4> q, d_o;
        typename Warp::template Values<float, HeadDim / 2> dq;
        typename Warp::template Values<float, 2> log_sum, dots;  // of each row; the logarithm to base two
    };

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        using Warp = typename Team::Warp;
        const typename M::Place at = m.place(row);
        A* queries = team.template memory<A>();
        A *d_out = queries + Tile::values, *pairs = d_out + Tile::values;
        typename Team::template OfWarps<State<Warp>> states;
        m.fetch(team, at, q, at.first, queries);
        m.fetch(team, at, d_o, at.first, d_out);
        team.commit();
        fetch_keys(team, at, 0, pairs, 0);
        team.template wait<1>();
        team.warps([&](Warp& warp) { begin(warp, states(warp), at, queries); });
        const int count = m.visible_tiles(at);
        for (int i = 0; i < 2 * count; ++i) {
            const bool again = i >= count;
            const int j = again ? i - count : i;
            if (i + 1 < 2 * count) {
                fetch_keys(team, at, i + 1 == count ? 0 : j + 1, pairs, i + 1);
                team.template wait<1>();
            } else {
                team.template wait<0>();
            }
            team.warps([&](Warp& warp) {
                const int first = at.first + 16 * warp.index(), passed = j * M::rows;
                const MmaWindow window{m.length() - passed, first - passed, m.s.causal};
                if (first >= m.length()) return;
                if (i == count) sum_dots(warp, states(warp));
                const A* keys = pairs + i % 2 * 2 * Tile::values;
                if (again)
                    step<true>(warp, states(warp), keys, window);
                else
                    step<false>(warp, states(warp), keys, window);
            });
        }
        team.warps([&](Warp& warp) { finish(warp, states(warp), at, queries); });
        m.store(team, at, queries, dq);
    }

private:
    /// Tile j of the keys and of the values, as the pair of step i.
    template <class Team>
    PROMPTKD_HD void fetch_keys(Team& team, const typename M::Place& at, int j, A* pairs, int i) const {
        A* to = pairs + i % 2 * 2 * Tile::values;
        m.fetch(team, at, k, j * M::rows, to);
        m.fetch(team, at, v, j * M::rows, to + Tile::values);
        team.commit();
    }

    template <class Warp>
    PROMPTKD_HD void begin(Warp& warp, State<Warp>& x, const typename M::Place& at, const A* queries) const {
        const A* own = queries + 16 * warp.index() * Tile::ld;
        Tile::load_left(warp, x.q, own);
        Tile::load_left(warp, x.d_o, own + Tile::values);
        fill<HeadDim / 2>(warp, x.dq, 0.0f);
        fill<2>(warp, x.dots, 0.0f);
        fill<2>(warp, x.log_sum, 0.0f);
        m.each_number(warp, at, log_sum, [&](int lane, auto half, float number) {
            x.log_sum.at(lane, half) = number * std::numbers::log2e_v<float>;
        });
    }

    template <class Warp>
    PROMPTKD_HD static void sum_dots(Warp& warp, State<Warp>& x) {
        warp.quad_sum(x.dots, 0);
        warp.quad_sum(x.dots, 1);
    }

    /// Sixteen keys after the other: the sums, or with Gradient dq.
    template <bool Gradient, class Warp>
    PROMPTKD_HD void step(Warp& warp, State<Warp>& x, const A* keys, const MmaWindow& window) const {
        unrolled<M::rows / 16>([&](auto p) {
            if (16 * p >= window.keys) return;
            const A* own = keys + 16 * p * Tile::ld;
            typename Warp::template Values<float, 8> scores, d_p;
            fill<8>(warp, scores, 0.0f);
            fill<8>(warp, d_p, 0.0f);
            Tile::add_products(warp, scores, 0, x.q, own);
            Tile::add_products(warp, d_p, 0, x.d_o, own + Tile::values);
            warp.lanes([&](int lane) {
                unrolled<8>([&](auto i) {
                    const int half = i % 4 / 2;
                    const bool seen = window.sees(accumulator_place(lane, i % 4), 16 * p + i / 4 * 8);
                    const float exponent = std::fma(scores.at(lane, i), m.scale_2(), -x.log_sum.at(lane, half));
                    const float weight = seen ? warp.exp2(exponent) : 0.0f;
                    if constexpr (Gradient)
                        d_p.at(lane, i) = weight * (d_p.at(lane, i) - x.dots.at(lane, half));
                    else
                        x.dots.at(lane, half) = std::fma(weight, d_p.at(lane, i), x.dots.at(lane, half));
                });
            });
            if constexpr (Gradient) {
                typename Warp::template Values<std::uint32_t, 4> d_s;
                warp.lanes([&](int lane) { pack_left<A, Warp>(d_p, 0, d_s, 0, lane); });
                Tile::add_mix(warp, x.dq, d_s, 0, own);
            }
        });
    }

    template <class Warp>
    PROMPTKD_HD void finish(Warp& warp, State<Warp>& x, const typename M::Place& at, A* tile) const {
        Tile::template store<A>(warp, x.dq, tile + 16 * warp.index() * Tile::ld, [&](int, auto) { return m.scale; });
        m.each_number(warp, at, dots, [&](int lane, auto half, float& number) {
            if (lane % 4 == 0) number = x.dots.at(lane, half);
        });
    }
};

/// dk and dv of a tile of keys, summed in registers over all queries that see them, tile after tile. A warp has 16
/// keys: the scores of its products are those of the queries, transposed.
template <class A, int HeadDim>
struct MmaAttentionBackwardKeys {
    using M = MmaAttention<A, HeadDim>;
    using Tile = typename M::Tile;
    static constexpr int warps = M::warps, teams_at_once = 2;

    M m;
    Matrix<const A> q, k, v, d_o;
    const float *log_sum, *dots;
    Matrix<A> dk, dv;

    Index memory_bytes() const {
        return Index{6} * Tile::values * static_cast<Index>(sizeof(A)) +
               4 * M::rows * static_cast<Index>(sizeof(float));
    }

    template <class Warp>
    struct State {
        typename Warp::template Values<std::uint32_t, HeadDim / 4> k, v;
        typename Warp::template Values<float, HeadDim / 2> dk, dv;
    };

    /// Queries and the gradients of their outputs, with their logarithms and sums, in a team's memory.
    struct Queries {
        A* q;
        float* numbers;
    };

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        using Warp = typename Team::Warp;
        const typename M::Place at = m.place(row);
        A* keys = team.template memory<A>();
        typename Team::template OfWarps<State<Warp>> states;
        const int begin_at = m.s.causal ? at.first / M::rows : 0, count = static_cast<int>(m.tiles);
        m.fetch(team, at, k, at.first, keys);
        m.fetch(team, at, v, at.first, keys + Tile::values);
        team.commit();
        fetch_queries(team, at, begin_at, queries_of(keys, begin_at));
        team.template wait<1>();
        team.warps([&](Warp& warp) { begin(warp, states(warp), keys); });
        for (int j = begin_at; j < count; ++j) {
            if (j + 1 < count) {
                fetch_queries(team, at, j + 1, queries_of(keys, j + 1));
                team.template wait<1>();
            } else {
                team.template wait<0>();
            }
            const Queries queries = queries_of(keys, j);
            team.warps([&](Warp& warp) {
                const int first = at.first + 16 * warp.index(), passed = j * M::rows;
                const MmaWindow window{m.length() - passed, first - passed, m.s.causal};
                if (first < m.length()) step(warp, states(warp), queries, window);
            });
        }
        team.warps([&](Warp& warp) {
            A* own = keys + 16 * warp.index() * Tile::ld;
            Tile::template store<A>(warp, states(warp).dk, own, [&](int, auto) { return m.scale; });
            Tile::template store<A>(warp, states(warp).dv, own + Tile::values, [](int, auto) { return 1.0f; });
        });
        m.store(team, at, keys, dk);
        m.store(team, at, keys + Tile::values, dv);
    }

private:
    PROMPTKD_HD static Queries queries_of(A* keys, int j) {
        A* queries = keys + 2 * Tile::values;
        float* numbers = reinterpret_cast<float*>(queries + 4 * Tile::values);
        return {queries + j % 2 * 2 * Tile::values, numbers + j % 2 * 2 * M::rows};
    }

    template <class Team>
    PROMPTKD_HD void fetch_queries(Team& team, const typename M::Place& at, int j, const Queries& to) const {
        const int first = j * M::rows, left = m.length() - first;
        m.fetch(team, at, q, first, to.q);
        m.fetch(team, at, d_o, first, to.q + Tile::values);
        const Index from = at.head * m.s.rows() + at.base + first;
        fetch_numbers(team, log_sum + from, left, to.numbers);
        fetch_numbers(team, dots + from, left, to.numbers + M::rows);
        team.commit();
    }

    template <class Team>
    PROMPTKD_HD static void fetch_numbers(Team& team, const float* from, int left, float* to) {
        team.template copy_async<4, 1>(M::rows, [=](int i, int) {
            return AsyncCopy{to + i, from + (i < left ? i : 0), i < left};
        });
    }

    template <class Warp>
    PROMPTKD_HD void begin(Warp& warp, State<Warp>& x, const A* keys) const {
        const A* own = keys + 16 * warp.index() * Tile::ld;
        Tile::load_left(warp, x.k, own);
        Tile::load_left(warp, x.v, own + Tile::values);
        fill<HeadDim / 2>(warp, x.dk, 0.0f);
        fill<HeadDim / 2>(warp, x.dv, 0.0f);
    }

    /// Sixteen queries after the other. In the window queries and keys have changed places.
    template <class Warp>
    PROMPTKD_HD void step(Warp& warp, State<Warp>& x, const Queries& queries, const MmaWindow& window) const {
        const int end = window.keys < M::rows ? window.keys : M::rows;
        for (int first = 0; first < end; first += 16) {
            const Queries own{queries.q + first * Tile::ld, queries.numbers + first};
            typename Warp::template Values<std::uint32_t, 4> weights, d_s;
            weigh(warp, x, own, {window.keys, window.query - first, window.causal}, weights, d_s);
            Tile::add_mix(warp, x.dv, weights, 0, own.q + Tile::values);
            Tile::add_mix(warp, x.dk, d_s, 0, own.q);
        }
    }
    /// Probabilities of 16 keys and 16 queries and the gradients of their scores, rounded as left factors; 0 for
    /// queries that do not see the key.
    template <class Warp, class Fragments>
    PROMPTKD_HD void weigh(Warp& warp, const State<Warp>& x, const Queries& queries, const MmaWindow& window,
                           Fragments& weights, Fragments& d_s) const {
        typename Warp::template Values<float, 8> scores, d_p;
        fill<8>(warp, scores, 0.0f);
        fill<8>(warp, d_p, 0.0f);
        Tile::add_products(warp, scores, 0, x.k, queries.q);
        Tile::add_products(warp, d_p, 0, x.v, queries.q + Tile::values);
        warp.lanes([&](int lane) {
            unrolled<8>([&](auto i) {
                const FragmentPlace place = accumulator_place(lane, i % 4);
                const int query = i / 4 * 8 + place.column;
                const bool hidden = window.causal && query < window.query + place.row;
                const float shift = -std::numbers::log2e_v<float> * queries.numbers[query];
                const float exponent = std::fma(scores.at(lane, i), m.scale_2(), shift);
                const float weight = hidden ? 0.0f : warp.exp2(exponent);
                scores.at(lane, i) = weight;
                d_p.at(lane, i) = weight * (d_p.at(lane, i) - queries.numbers[M::rows + query]);
            });
            pack_left<A, Warp>(scores, 0, weights, 0, lane);
            pack_left<A, Warp>(d_p, 0, d_s, 0, lane);
        });
    }
};

}  // namespace detail

/// Gradients of x.q, x.k and x.v from d_o (rows, width), all overwritten; the formulas are those of
/// fused_attention_backward(). Probabilities and dS are rounded to A in front of the products that mix rows, as the
/// composed attention rounds them; sums are in fp32, in one order. Throws Error for rows that do not begin at
/// multiples of 16 bytes.
template <Device D, class A>
void mma_attention_backward(const Workspace<D>& w, const AttentionShape& shape,
                            const std::type_identity_t<QueriesKeysValues<const A>>& x, const float* log_sum,
                            ConstMatrix<A> d_o, const QueriesKeysValues<A>& gradients) {
    x.require_fit(shape, "gradient of attention: an input");
    gradients.require_fit(shape, "gradient of attention: a gradient");
    require_shape(d_o, shape.queries(), shape.width(), "gradient of attention: d_o");
    detail::require_chunks("gradient of attention", x.q, x.k, x.v, d_o, gradients.q, gradients.k, gradients.v);
    const WorkspaceScope scope(w);
    float* dots = scratch<float>(w, shape.heads * shape.sequences.rows());
    detail::with_head_dim(shape.head_dim, [&](auto head_dim) {
        const auto m = detail::mma_attention<A, head_dim>(shape);
        const Index teams = detail::mma_teams(m);
        w.device.matrix_teams(
            teams, detail::MmaAttentionBackwardQueries<A, head_dim>{m, x.q, x.k, x.v, d_o, log_sum, gradients.q, dots});
        w.device.matrix_teams(teams, detail::MmaAttentionBackwardKeys<A, head_dim>{m, x.q, x.k, x.v, d_o, log_sum, dots,
                                                                                   gradients.k, gradients.v});
    });
}

}  // namespace promptkd
