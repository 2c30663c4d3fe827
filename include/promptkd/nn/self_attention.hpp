// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/nn/linear.hpp>
#include <promptkd/op/attention.hpp>
#include <promptkd/op/attention_pattern.hpp>
#include <promptkd/op/norm.hpp>
#include <promptkd/op/recomputed_attention.hpp>
#include <promptkd/op/rotate.hpp>

namespace promptkd {

/// What the backward pass of a SelfAttention needs besides its input.
template <Device D>
struct SelfAttentionTape {
    using T = typename D::Scalar;
    using A = typename D::Activation;
    AttentionShape shape;         ///< sequences and heads of the pass
    AttentionPattern<T> pattern;  ///< what was compared
    Matrix<A> qkv;         ///< queries, keys, values (rows, 3d); with a selection keys and values alone (rows, 2d)
    Matrix<A> selected_q;  ///< with a selection: the queries (count, d)
    A* probabilities = nullptr;  ///< (heads·queries, tokens); null where they are recomputed, which keeps
    T* log_sum = nullptr;        ///< (heads·queries) instead
    Matrix<A> mixed;             ///< in front of the inner norm, where there is one (queries, d)
    RowMoments<T> moments;       ///< of the inner norm

    /// What attention read.
    QueriesKeysValues<A> inputs() const { return split(selected_q, qkv); }

    /// Queries, keys and values that stand side by side in `qkv`; or, unless `selected_q` is empty, keys and values.
    static QueriesKeysValues<A> split(Matrix<A> selected_q, Matrix<A> qkv) {
        const Index d = selected_q.data ? qkv.columns / 2 : qkv.columns / 3, first = selected_q.data ? 0 : d;
        return {selected_q.data ? selected_q : qkv.column_range(0, d), qkv.column_range(first, d),
                qkv.column_range(first + d, d)};
    }
};

/// Multi-head self-attention between its two projections. Queries and keys may be turned by their position (RoPE), and
/// an inner norm (EVA02's sub-LN) may stand in front of the output projection. With a Selection queries run for the
/// selected rows alone, which then must be rows that no rotation turns.
template <Device D>
struct SelfAttention {
    using T = typename D::Scalar;
    using A = typename D::Activation;
    using Tape = SelfAttentionTape<D>;  ///< What a forward pass leaves for the backward pass.

    Linear<T> in_proj, out_proj;  ///< (3d, d): queries, keys, values below each other; (d, d)
    Norm<T> norm;                 ///< without a weight: none
    Rotation<T> rotation;         ///< empty: none
    AttentionPattern<T> pattern;  ///< what is compared; another than queries and keys takes no selection
    Index d = 0, heads = 0;       ///< width, attention heads

    /// The shape of a pass.
    AttentionShape shape_of(const D& device, const Sequences& s, const std::optional<Selection>& selection) const {
        AttentionShape shape;
        shape.sequences = s;
        shape.selection = selection;
        shape.heads = heads;
        shape.head_dim = d / heads;
        shape.tile = attention_tile(device, shape);
        return shape;
    }

    /// Memory of the tape, whose shape is set.
    void allocate(const Workspace<D>& w, Keep kept, Tape& t) const {
        const AttentionShape& shape = t.shape;
        const Index rows = shape.sequences.rows();
        t.pattern = pattern;
        if (shape.selection) t.selected_q = take<A>(w, kept, shape.sequences.count, d);
        t.qkv = take<A>(w, kept, rows, shape.selection ? 2 * d : 3 * d);
        if (recomputes(w, t))
            t.log_sum = take<T>(w, kept, heads * rows);
        else
            t.probabilities =
                take<A>(w, kept, kept == Keep::yes ? pattern.parts() * shape.scores() : shape.tile_scores());
        if (!norm.weight || kept == Keep::no) return;
        t.mixed = keep<A>(w, shape.queries(), d);
        t.moments = keep_moments<T>(w, shape.queries());
    }

    /// o (queries, d) = attention over x (rows, d), normalised, in front of the output projection.
    void forward(const Workspace<D>& w, Matrix<const A> x, Tape& t, Matrix<A> o, Keep kept) const {
        const WorkspaceScope scope(w);
        project(w, x, t);
        const Matrix<A> mixed = t.mixed.data ? t.mixed : o;
        if (!t.pattern.is_plain())
            PatternedAttention<D>(w, t.shape, t.pattern).forward(t.inputs(), t.probabilities, mixed, kept);
        else if (recomputes(w, t))
            recomputed_attention_forward(w.device, t.shape, t.inputs(), t.log_sum, mixed);
        else
            attention_forward(w, t.shape, t.inputs(), t.probabilities, mixed, kept);
        if (norm.weight) layer_norm_forward(w.device, mixed, norm, o, t.moments);
    }

