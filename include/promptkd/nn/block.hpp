// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/nn/linear.hpp>
#include <promptkd/nn/weight_gradients.hpp>
#include <promptkd/op/attention.hpp>
#include <promptkd/op/elementwise.hpp>
#include <promptkd/op/fused_attention.hpp>
#include <promptkd/op/norm.hpp>

namespace promptkd {

/// What the backward pass of one block needs; allocated in the arena by the forward pass.
template <Device D>
struct BlockTape {
    using T = typename D::Scalar;
    using A = typename D::Activation;
    AttentionShape attention;  ///< sequences and heads of the pass
    Matrix<const A> x;         ///< input (rows, d)
    RowMoments<T> moments_1;   ///< of ln_1
    Matrix<A> qkv;             ///< queries, keys, values (rows, 3d); with a selection keys and values alone (rows, 2d)
    Matrix<A> selected_q;      ///< with a selection: the queries (count, d)
    A* probabilities = nullptr;  ///< (heads·queries, tokens); null with the fused attention, which keeps
    T* log_sum = nullptr;        ///< (heads·queries) instead
    Matrix<A> x_mid;             ///< after the attention's residual (queries, d)
    RowMoments<T> moments_2;     ///< of ln_2
    Matrix<A> hidden;            ///< c_fc's output before the GELU (queries, 4d)

    /// Of the first LayerNorm.
    LayerNormTape<A, T> ln_1() const { return {x, moments_1}; }
    /// Of the second LayerNorm.
    LayerNormTape<A, T> ln_2() const { return {x_mid, moments_2}; }
    /// What attention read.
    QueriesKeysValues<A> attention_inputs() const { return split(selected_q, qkv); }

    /// Queries, keys and values that stand side by side in `qkv`; or, unless `selected_q` is empty, keys and values.
    static QueriesKeysValues<A> split(Matrix<A> selected_q, Matrix<A> qkv) {
        const Index d = selected_q.data ? qkv.columns / 2 : qkv.columns / 3, first = selected_q.data ? 0 : d;
        return {selected_q.data ? selected_q : qkv.column_range(0, d), qkv.column_range(first, d),
                qkv.column_range(first + d, d)};
    }
};

/// CLIP's residual attention block: x += attn(ln_1(x)); x += c_proj(gelu(c_fc(ln_2(x)))).
/// With a Selection (the last block) only one row a sequence leaves the block, so queries, output projection and MLP
/// run for those rows alone; keys and values for all. The weights are frozen unless backward() is told where their
/// gradients go; what these need is then computed again, so that the tape is the same.
template <Device D>
struct Block {
    using T = typename D::Scalar;
    using A = typename D::Activation;

    FrozenNorm<T> ln_1, ln_2;                         ///< in front of attention and of the MLP
    FrozenLinear<T> in_proj, out_proj, c_fc, c_proj;  ///< of attention and of the MLP
    Index d = 0, heads = 0;                           ///< width, attention heads
    Gelu gelu = Gelu::quick;                          ///< activation of the MLP

    /// y (queries, d) from x (rows, d). y may be x when nothing is taped and there is no selection. With `tape`, x and
    /// what the tape points to must stay as they are until backward().
    void forward(const Workspace<D>& w, const Sequences& s, const std::optional<Selection>& selection,
                 Matrix<const A> x, Matrix<A> y, BlockTape<D>* tape) const {
        require_shape(x, s.rows(), d, "residual attention block: x");
        require_shape(y, selection ? s.count : s.rows(), d, "residual attention block: y");
        const Keep keep = tape ? Keep::yes : Keep::no;
        BlockTape<D> local;
        BlockTape<D>& t = tape ? *tape : local;
        t.attention = attention_shape(w.device, s, selection);
        const Index queries = t.attention.queries();
        if (keep == Keep::yes) allocate_kept(w, t);
        const WorkspaceScope scope(w);
        t.x = x;
        if (keep == Keep::no) t.x_mid = selection ? scratch<A>(w, queries, d) : y;
        const Matrix<A> o = scratch<A>(w, queries, d);
        {
            const WorkspaceScope inner(w);
            if (keep == Keep::no) allocate_attention(w, Keep::no, t);
            attend(w, t, o, keep);
        }
        finish_attention(w, t, o);
        if (keep == Keep::no) t.hidden = scratch<A>(w, queries, c_fc.outputs());
        mlp(w, t, o, y, keep);
    }

