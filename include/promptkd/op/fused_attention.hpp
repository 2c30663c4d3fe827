// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/attention_kernel.hpp>
#include <promptkd/op/attention.hpp>

#include <cmath>

namespace promptkd {

/// Whether the device takes the fused attention below for this shape: it was told to, all rows are queries, no prefix
/// is shared, and a tile's scores fit the device's team memory. It keeps no (tokens × tokens) matrix, one number a
/// query instead: less memory, but without a GPU's matrix units, so more time.
template <Device D>
bool uses_fused_attention(const D& device, const AttentionShape& shape);

namespace detail {

/// Queries (or keys) that one team handles together: each key row is then read once for all of them.
inline constexpr int fused_tile_rows = 8;

/// What the three kernels share. Row of a launch ↔ (sequence, head, tile of `fused_tile_rows` rows).
template <class T, class A>
struct AttentionTile {
    Sequences s;
    Index heads, head_dim;
    Index q_ld, kv_ld, o_ld;  ///< elements between rows of queries, of keys and values, of outputs
    Index tiles;              ///< of a sequence
    T scale;

    struct Place {
        Index head, base, first, count;  ///< base: first row of the sequence; first: of the tile in the sequence
    };
    PROMPTKD_HD Place place(Index row) const {
        const Division tile = divide(row, tiles), head = divide(tile.quotient, heads);
        const Index first = tile.remainder * fused_tile_rows, left = s.length - first;
        return {head.remainder, head.quotient * s.length, first, left < fused_tile_rows ? left : fused_tile_rows};
    }
    PROMPTKD_HD Index visible(Index query) const { return s.causal ? query + 1 : s.length; }

    /// to[r·head_dim + c] = factor·x[row first + r, c] of the head; rows behind the end are zero.
    template <class Team>
    PROMPTKD_HD void load(Team& team, const Place& at, const A* x, Index ld, T factor, T* to) const {
        const A* from = x + (at.base + at.first) * ld + at.head * head_dim;
        const Index d = head_dim, count = at.count;
        team.items(fused_tile_rows * d, [=](Index i) {
            const Division rc = divide(i, d);
            to[i] = rc.quotient < count ? factor * static_cast<T>(from[rc.quotient * ld + rc.remainder]) : T(0);
        });
    }

    /// out[r] = row · tile row r, for every row of the tile.
    PROMPTKD_HD static void products(const A* row, const T* tile, Index d, T (&out)[fused_tile_rows]) {
        for (int r = 0; r < fused_tile_rows; ++r) out[r] = T(0);
        for (Index c = 0; c < d; ++c) {
            const T x = static_cast<T>(row[c]);
            for (int r = 0; r < fused_tile_rows; ++r) out[r] += tile[r * d + c] * x;
        }
    }

    /// y[row first + r, c] = factor·Σ_j weights[r, j]·x[row base + j, c] for rows r of the tile and first_j ≤ j < last.
    template <class Team>
    PROMPTKD_HD void mix(Team& team, const Place& at, const T* weights, const A* x, Index x_ld, A* y, Index y_ld,
                         T factor, Index from_j, Index to_j) const {
        const A* in = x + at.base * x_ld + at.head * head_dim;
        A* out = y + (at.base + at.first) * y_ld + at.head * head_dim;
        const Index d = head_dim, length = s.length;
        team.items(at.count * d, [=](Index i) {
            const Division rc = divide(i, d);
            const T* w = weights + rc.quotient * length;
            T total = T(0);
            for (Index j = from_j; j < to_j; ++j) total += w[j] * static_cast<T>(in[j * x_ld + rc.remainder]);
            out[rc.quotient * y_ld + rc.remainder] = A(factor * total);
        });
    }
};

/// o = softmax(q·kᵀ·scale)·v and log Σ exp of every query's scores.
template <class T, class A>
struct FusedAttentionForward {
    AttentionTile<T, A> t;
    const A *q, *k, *v;
    A* o;
    T* log_sum;  // (heads, rows)

    Index team_values() const { return fused_tile_rows * (t.s.length + t.head_dim); }

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const auto at = t.place(row);
        T* weights = team.memory();
        T* queries = weights + fused_tile_rows * t.s.length;
        t.load(team, at, q, t.q_ld, t.scale, queries);
        const Index keys = t.visible(at.first + at.count - 1), length = t.s.length, d = t.head_dim, ld = t.kv_ld;
        const Index count = at.count;
        const A* own_keys = k + at.base * ld + at.head * d;
        team.items(keys, [=](Index j) {
            T scores[fused_tile_rows];
            AttentionTile<T, A>::products(own_keys + j * ld, queries, d, scores);
            for (int r = 0; r < fused_tile_rows; ++r)
                if (r < count) weights[r * length + j] = scores[r];
        });
        for (Index r = 0; r < count; ++r) softmax(team, at, r, keys, weights + r * length);
        t.mix(team, at, weights, v, ld, o, t.o_ld, T(1), Index(0), keys);
    }

