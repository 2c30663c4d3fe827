// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/memory.hpp>
#include <promptkd/op/softmax.hpp>

#include <algorithm>
#include <cmath>
#include <optional>

namespace promptkd {

/// Scaled dot-product attention over Sequences: softmax(q·kᵀ/√head_dim)·v for each head. Queries, keys and values of
/// head h are columns [h·head_dim, (h+1)·head_dim) of matrices of `width()` columns. With a selection the queries are
/// one row a sequence, (count, ·); otherwise all rows.
struct AttentionShape {
    Sequences sequences;                 ///< what is in the rows
    std::optional<Selection> selection;  ///< queries of one row a sequence alone
    Index heads = 0, head_dim = 0;       ///< attention heads, values of each
    /// Pairs of a sequence and a head whose scores are computed together, 0: all. A few stay in a CPU's cache between
    /// the passes over them. Without effect with a prefix or a selection.
    Index tile = 0;

    /// heads·head_dim.
    Index width() const { return heads * head_dim; }
    /// Rows of queries.
    Index queries() const { return selection ? sequences.count : sequences.rows(); }
    /// Of them, rows of the shared prefix.
    Index prefix_queries() const { return selection ? 0 : sequences.prefix; }
    /// Queries of one sequence.
    Index run_queries() const { return selection ? 1 : sequences.length; }
    /// Elements between rows of the (heads·queries, tokens) matrix of scores or probabilities: rows begin at multiples
    /// of 16 bytes, which GPU products need for their fast kernels.
    Index score_ld() const { return (sequences.tokens() + 7) / 8 * 8; }
    /// Elements of that matrix.
    Index scores() const { return heads * queries() * score_ld(); }
    /// Whether scores are computed in tiles, see `tile`.
    bool tiled() const { return tile > 0 && tile < heads * sequences.count && sequences.prefix == 0 && !selection; }
    /// Sequences and heads of a tile: all heads of some sequences, or an even share of one sequence's heads.
    Index tile_sequences() const { return tiled() ? std::max<Index>(1, tile / heads) : sequences.count; }
    /// Heads of one tile.
    Index tile_heads() const {
        if (!tiled() || tile >= heads) return heads;
        const Index parts = (heads + tile - 1) / tile;
        return (heads + parts - 1) / parts;
    }
    /// Elements of the largest tile's scores.
    Index tile_scores() const {
        return tiled() ? tile_heads() * tile_sequences() * sequences.length * score_ld() : scores();
    }
    /// 1/√head_dim.
    double scale() const { return 1.0 / std::sqrt(static_cast<double>(head_dim)); }
};

/// Queries, keys and values: q (queries, width), k and v (rows, width) with equal leading dimensions. A may be const.
template <class A>
struct QueriesKeysValues {
    Matrix<A> q, k, v;  ///< queries, keys and values

    QueriesKeysValues() = default;
    /// The three.
    QueriesKeysValues(Matrix<A> queries, Matrix<A> keys, Matrix<A> values) : q(queries), k(keys), v(values) {}
    /// For reading alone.
    template <class U>
    requires std::is_same_v<const U, A> QueriesKeysValues(const QueriesKeysValues<U>& x) : q(x.q), k(x.k), v(x.v) {}

    /// Throws Error unless the matrices fit `shape`.
    void require_fit(const AttentionShape& shape, const char* what) const {
        require_shape(q, shape.queries(), shape.width(), what);
        require_shape(k, shape.sequences.rows(), shape.width(), what);
        require_shape(v, shape.sequences.rows(), shape.width(), what);
        require(k.ld == v.ld, what, ": rows of keys are ", k.ld, " apart, those of values ", v.ld);
    }
};

namespace detail {

/// The products of attention. Scores of sequence i have two parts: against the shared prefix (one product for all
/// queries of a head) and against the sequence's own run (one product for each head and sequence). The gradient of a
/// prefix key is a sum over all sequences, and comes out of the first kind of product by itself.
template <Device D, class A>
class AttentionProducts {
public:
    using T = typename D::Scalar;
    using Rows = Matrix<const A>;

    AttentionProducts(D& device, const AttentionShape& shape) : device_(device), s_(shape) {}

    /// scores = alpha·x·yᵀ, x over query rows, y over key rows.
    void scores(Rows x, Rows y, T* out, double alpha) {
        if (prefix() > 0) {
            Gemm g = prefix_product(s_.queries(), prefix(), s_.head_dim, alpha);
            g.a = strided(operand(x), 0, s_.head_dim);
            g.b = strided(transposed(y), 0, s_.head_dim);
            set_scores(g, out);
            device_.gemm(g);
        }
        Gemm g = run_product(queries(), length(), s_.head_dim, alpha);
        g.a = strided(operand(run_queries(x)), queries() * x.ld, s_.head_dim);
        g.b = strided(transposed(run_keys(y)), length() * y.ld, s_.head_dim);
        set_scores(g, run_scores(out));
        g.stride_c = queries() * ld();
        device_.gemm(g);
    }