    /// dx (rows, d) from dy (queries, d). dx may be dy when there is no selection. `weights`: where the gradients of
    /// the weights are added; null for frozen ones.
    void backward(const Workspace<D>& w, const BlockTape<D>& t, Matrix<const A> dy, Matrix<A> dx,
                  const WeightGradients<T>* weights = nullptr) const {
        const AttentionShape& shape = t.attention;
        const Index queries = shape.queries(), rows = shape.sequences.rows();
        require_shape(dy, queries, d, "gradient of a residual attention block: dy");
        require_shape(dx, rows, d, "gradient of a residual attention block: dx");
        const WorkspaceScope scope(w);
        const Matrix<A> d_mid = shape.selection ? scratch<A>(w, queries, d) : dx;
        mlp_backward(w, t, dy, d_mid, weights);
        if (weights) output_gradients(w, t, d_mid, *weights);
        const Matrix<A> d_o = scratch<A>(w, queries, d);
        linear_backward(w.device, out_proj, d_mid, d_o);
        const Matrix<A> d_norm = scratch<A>(w, rows, d);
        attend_backward(w, t, d_o, d_norm, weights);
        add_norm_gradients(w.device, ln_1, t.ln_1(), d_norm, weights);
        if (shape.selection) {
            zero(w.device, dx);
            scatter_add_selected(w.device, shape.sequences, *shape.selection, d_mid, dx);
        }
        layer_norm_backward(w.device, ln_1, t.ln_1(), d_norm, dx, Accumulate::yes);
    }

private:
    AttentionShape attention_shape(const D& device, const Sequences& s,
                                   const std::optional<Selection>& selection) const {
        AttentionShape shape;
        shape.sequences = s;
        shape.selection = selection;
        shape.heads = heads;
        shape.head_dim = d / heads;
        shape.tile = attention_tile(device, shape);
        return shape;
    }

    void allocate_kept(const Workspace<D>& w, BlockTape<D>& t) const {
        const Index rows = t.attention.sequences.rows(), queries = t.attention.queries();
        t.moments_1 = keep_moments<T>(w, rows);
        allocate_attention(w, Keep::yes, t);
        t.x_mid = keep<A>(w, queries, d);
        t.moments_2 = keep_moments<T>(w, queries);
        t.hidden = keep<A>(w, queries, c_fc.outputs());
    }

    void allocate_attention(const Workspace<D>& w, Keep kept, BlockTape<D>& t) const {
        const AttentionShape& shape = t.attention;
        const Index rows = shape.sequences.rows();
        if (shape.selection) t.selected_q = take<A>(w, kept, shape.sequences.count, d);
        t.qkv = take<A>(w, kept, rows, shape.selection ? 2 * d : 3 * d);
        if (uses_fused_attention(w.device, shape))
            t.log_sum = take<T>(w, kept, heads * rows);
        else
            t.probabilities = take<A>(w, kept, kept == Keep::yes ? shape.scores() : shape.tile_scores());
    }

    /// o = attention(ln_1(x)) before the output projection.
    void attend(const Workspace<D>& w, BlockTape<D>& t, Matrix<A> o, Keep keep) const {
        const WorkspaceScope scope(w);
        const AttentionShape& shape = t.attention;
        const Sequences& s = shape.sequences;
        const Matrix<A> norm = scratch<A>(w, s.rows(), d);
        layer_norm_forward(w.device, t.x, ln_1, norm, t.moments_1);
        if (shape.selection) {
            const Matrix<A> selected = scratch<A>(w, s.count, d);
            gather_selected(w.device, s, *shape.selection, norm, selected);
            linear_forward(w.device, in_proj.row_range(0, d), selected, t.selected_q);
            linear_forward(w.device, in_proj.row_range(d, 2 * d), norm, t.qkv);
        } else {
            linear_forward(w.device, in_proj, norm, t.qkv);
        }
        if (uses_fused_attention(w.device, shape))
            fused_attention_forward(w.device, shape, t.attention_inputs(), t.log_sum, o);
        else
            attention_forward(w, shape, t.attention_inputs(), t.probabilities, o, keep);
    }

    /// x_mid = x (its selected rows) + out_proj(o), then o = ln_2(x_mid).
    void finish_attention(const Workspace<D>& w, BlockTape<D>& t, Matrix<A> o) const {
        const WorkspaceScope scope(w);
        const AttentionShape& shape = t.attention;
        Matrix<const A> residual = t.x;
        if (shape.selection) {
            const Matrix<A> selected = scratch<A>(w, o.rows, d);
            gather_selected(w.device, shape.sequences, *shape.selection, t.x, selected);
            residual = selected;
        }
        linear_forward(w.device, out_proj, o, t.x_mid, residual);
        layer_norm_forward(w.device, t.x_mid, ln_2, o, t.moments_2);
    }

    /// y = x_mid + c_proj(gelu(c_fc(norm))), norm = ln_2(x_mid).
    void mlp(const Workspace<D>& w, BlockTape<D>& t, Matrix<const A> norm, Matrix<A> y, Keep keep) const {
        const WorkspaceScope scope(w);
        const Matrix<A> active = keep == Keep::yes ? scratch<A>(w, norm.rows, c_fc.outputs()) : t.hidden;
        linear_forward(w.device, c_fc, norm, t.hidden);
        gelu_forward(w.device, gelu, t.hidden, active);
        linear_forward(w.device, c_proj, active, y, t.x_mid);
    }