    /// The weights of query r; 0 for the keys that it may not see.
    template <class Team>
    PROMPTKD_HD void softmax(Team& team, const typename AttentionTile<T, A>::Place& at, Index r, Index keys,
                             T* w) const {
        const Index visible = t.visible(at.first + r);
        const ExponentialSum<T> sum = store_exponentials(team, visible, w, w);
        const T inverse = T(1) / sum.total;
        team.items(keys, [=](Index j) { w[j] = j < visible ? w[j] * inverse : T(0); });
        T* to = log_sum + at.head * t.s.rows() + at.base + at.first + r;
        team.once([=] { *to = sum.log(); });
    }
};

/// dq, and for every query Σ_j P_ij·dP_ij, from recomputed probabilities.
template <class T, class A>
struct FusedAttentionBackwardQueries {
    AttentionTile<T, A> t;
    const A *q, *k, *v, *d_o;
    const T* log_sum;
    A* dq;
    T* dots;  // (heads, rows)

    Index team_values() const { return 2 * fused_tile_rows * (t.s.length + t.head_dim); }

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const auto at = t.place(row);
        const Index length = t.s.length, d = t.head_dim, ld = t.kv_ld, count = at.count;
        T* p = team.memory();
        T* g = p + fused_tile_rows * length;
        T* queries = g + fused_tile_rows * length;
        T* d_out = queries + fused_tile_rows * d;
        t.load(team, at, q, t.q_ld, t.scale, queries);
        t.load(team, at, d_o, t.o_ld, T(1), d_out);
        const Index keys = t.visible(at.first + count - 1), numbers = at.head * t.s.rows() + at.base + at.first;
        const A *own_keys = k + at.base * ld + at.head * d, *own_values = v + at.base * ld + at.head * d;
        const T* sums = log_sum + numbers;
        team.items(keys, [=](Index j) {
            using std::exp;
            T scores[fused_tile_rows], d_p[fused_tile_rows];
            AttentionTile<T, A>::products(own_keys + j * ld, queries, d, scores);
            AttentionTile<T, A>::products(own_values + j * ld, d_out, d, d_p);
            for (int r = 0; r < fused_tile_rows; ++r) {
                if (r >= count) continue;
                p[r * length + j] = exp(scores[r] - sums[r]);
                g[r * length + j] = d_p[r];
            }
        });
        for (Index r = 0; r < count; ++r) {
            const T* w = p + r * length;
            T* h = g + r * length;
            const Index visible = t.visible(at.first + r);
            const T dot = team.sum(visible, [=](const auto& lane) { return lane.value(lane.load(w) * lane.load(h)); });
            team.items(keys, [=](Index j) { h[j] = j < visible ? w[j] * (h[j] - dot) : T(0); });
            T* to = dots + numbers + r;
            team.once([=] { *to = dot; });
        }
        t.mix(team, at, g, k, ld, dq, t.q_ld, t.scale, Index(0), keys);
    }
};

/// dk and dv of a tile of keys, over all queries that see them.
template <class T, class A>
struct FusedAttentionBackwardKeys {
    AttentionTile<T, A> t;
    const A *q, *k, *v, *d_o;
    const T *log_sum, *dots;
    A *dk, *dv;

    Index team_values() const { return 2 * fused_tile_rows * (t.s.length + t.head_dim); }

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const auto at = t.place(row);
        const Index length = t.s.length, d = t.head_dim, q_ld = t.q_ld, o_ld = t.o_ld, count = at.count;
        T* p = team.memory();
        T* g = p + fused_tile_rows * length;
        T* keys = g + fused_tile_rows * length;
        T* values = keys + fused_tile_rows * d;
        t.load(team, at, k, t.kv_ld, t.scale, keys);
        t.load(team, at, v, t.kv_ld, T(1), values);
        const Index numbers = at.head * t.s.rows() + at.base, begin = t.s.causal ? at.first : Index(0);
        const Index first = at.first;
        const bool causal = t.s.causal;
        const A *own_q = q + at.base * q_ld + at.head * d, *own_d = d_o + at.base * o_ld + at.head * d;
        const T *sums = log_sum + numbers, *own_dots = dots + numbers;
        team.items(length - begin, [=](Index at_i) {
            using std::exp;
            const Index i = begin + at_i;
            T scores[fused_tile_rows], d_p[fused_tile_rows];
            AttentionTile<T, A>::products(own_q + i * q_ld, keys, d, scores);
            AttentionTile<T, A>::products(own_d + i * o_ld, values, d, d_p);
            for (int r = 0; r < fused_tile_rows; ++r) {
                if (r >= count) continue;
                const T w = causal && i < first + r ? T(0) : exp(scores[r] - sums[i]);
                p[r * length + i] = w;
                g[r * length + i] = w * (d_p[r] - own_dots[i]);
            }
        });
        t.mix(team, at, p, d_o, o_ld, dv, t.kv_ld, T(1), begin, length);
        t.mix(team, at, g, q, q_ld, dk, t.kv_ld, t.scale, begin, length);
    }
};

