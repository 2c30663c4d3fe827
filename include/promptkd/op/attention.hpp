// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/memory.hpp>
#include <promptkd/op/softmax.hpp>

#include <algorithm>
#include <cmath>

namespace promptkd {

/// Scaled dot-product attention over Sequences: softmax(q·kᵀ/√head_dim)·v for each head. Queries, keys and values are
/// columns [h·head_dim, (h+1)·head_dim) of row-major activations with leading dimensions q_ld and kv_ld. With a
/// selection the queries are one row a sequence, (count, ·); otherwise all rows.
struct AttentionShape {
    Sequences sequences;
    const Selection* selection = nullptr;
    Index heads = 0, head_dim = 0;
    Index q_ld = 0, kv_ld = 0, o_ld = 0;
    /// Pairs of a sequence and a head whose scores are computed together, 0: all. A few stay in a CPU's cache between
    /// the passes over them. Without effect with a prefix or a selection.
    Index tile = 0;

    Index queries() const { return selection ? sequences.count : sequences.rows(); }
    Index prefix_queries() const { return selection ? 0 : sequences.prefix; }
    Index run_queries() const { return selection ? 1 : sequences.length; }
    /// Elements between rows of the (heads, queries, tokens) matrix of scores or probabilities: rows begin at multiples
    /// of 16 bytes, which GPU products need for their fast kernels.
    Index score_ld() const { return (sequences.tokens() + 7) / 8 * 8; }
    /// Elements of that matrix.
    Index scores() const { return heads * queries() * score_ld(); }
    bool tiled() const {
        return tile > 0 && tile < heads * sequences.count && sequences.prefix == 0 && selection == nullptr;
    }
    /// Sequences and heads of a tile: all heads of some sequences, or an even share of one sequence's heads.
    Index tile_sequences() const { return tiled() ? std::max<Index>(1, tile / heads) : sequences.count; }
    Index tile_heads() const {
        if (!tiled() || tile >= heads) return heads;
        const Index parts = (heads + tile - 1) / tile;
        return (heads + parts - 1) / parts;
    }
    /// Elements of the largest tile's scores.
    Index tile_scores() const {
        return tiled() ? tile_heads() * tile_sequences() * sequences.length * score_ld() : scores();
    }
    double scale() const { return 1.0 / std::sqrt(static_cast<double>(head_dim)); }
};

namespace detail {

/// The products of attention. Scores of sequence i have two parts: against the shared prefix (one product for all
/// queries of a head) and against the sequence's own run (one product for each head and sequence). The gradient of a
/// prefix key is a sum over all sequences, and comes out of the first kind of product by itself.
template <Device D, class A>
class AttentionProducts {
public:
    using T = typename D::Scalar;

    AttentionProducts(D& device, const AttentionShape& shape) : device_(device), s_(shape) {}

    /// scores = alpha·x·yᵀ, x over query rows (leading dimension x_ld), y over key rows (kv_ld).
    void scores(const A* x, Index x_ld, const A* y, T* out, double alpha) {
        if (prefix() > 0) {
            Gemm g = prefix_product(s_.queries(), prefix(), s_.head_dim, alpha, 0);
            g.a = strided(operand(x, x_ld), 0, s_.head_dim);
            g.b = strided(transposed(y, s_.kv_ld), 0, s_.head_dim);
            set_scores(g, out);
            device_.gemm(g);
        }
        Gemm g = run_product(queries(), length(), s_.head_dim, alpha, 0);
        g.a = strided(operand(x + s_.prefix_queries() * x_ld, x_ld), queries() * x_ld, s_.head_dim);
        g.b = strided(transposed(y + prefix() * s_.kv_ld, s_.kv_ld), length() * s_.kv_ld, s_.head_dim);
        set_scores(g, run_scores(out));
        g.stride_c = queries() * ld();
        device_.gemm(g);
    }