    /// d_mid = dy + the gradient through the MLP. d_mid may be dy.
    void mlp_backward(const Workspace<D>& w, const BlockTape<D>& t, Matrix<const A> dy, Matrix<A> d_mid,
                      const WeightGradients<T>* weights) const {
        const WorkspaceScope scope(w);
        const Index queries = dy.rows, width = c_fc.outputs();
        if (weights) {
            const WorkspaceScope inner(w);
            const Matrix<A> active = scratch<A>(w, queries, width);
            gelu_forward(w.device, gelu, t.hidden, active);
            add_linear_gradients(w.device, c_proj, active, dy, weights);
        }
        const Matrix<A> d_hidden = scratch<A>(w, queries, width);
        linear_backward(w.device, c_proj, dy, d_hidden);
        gelu_backward(w.device, gelu, t.hidden, d_hidden);
        const Matrix<A> d_norm = scratch<A>(w, queries, d);
        if (weights) {  // ln_2's output again, in the memory of its gradient
            layer_norm_forward(w.device, t.x_mid, ln_2, d_norm);
            add_linear_gradients(w.device, c_fc, d_norm, d_hidden, weights);
        }
        linear_backward(w.device, c_fc, d_hidden, d_norm);
        add_norm_gradients(w.device, ln_2, t.ln_2(), d_norm, weights);
        if (d_mid.data != dy.data) copy(w.device, dy, d_mid);
        layer_norm_backward(w.device, ln_2, t.ln_2(), d_norm, d_mid, Accumulate::yes);
    }

    /// Gradients of the output projection from d_mid, that of its output.
    void output_gradients(const Workspace<D>& w, const BlockTape<D>& t, Matrix<const A> d_mid,
                          const WeightGradients<T>& weights) const {
        const WorkspaceScope scope(w);
        const AttentionShape& shape = t.attention;
        const Matrix<A> o = scratch<A>(w, shape.queries(), d);
        if (uses_fused_attention(w.device, shape)) {
            T* log_sum = scratch<T>(w, heads * shape.queries());  // as it is on the tape
            fused_attention_forward(w.device, shape, t.attention_inputs(), log_sum, o);
        } else {
            attention_output(w.device, shape, t.attention_inputs().v, t.probabilities, o);
        }
        add_linear_gradients(w.device, out_proj, o, d_mid, &weights);
    }

    /// d_norm (rows, d) = the gradient of ln_1's output.
    void attend_backward(const Workspace<D>& w, const BlockTape<D>& t, Matrix<const A> d_o, Matrix<A> d_norm,
                         const WeightGradients<T>* weights) const {
        const WorkspaceScope scope(w);
        const AttentionShape& shape = t.attention;
        const Index rows = shape.sequences.rows(), count = shape.sequences.count;
        // ln_1's output again, in the memory of its gradient
        if (weights) layer_norm_forward(w.device, t.x, ln_1, d_norm);
        if (!shape.selection) {
            const Matrix<A> d_qkv = scratch<A>(w, rows, 3 * d);
            attention_gradients(w, t, d_o, BlockTape<D>::split({}, d_qkv));
            add_linear_gradients(w.device, in_proj, d_norm, d_qkv, weights);
            linear_backward(w.device, in_proj, d_qkv, d_norm);
            return;
        }
        const Matrix<A> dq = scratch<A>(w, count, d), d_kv = scratch<A>(w, rows, 2 * d);
        attention_gradients(w, t, d_o, BlockTape<D>::split(dq, d_kv));
        const Matrix<A> d_selected = scratch<A>(w, count, d);
        const FrozenLinear<T> project_q = in_proj.row_range(0, d), project_kv = in_proj.row_range(d, 2 * d);
        if (weights) {
            gather_selected(w.device, shape.sequences, *shape.selection, d_norm, d_selected);
            add_linear_gradients(w.device, project_q, d_selected, dq, weights);
            add_linear_gradients(w.device, project_kv, d_norm, d_kv, weights);
        }
        linear_backward(w.device, project_kv, d_kv, d_norm);
        linear_backward(w.device, project_q, dq, d_selected);
        scatter_add_selected(w.device, shape.sequences, *shape.selection, d_selected, d_norm);
    }

    void attention_gradients(const Workspace<D>& w, const BlockTape<D>& t, Matrix<const A> d_o,
                             const QueriesKeysValues<A>& gradients) const {
        if (uses_fused_attention(w.device, t.attention))
            fused_attention_backward(w, t.attention, t.attention_inputs(), t.log_sum, d_o, gradients);
        else
            attention_backward(w, t.attention, t.attention_inputs(), t.probabilities, d_o, gradients);
    }
};

}  // namespace promptkd