    /// dx (rows, d) from d_out (queries, d), the gradient of the output projection's result, and the gradients of the
    /// weights that are trained; `input(to)` writes the x of the forward pass, and is called where a gradient needs it.
    template <class Input>
    void backward(const Workspace<D>& w, const Tape& t, Matrix<const A> d_out, const Input& input, Matrix<A> dx) const {
        const WorkspaceScope scope(w);
        const Matrix<A> d_o = scratch<A>(w, t.shape.queries(), d);
        if (out_proj.needs_input()) mixed_again(w, t, d_o);  // in the memory of its gradient
        linear_gradients(w, out_proj, d_o, d_out, d_o);
        if (norm.weight) {
            const LayerNormTape<A, T> inner{t.mixed, t.moments};
            add_norm_gradients(w.device, norm, inner, d_o);
            layer_norm_backward(w.device, norm, inner, d_o, d_o);
        }
        input_gradients(w, t, d_o, input, dx);
    }

private:
    bool recomputes(const Workspace<D>& w, const Tape& t) const {
        return t.pattern.is_plain() && attention_kernel(w.device, t.shape) != AttentionKernel::composed;
    }

    /// Queries, keys and values of x, turned.
    void project(const Workspace<D>& w, Matrix<const A> x, Tape& t) const {
        const Sequences& s = t.shape.sequences;
        if (t.shape.selection) {
            const Matrix<A> selected = scratch<A>(w, s.count, d);
            gather_selected(w.device, s, *t.shape.selection, x, selected);
            linear_forward(w, in_proj.row_range(0, d), selected, t.selected_q);
            linear_forward(w, in_proj.row_range(d, 2 * d), x, t.qkv);
        } else {
            linear_forward(w, in_proj, x, t.qkv);
        }
        turn(w, t.shape, Turn::forth, t.qkv);
    }

    /// Turns the queries and keys in `qkv` (keys alone with a selection).
    void turn(const Workspace<D>& w, const AttentionShape& shape, Turn direction, Matrix<A> qkv) const {
        if (!rotation) return;
        const Matrix<A> turned = qkv.column_range(0, shape.selection ? d : 2 * d);
        rotate(w.device, rotation, shape.sequences.tokens(), direction, turned);
    }

    /// o (queries, d): what went into the output projection.
    void mixed_again(const Workspace<D>& w, const Tape& t, Matrix<A> o) const {
        const WorkspaceScope scope(w);
        if (norm.weight) {
            layer_norm_forward(w.device, t.mixed, norm, o);
        } else if (!t.pattern.is_plain()) {
            PatternedAttention<D>(w, t.shape, t.pattern).output(t.inputs().v, t.probabilities, o);
        } else if (recomputes(w, t)) {
            T* log_sum = scratch<T>(w, heads * t.shape.queries());  // as it is on the tape
            recomputed_attention_forward(w.device, t.shape, t.inputs(), log_sum, o);
        } else {
            attention_output(w.device, t.shape, t.inputs().v, t.probabilities, o);
        }
    }

    /// dx from d_o, the gradient of what attention mixed.
    template <class Input>
    void input_gradients(const Workspace<D>& w, const Tape& t, Matrix<const A> d_o, const Input& input,
                         Matrix<A> dx) const {
        const WorkspaceScope scope(w);
        const AttentionShape& shape = t.shape;
        const Index rows = shape.sequences.rows(), count = shape.sequences.count;
        if (in_proj.needs_input()) input(dx);  // in the memory of its gradient
        if (!shape.selection) {
            const Matrix<A> d_qkv = scratch<A>(w, rows, 3 * d);
            if (t.pattern.is_plain())
                attention_gradients(w, t, d_o, Tape::split(Matrix<A>(), d_qkv));
            else
                PatternedAttention<D>(w, shape, t.pattern).backward(t.inputs(), t.probabilities, d_o, d_qkv);
            turn(w, shape, Turn::back, d_qkv);
            linear_gradients(w, in_proj, dx, d_qkv, dx);
            return;
        }
        const Matrix<A> dq = scratch<A>(w, count, d), d_kv = scratch<A>(w, rows, 2 * d);
        attention_gradients(w, t, d_o, Tape::split(dq, d_kv));
        turn(w, shape, Turn::back, d_kv);
        const Matrix<A> d_selected = scratch<A>(w, count, d);
        const Linear<T> project_q = in_proj.row_range(0, d), project_kv = in_proj.row_range(d, 2 * d);
        if (in_proj.needs_input()) gather_selected(w.device, shape.sequences, *shape.selection, dx, d_selected);
        linear_gradients(w, project_q, d_selected, dq, d_selected);
        linear_gradients(w, project_kv, dx, d_kv, dx);
        scatter_add_selected(w.device, shape.sequences, *shape.selection, d_selected, dx);
    }

    void attention_gradients(const Workspace<D>& w, const Tape& t, Matrix<const A> d_o,
                             const QueriesKeysValues<A>& gradients) const {
        if (recomputes(w, t))
            recomputed_attention_backward(w, t.shape, t.inputs(), t.log_sum, d_o, gradients);
        else
            attention_backward(w, t.shape, t.inputs(), t.probabilities, d_o, gradients);
    }
};

}  // namespace promptkd