    /// out (query rows, out_ld) = alpha·weights·y, y over key rows.
    void mix(const A* weights, const A* y, A* out, Index out_ld, double alpha) {
        if (prefix() > 0) {
            Gemm g = prefix_product(s_.queries(), s_.head_dim, prefix(), alpha, 0);
            g.a = strided(operand(weights, ld()), 0, head_scores());
            g.b = strided(operand(y, s_.kv_ld), 0, s_.head_dim);
            set_rows(g, out, out_ld, 0);
            device_.gemm(g);
        }
        Gemm g = run_product(queries(), s_.head_dim, length(), alpha, prefix() > 0 ? 1 : 0);
        g.a = strided(operand(run_scores(weights), ld()), queries() * ld(), head_scores());
        g.b = strided(operand(y + prefix() * s_.kv_ld, s_.kv_ld), length() * s_.kv_ld, s_.head_dim);
        set_rows(g, out + s_.prefix_queries() * out_ld, out_ld, queries() * out_ld);
        device_.gemm(g);
    }

    /// out (key rows, out_ld) = alpha·weightsᵀ·x, x over query rows.
    void mix_transposed(const A* weights, const A* x, Index x_ld, A* out, Index out_ld, double alpha) {
        if (prefix() > 0) {
            Gemm g = prefix_product(prefix(), s_.head_dim, s_.queries(), alpha, 0);
            g.a = strided(transposed(weights, ld()), 0, head_scores());
            g.b = strided(operand(x, x_ld), 0, s_.head_dim);
            set_rows(g, out, out_ld, 0);
            device_.gemm(g);
        }
        Gemm g = run_product(length(), s_.head_dim, queries(), alpha, 0);
        g.a = strided(transposed(run_scores(weights), ld()), queries() * ld(), head_scores());
        g.b = strided(operand(x + s_.prefix_queries() * x_ld, x_ld), queries() * x_ld, s_.head_dim);
        set_rows(g, out + prefix() * out_ld, out_ld, length() * out_ld);
        device_.gemm(g);
    }

private:
    Index prefix() const { return s_.sequences.prefix; }
    Index length() const { return s_.sequences.length; }
    Index ld() const { return s_.score_ld(); }
    Index queries() const { return s_.run_queries(); }
    Index head_scores() const { return s_.queries() * ld(); }

    template <class P>
    P* run_scores(P* scores) const {
        return scores + s_.prefix_queries() * ld() + prefix();
    }

    Gemm prefix_product(Index m, Index n, Index k, double alpha, double beta) const {
        Gemm g;
        g.m = m, g.n = n, g.k = k, g.alpha = alpha, g.beta = beta;
        g.outer = s_.heads, g.c_type = dtype_of<A>;
        return g;
    }
    Gemm run_product(Index m, Index n, Index k, double alpha, double beta) const {
        Gemm g = prefix_product(m, n, k, alpha, beta);
        g.batch = s_.sequences.count;
        return g;
    }
    void set_scores(Gemm& g, T* out) const {
        g.c = out, g.c_type = dtype_of<T>, g.ldc = ld(), g.outer_stride_c = head_scores();
    }
    void set_rows(Gemm& g, A* out, Index ld, Index stride) const {
        g.c = out, g.ldc = ld, g.stride_c = stride, g.outer_stride_c = s_.head_dim;
    }