template <class T, class A>
AttentionTile<T, A> attention_tiles(const AttentionShape& shape, const QueriesKeysValues<const A>& x, Index o_ld) {
    AttentionTile<T, A> t;
    t.s = shape.sequences;
    t.heads = shape.heads;
    t.head_dim = shape.head_dim;
    t.q_ld = x.q.ld;
    t.kv_ld = x.k.ld;
    t.o_ld = o_ld;
    t.tiles = (t.s.length + fused_tile_rows - 1) / fused_tile_rows;
    t.scale = static_cast<T>(shape.scale());
    return t;
}

/// Teams of a launch over all tiles.
template <class Tile>
Index attention_teams(const Tile& t) {
    return t.s.count * t.heads * t.tiles;
}

}  // namespace detail

template <Device D>
bool uses_fused_attention(const D& device, const AttentionShape& shape) {
    if constexpr (requires { device.attention(); }) {
        const Index needed = 2 * detail::fused_tile_rows * (shape.sequences.length + shape.head_dim);
        return device.attention() == AttentionKernel::fused && !shape.selection && shape.sequences.prefix == 0 &&
               !shape.sequences.last_row_keys &&
               needed * static_cast<Index>(sizeof(typename D::Scalar)) <= D::team_memory_bytes;
    } else {
        static_cast<void>(device);
        static_cast<void>(shape);
        return false;
    }
}

/// o (rows, width) = attention(x.q, x.k, x.v), see attention_forward; log_sum (heads·rows values) is what the backward
/// pass needs (the recomputation of Dao et al., FlashAttention, 2022, section 3). Only for shapes that
/// uses_fused_attention() takes.
template <Device D, class A>
void fused_attention_forward(D& device, const AttentionShape& shape,
                             const std::type_identity_t<QueriesKeysValues<const A>>& x, typename D::Scalar* log_sum,
                             Matrix<A> o) {
    using T = typename D::Scalar;
    x.require_fit(shape, "fused attention: an input");
    require_shape(o, shape.queries(), shape.width(), "fused attention: the output");
    const auto t = detail::attention_tiles<T, A>(shape, x, o.ld);
    device.rows(detail::attention_teams(t), 2 * detail::fused_tile_rows * t.s.length * t.head_dim,
                detail::FusedAttentionForward<T, A>{t, x.q.data, x.k.data, x.v.data, o.data, log_sum});
}

/// Gradients of x.q, x.k and x.v from d_o (rows, width); q and k have leading dimensions equal to their gradients'. All
/// are overwritten. With S = scale·q·kᵀ, P = exp(S − log_sum): dv = Pᵀ·d_o, dP = d_o·vᵀ, dS = P∘(dP − rowsum(P∘dP)),
/// dq = scale·dS·k, dk = scale·dSᵀ·q.
template <Device D, class A>
void fused_attention_backward(const Workspace<D>& w, const AttentionShape& shape,
                              const std::type_identity_t<QueriesKeysValues<const A>>& x,
                              const typename D::Scalar* log_sum, ConstMatrix<A> d_o,
                              const QueriesKeysValues<A>& gradients) {
    using T = typename D::Scalar;
    x.require_fit(shape, "gradient of fused attention: an input");
    gradients.require_fit(shape, "gradient of fused attention: a gradient");
    require_shape(d_o, shape.queries(), shape.width(), "gradient of fused attention: d_o");
    require(x.q.ld == gradients.q.ld && x.k.ld == gradients.k.ld, "gradient of fused attention: rows of inputs are ",
            x.q.ld, " and ", x.k.ld, " apart, those of gradients ", gradients.q.ld, " and ", gradients.k.ld);
    const WorkspaceScope scope(w);
    const auto t = detail::attention_tiles<T, A>(shape, x, d_o.ld);
    T* dots = scratch<T>(w, t.heads * t.s.rows());
    const Index cost = 4 * detail::fused_tile_rows * t.s.length * t.head_dim;
    w.device.rows(detail::attention_teams(t), cost,
                  detail::FusedAttentionBackwardQueries<T, A>{t, x.q.data, x.k.data, x.v.data, d_o.data, log_sum,
                                                              gradients.q.data, dots});
    w.device.rows(detail::attention_teams(t), cost,
                  detail::FusedAttentionBackwardKeys<T, A>{t, x.q.data, x.k.data, x.v.data, d_o.data, log_sum, dots,
                                                           gradients.k.data, gradients.v.data});
}

}  // namespace promptkd