    /// out (query rows) = alpha·weights·y, y over key rows.
    void mix(const A* weights, Rows y, Matrix<A> out, double alpha) {
        if (prefix() > 0) {
            Gemm g = prefix_product(s_.queries(), s_.head_dim, prefix(), alpha);
            g.a = strided(operand(weights, ld()), 0, head_scores());
            g.b = strided(operand(y), 0, s_.head_dim);
            set_rows(g, out, 0);
            device_.gemm(g);
        }
        Gemm g = run_product(queries(), s_.head_dim, length(), alpha);
        g.beta = prefix() > 0 ? 1 : 0;
        g.a = strided(operand(run_scores(weights), ld()), queries() * ld(), head_scores());
        g.b = strided(operand(run_keys(y)), length() * y.ld, s_.head_dim);
        set_rows(g, run_queries(out), queries() * out.ld);
        device_.gemm(g);
    }

    /// out (key rows) = alpha·weightsᵀ·x, x over query rows.
    void mix_transposed(const A* weights, Rows x, Matrix<A> out, double alpha) {
        if (prefix() > 0) {
            Gemm g = prefix_product(prefix(), s_.head_dim, s_.queries(), alpha);
            g.a = strided(transposed(weights, ld()), 0, head_scores());
            g.b = strided(operand(x), 0, s_.head_dim);
            set_rows(g, out, 0);
            device_.gemm(g);
        }
        Gemm g = run_product(length(), s_.head_dim, queries(), alpha);
        g.a = strided(transposed(run_scores(weights), ld()), queries() * ld(), head_scores());
        g.b = strided(operand(run_queries(x)), queries() * x.ld, s_.head_dim);
        set_rows(g, run_keys(out), length() * out.ld);
        device_.gemm(g);
    }

private:
    Index prefix() const { return s_.sequences.prefix; }
    Index length() const { return s_.sequences.length; }
    Index ld() const { return s_.score_ld(); }
    /// Rows of queries.
    Index queries() const { return s_.run_queries(); }
    Index head_scores() const { return s_.queries() * ld(); }

    template <class P>
    P* run_scores(P* scores) const {
        return scores + s_.prefix_queries() * ld() + prefix();
    }
    /// The query rows, and the key rows, that are not those of the prefix.
    template <class P>
    Matrix<P> run_queries(Matrix<P> x) const {
        return x.row_range(s_.prefix_queries(), x.rows - s_.prefix_queries());
    }
    template <class P>
    Matrix<P> run_keys(Matrix<P> x) const {
        return x.row_range(prefix(), x.rows - prefix());
    }

    Gemm prefix_product(Index m, Index n, Index k, double alpha) const {
        Gemm g;
        g.m = m;
        g.n = n;
        g.k = k;
        g.alpha = alpha;
        g.outer = s_.heads;
        return g;
    }
    Gemm run_product(Index m, Index n, Index k, double alpha) const {
        Gemm g = prefix_product(m, n, k, alpha);
        g.batch = s_.sequences.count;
        return g;
    }
    void set_scores(Gemm& g, T* out) const {
        g.c = out;
        g.c_type = dtype_of<T>;
        g.ldc = ld();
        g.outer_stride_c = head_scores();
    }
    void set_rows(Gemm& g, Matrix<A> out, Index stride) const {
        g.c = out.data;
        g.c_type = dtype_of<A>;
        g.ldc = out.ld;
        g.stride_c = stride;
        g.outer_stride_c = s_.head_dim;
    }

    D& device_;
    const AttentionShape& s_;
};

/// Some sequences and heads of an attention: the attention over them, where they stand in the activations, and where
/// their scores begin.
struct AttentionPart {
    AttentionShape shape;
    Index first_row = 0, first_column = 0, first_score = 0;