    D& device_;
    const AttentionShape& s_;
};

/// Where a tile begins: its first row of the activations, its first column there, its first score.
struct TileStart {
    Index row = 0, column = 0, score = 0;
};

/// f(part, start) for every tile of `shape`; `part` is the shape of its attention.
template <class F>
void for_each_tile(const AttentionShape& shape, const F& f) {
    const Index sequences = shape.tile_sequences(), heads = shape.tile_heads(), length = shape.sequences.length;
    for (Index i = 0; i < shape.sequences.count; i += sequences)
        for (Index h = 0; h < shape.heads; h += heads) {
            AttentionShape part = shape;
            part.tile = 0;
            part.sequences.count = std::min(sequences, shape.sequences.count - i);
            part.heads = std::min(heads, shape.heads - h);
            f(part, TileStart{i * length, h * shape.head_dim, (i * shape.heads + h) * length * shape.score_ld()});
        }
}

/// n values of the device's Scalar: `x` itself when that is its type, else scratch.
template <Device D, class A>
typename D::Scalar* as_wide(Arena<D>& arena, A* x, Index n) {
    if constexpr (std::is_same_v<A, typename D::Scalar>)
        return x;
    else
        return arena.template scratch<typename D::Scalar>(n);
}

}  // namespace detail

/// The tile of `shape` that suits the device, see AttentionShape::tile.
template <Device D>
Index attention_tile(const D& device, const AttentionShape& shape) {
    if constexpr (requires { device.cached_parts(std::size_t{}); })
        return device.cached_parts(static_cast<std::size_t>(shape.sequences.length * shape.score_ld()) *
                                   sizeof(typename D::Scalar));
    else
        return 0;
}

/// o (query rows, o_ld) = attention(q, k, v). With `keep`, `probabilities` (shape.scores() elements) keeps softmax(…)
/// for the backward pass, tile behind tile; else it is scratch of shape.tile_scores() elements. Scores are never
/// rounded to 16 bits, probabilities are.
template <Device D, class A>
void attention_forward(D& device, Arena<D>& arena, const AttentionShape& shape, const A* q, const A* k, const A* v,
                       A* probabilities, A* o, bool keep = true) {
    detail::for_each_tile(shape, [&](const AttentionShape& part, const detail::TileStart& at) {
        typename Arena<D>::Scope scope(arena);
        const Index query = at.row * shape.q_ld + at.column, key = at.row * shape.kv_ld + at.column;
        A* p = probabilities + (keep ? at.score : 0);
        auto* scores = detail::as_wide(arena, p, part.scores());
        detail::AttentionProducts<D, A> products(device, part);
        products.scores(q + query, shape.q_ld, k + key, scores, shape.scale());
        attention_softmax(device, part.sequences, part.selection, part.heads, part.score_ld(), scores, p);
        products.mix(p, v + key, o + at.row * shape.o_ld + at.column, shape.o_ld, 1);
    });
}

/// o alone, from the `probabilities` that attention_forward kept.
template <Device D, class A>
void attention_output(D& device, const AttentionShape& shape, const A* v, const A* probabilities, A* o) {
    detail::for_each_tile(shape, [&](const AttentionShape& part, const detail::TileStart& at) {
        detail::AttentionProducts<D, A>(device, part)
            .mix(probabilities + at.score, v + at.row * shape.kv_ld + at.column, o + at.row * shape.o_ld + at.column,
                 shape.o_ld, 1);
    });
}

/// Gradients dq (query rows, q_ld), dk and dv (key rows, kv_ld) from `d_o` (query rows, o_ld). All are overwritten.
template <Device D, class A>
void attention_backward(D& device, Arena<D>& arena, const AttentionShape& shape, const A* q, const A* k, const A* v,
                        const A* probabilities, const A* d_o, A* dq, A* dk, A* dv) {
    detail::for_each_tile(shape, [&](const AttentionShape& part, const detail::TileStart& at) {
        typename Arena<D>::Scope scope(arena);
        const Index query = at.row * shape.q_ld + at.column, key = at.row * shape.kv_ld + at.column;
        const A *p = probabilities + at.score, *d_out = d_o + at.row * shape.o_ld + at.column;
        A* ds = arena.template scratch<A>(part.scores());
        auto* dp = detail::as_wide(arena, ds, part.scores());
        detail::AttentionProducts<D, A> products(device, part);
        products.mix_transposed(p, d_out, shape.o_ld, dv + key, shape.kv_ld, 1);
        products.scores(d_out, shape.o_ld, v + key, dp, 1);
        attention_softmax_backward(device, part.sequences, part.selection, part.heads, part.score_ld(), p,
                                   static_cast<const typename D::Scalar*>(dp), ds);
        products.mix(ds, k + key, dq + query, shape.q_ld, shape.scale());
        products.mix_transposed(ds, q + query, shape.q_ld, dk + key, shape.kv_ld, shape.scale());
    });
}

}  // namespace promptkd
