// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/op/attention.hpp>
#include <promptkd/op/copy.hpp>

#include <array>

namespace promptkd {

/// What an attention compares. S(a, b) = softmax(a·bᵀ/√head_dim), for each head.
enum class Compared {
    queries_keys,      ///< S(q, k): CLIP
    nothing,           ///< every token reads itself alone
    queries_and_keys,  ///< S(q, q) + S(k, k): each token's weights sum to 2
    queries,           ///< S(q, q)
    keys               ///< S(k, k)
};

/// What an attention compares, and what is added to its scores.
template <class T>
struct AttentionPattern {
    Compared compared = Compared::queries_keys;  ///< which of queries and keys
    const T* nearness = nullptr;  ///< (tokens, tokens), added to the scores of every head and sequence; null: nothing

    /// Whether it is CLIP's.
    bool is_plain() const { return compared == Compared::queries_keys && !nearness; }
    /// Softmaxes that are added up.
    Index parts() const {
        if (compared == Compared::nothing) return 0;
        return compared == Compared::queries_and_keys ? 2 : 1;
    }
};

namespace detail {

template <class T>
struct AddNearness {
    const T* nearness;
    T* scores;
    Index length, ld;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const T* from = nearness + divide(row, length).remainder * length;
        T* to = scores + row * ld;
        team.each(length, [=](const auto& lane) { lane.store(to, lane.value(lane.load(to) + lane.load(from))); });
    }
};

template <class A>
struct AddRows {
    const A* x;
    A* y;
    Index d, x_ld, y_ld;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const A* from = x + row * x_ld;
        A* to = y + row * y_ld;
        team.each(d, [=](const auto& lane) { lane.store(to, lane.value(lane.load(to) + lane.load(from))); });
    }
};

}  // namespace detail

/// Attention by a pattern, over sequences without a shared prefix and without a selection, all tokens of which see each
/// other: o = Σ S(a, b)·v over the pattern's parts, the nearness added to the scores in front of each softmax.
template <Device D>
class PatternedAttention {
public:
    using T = typename D::Scalar;
    using A = typename D::Activation;
    using Inputs = QueriesKeysValues<const A>;  ///< What is compared and mixed.

    /// Throws Error for sequences that it does not take.
    PatternedAttention(const Workspace<D>& w, const AttentionShape& shape, const AttentionPattern<T>& pattern)
        : w_(w), shape_(shape), pattern_(pattern) {
        require(shape.sequences.prefix == 0 && !shape.sequences.causal && !shape.selection,
                "patterned attention takes whole sequences whose tokens all see each other");
    }

    /// o (rows, width). With Keep::yes, `probabilities` (parts·shape.scores() elements) keeps the softmaxes for the
    /// backward pass; else it is scratch of shape.tile_scores() elements.
    void forward(const Inputs& x, A* probabilities, Matrix<A> o, Keep keep) const {
        const WorkspaceScope scope(w_);
        if (pattern_.parts() == 0) return copy_rows(w_.device, x.v, o);
        for (Index i = 0; i < pattern_.parts(); ++i) {
            const Matrix<A> to = i == 0 ? o : scratch<A>(w_, o.rows, o.columns);
            A* const p = probabilities + (keep == Keep::yes ? i * shape_.scores() : 0);
            detail::attend(w_, shape_, part(x, i), detail::AttentionResult<A>{p, to, keep},
                           [this](const detail::AttentionPart&, const Matrix<T>& scores) { add_nearness(scores); });
            if (i > 0) add_rows(to, o);
        }
    }

    /// o alone, from the `probabilities` that forward() kept and the values v.
    void output(Matrix<const A> v, const A* probabilities, Matrix<A> o) const {
        const WorkspaceScope scope(w_);
        if (pattern_.parts() == 0) return copy_rows(w_.device, v, o);
        for (Index i = 0; i < pattern_.parts(); ++i) {
            const Matrix<A> to = i == 0 ? o : scratch<A>(w_, o.rows, o.columns);
            attention_output(w_.device, shape_, v, probabilities + i * shape_.scores(), to);
            if (i > 0) add_rows(to, o);
        }
    }

    /// d_qkv (rows, 3·width), the gradients of queries, keys and values side by side, from d_o (rows, width).
    void backward(const Inputs& x, const A* probabilities, Matrix<const A> d_o, Matrix<A> d_qkv) const {
        const Index d = shape_.width();
        zero(w_.device, d_qkv);
        const std::array<Matrix<A>, 3> out{d_qkv.column_range(0, d), d_qkv.column_range(d, d),
                                           d_qkv.column_range(2 * d, d)};
        if (pattern_.parts() == 0) return copy_rows(w_.device, d_o, out[2]);
        const WorkspaceScope scope(w_);
        const Matrix<A> own = scratch<A>(w_, d_qkv.rows, 3 * d);
        for (Index i = 0; i < pattern_.parts(); ++i) {
            const QueriesKeysValues<A> gradients(own.column_range(0, d), own.column_range(d, d),
                                                 own.column_range(2 * d, d));
            attention_backward(w_, shape_, part(x, i), probabilities + i * shape_.scores(), d_o, gradients);
            add_rows(gradients.q, out[left(i)]);
            add_rows(gradients.k, out[right(i)]);
            add_rows(gradients.v, out[2]);
        }
    }

private:
    /// What stands left and right of part i's comparison: 0 the queries, 1 the keys.
    std::size_t left(Index i) const {
        return pattern_.compared == Compared::keys || (pattern_.compared == Compared::queries_and_keys && i == 1) ? 1
                                                                                                                  : 0;
    }
    std::size_t right(Index i) const { return pattern_.compared == Compared::queries_keys ? 1 : left(i); }

    Inputs part(const Inputs& x, Index i) const { return {left(i) == 0 ? x.q : x.k, right(i) == 0 ? x.q : x.k, x.v}; }

    void add_nearness(const Matrix<T>& scores) const {
        if (!pattern_.nearness) return;
        const Index length = shape_.sequences.length;
        w_.device.rows(scores.rows, 2 * length,
                       detail::AddNearness<T>{pattern_.nearness, scores.data, length, scores.ld});
    }

    void add_rows(Matrix<const A> x, Matrix<A> y) const {
        w_.device.rows(y.rows, y.columns, detail::AddRows<A>{x.data, y.data, y.columns, x.ld, y.ld});
    }

    Workspace<D> w_;
    AttentionShape shape_;
    AttentionPattern<T> pattern_;
};

}  // namespace promptkd