    /// Their rows and columns of `x`, activations of all query rows or of all key rows.
    template <class A>
    Matrix<A> of_queries(Matrix<A> x) const {
        return x.block(first_row, shape.queries(), first_column, shape.width());
    }
    template <class A>
    Matrix<A> of_keys(Matrix<A> x) const {
        return x.block(first_row, shape.sequences.rows(), first_column, shape.width());
    }
    template <class A>
    QueriesKeysValues<A> of(const QueriesKeysValues<A>& x) const {
        return {of_queries(x.q), of_keys(x.k), of_keys(x.v)};
    }
    /// `scores` as (heads·queries, tokens).
    template <class A>
    Matrix<A> score_matrix(A* scores) const {
        return {scores, shape.heads * shape.queries(), shape.sequences.tokens(), shape.score_ld()};
    }
};

/// f(part) for every tile of `shape`.
template <class F>
void for_each_tile(const AttentionShape& shape, const F& f) {
    const Index sequences = shape.tile_sequences(), heads = shape.tile_heads(), length = shape.sequences.length;
    for (Index i = 0; i < shape.sequences.count; i += sequences)
        for (Index h = 0; h < shape.heads; h += heads) {
            AttentionPart part{shape, i * length, h * shape.head_dim,
                               (i * shape.heads + h) * length * shape.score_ld()};
            part.shape.tile = 0;
            part.shape.sequences.count = std::min(sequences, shape.sequences.count - i);
            part.shape.heads = std::min(heads, shape.heads - h);
            f(part);
        }
}

/// n values of the device's Scalar: `x` itself when that is its type, else scratch.
template <Device D, class A>
typename D::Scalar* as_wide(const Workspace<D>& w, A* x, Index n) {
    if constexpr (std::is_same_v<A, typename D::Scalar>)
        return x;
    else
        return scratch<typename D::Scalar>(w, n);
}

/// What attention_forward does to scores before the softmax: nothing.
struct ScoresAsTheyAre {
    template <class T>
    void operator()(const AttentionPart&, const Matrix<T>&) const {}
};

/// Where an attention writes: its probabilities (kept whole, or those of one tile) and its result.
template <class A>
struct AttentionResult {
    A* probabilities;
    Matrix<A> o;
    Keep keep;
};

/// attention_forward with `adjust(part, scores)` before the softmax.
template <Device D, class A, class Adjust>
void attend(const Workspace<D>& w, const AttentionShape& shape, const QueriesKeysValues<const A>& x,
            const AttentionResult<A>& to, const Adjust& adjust) {
    for_each_tile(shape, [&](const AttentionPart& part) {
        const WorkspaceScope scope(w);
        const QueriesKeysValues<const A> in = part.of(x);
        A* p = to.probabilities + (to.keep == Keep::yes ? part.first_score : 0);
        auto* scores = as_wide(w, p, part.shape.scores());
        AttentionProducts<D, A> products(w.device, part.shape);
        products.scores(in.q, in.k, scores, part.shape.scale());
        adjust(part, part.score_matrix(scores));
        attention_softmax(w.device, part.shape.sequences, part.shape.selection, part.score_matrix(scores),
                          part.score_matrix(p));
        products.mix(p, in.v, part.of_queries(to.o), 1);
    });
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

/// o (queries, width) = attention(x.q, x.k, x.v). With Keep::yes, `probabilities` (shape.scores() elements) keeps
/// softmax(…) for the backward pass, tile behind tile; else it is scratch of shape.tile_scores() elements. Scores are
/// never rounded to 16 bits, probabilities are.
template <Device D, class A>
void attention_forward(const Workspace<D>& w, const AttentionShape& shape,
                       const std::type_identity_t<QueriesKeysValues<const A>>& x,
                       std::type_identity_t<A*> probabilities, Matrix<A> o, Keep keep = Keep::yes) {
    x.require_fit(shape, "attention: an input");
    require_shape(o, shape.queries(), shape.width(), "attention: the output");
    detail::attend(w, shape, x, detail::AttentionResult<A>{probabilities, o, keep}, detail::ScoresAsTheyAre());
}

/// o alone, from the `probabilities` that attention_forward kept and the values v (rows, width).
template <Device D, class A>
void attention_output(D& device, const AttentionShape& shape, ConstMatrix<A> v, ConstPointer<A> probabilities,
                      Matrix<A> o) {
    require_shape(v, shape.sequences.rows(), shape.width(), "attention: the values");
    require_shape(o, shape.queries(), shape.width(), "attention: the output");
    detail::for_each_tile(shape, [&](const detail::AttentionPart& part) {
        detail::AttentionProducts<D, A>(device, part.shape)
            .mix(probabilities + part.first_score, part.of_keys(v), part.of_queries(o), 1);
    });
}

/// Gradients of x.q, x.k and x.v from `d_o` (queries, width), the output's. All are overwritten.
template <Device D, class A>
void attention_backward(const Workspace<D>& w, const AttentionShape& shape,
                        const std::type_identity_t<QueriesKeysValues<const A>>& x, ConstPointer<A> probabilities,
                        ConstMatrix<A> d_o, const QueriesKeysValues<A>& gradients) {
    x.require_fit(shape, "gradient of attention: an input");
    gradients.require_fit(shape, "gradient of attention: a gradient");
    require_shape(d_o, shape.queries(), shape.width(), "gradient of attention: d_o");
    detail::for_each_tile(shape, [&](const detail::AttentionPart& part) {
        const WorkspaceScope scope(w);
        const QueriesKeysValues<const A> in = part.of(x);
        const QueriesKeysValues<A> out = part.of(gradients);
        const Matrix<const A> d_out = part.of_queries(d_o);
        const A* p = probabilities + part.first_score;
        A* ds = scratch<A>(w, part.shape.scores());
        auto* dp = detail::as_wide(w, ds, part.shape.scores());
        detail::AttentionProducts<D, A> products(w.device, part.shape);
        products.mix_transposed(p, d_out, out.v, 1);
        products.scores(d_out, in.v, dp, 1);
        attention_softmax_backward(w.device, part.shape.sequences, part.shape.selection, part.score_matrix(p),
                                   part.score_matrix(dp), part.score_matrix(ds));
        products.mix(ds, in.k, out.q, shape.scale());
        products.mix_transposed(ds, in.q, out.k, shape.scale());
    });
}

}  // namespace promptkd
