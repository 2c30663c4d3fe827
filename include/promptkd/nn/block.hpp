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
    const A* x = nullptr;                    ///< input (rows, d)
    T *mean_1 = nullptr, *rstd_1 = nullptr;  ///< of ln_1
    A *q = nullptr, *kv = nullptr;  ///< with a selection: (count, d) and (rows, 2d); else q = (rows, 3d), kv null
    A* probabilities = nullptr;     ///< (heads, queries, tokens); null with the fused attention, which keeps
    T* log_sum = nullptr;           ///< (heads, queries) instead
    A* x_mid = nullptr;             ///< after the attention's residual (queries, d)
    T *mean_2 = nullptr, *rstd_2 = nullptr;  ///< of ln_2
    A* hidden = nullptr;                     ///< c_fc's output before the GELU (queries, 4d)
};

/// CLIP's residual attention block: x += attn(ln_1(x)); x += c_proj(gelu(c_fc(ln_2(x)))).
/// With a Selection (the last block) only one row a sequence leaves the block, so queries, output projection and MLP
/// run for those rows alone; keys and values for all. The weights are frozen unless backward() is told where their
/// gradients go; what these need is then computed again, so that the tape is the same.
template <Device D>
struct Block {
    using T = typename D::Scalar;
    using A = typename D::Activation;

    FrozenNorm<T> ln_1, ln_2;
    FrozenLinear<T> in_proj, out_proj, c_fc, c_proj;
    Index d = 0, heads = 0;
    Gelu gelu = Gelu::quick;

    /// y (queries, d) from x (rows, d). y may be x when nothing is taped and there is no selection. With `tape`, x and
    /// what the tape points to must stay as they are until backward().
    void forward(D& device, Arena<D>& arena, const Sequences& s, const Selection* selection, const A* x, A* y,
                 BlockTape<D>* tape) const {
        const bool keep = tape != nullptr;
        BlockTape<D> local;
        BlockTape<D>& t = keep ? *tape : local;
        const Index queries = selection ? s.count : s.rows();
        allocate_kept(device, arena, s, selection, keep, t);
        typename Arena<D>::Scope scope(arena);
        t.x = x;
        if (!keep) t.x_mid = selection ? arena.template scratch<A>(queries * d) : y;
        A* o = arena.template scratch<A>(queries * d);
        {
            typename Arena<D>::Scope inner(arena);
            if (!keep) allocate_attention(device, arena, s, selection, false, t);
            attend(device, arena, attention_shape(device, s, selection), t, o, keep);
        }
        finish_attention(device, arena, s, selection, t, o);
        if (!keep) t.hidden = arena.template scratch<A>(queries * c_fc.weight.rows);
        mlp(device, arena, queries, t, o, y, keep);
    }

    /// dx (rows, d) from dy (queries, d). dx may be dy when there is no selection. `weights`: where the gradients of
    /// the weights are added; null for frozen ones.
    void backward(D& device, Arena<D>& arena, const Sequences& s, const Selection* selection, const BlockTape<D>& t,
                  const A* dy, A* dx, const WeightGradients<T>* weights = nullptr) const {
        typename Arena<D>::Scope scope(arena);
        const Index queries = selection ? s.count : s.rows();
        A* d_mid = selection ? arena.template scratch<A>(queries * d) : dx;
        mlp_backward(device, arena, queries, t, dy, d_mid, weights);
        const AttentionShape shape = attention_shape(device, s, selection);
        if (weights) output_gradients(device, arena, shape, t, d_mid, weights);
        A* d_o = arena.template scratch<A>(queries * d);
        linear_backward(device, out_proj, d_mid, d_o, queries);
        A* d_norm = arena.template scratch<A>(s.rows() * d);
        attend_backward(device, arena, shape, t, d_o, d_norm, weights);
        add_norm_gradients(device, ln_1, t.x, d_norm, t.mean_1, t.rstd_1, s.rows(), d, weights);
        if (selection) {
            device.zero(dx, static_cast<std::size_t>(s.rows() * d) * sizeof(A));
            scatter_add_selected(device, s, *selection, d_mid, dx, d);
        }
        layer_norm_backward(device, t.x, d, d_norm, ln_1.weight, t.mean_1, t.rstd_1, dx, d, true, s.rows(), d);
    }

private:
    AttentionShape attention_shape(const D& device, const Sequences& s, const Selection* selection) const {
        AttentionShape shape;
        shape.sequences = s, shape.selection = selection, shape.heads = heads, shape.head_dim = d / heads;
        shape.q_ld = selection ? d : 3 * d;
        shape.kv_ld = selection ? 2 * d : 3 * d;
        shape.o_ld = d;
        shape.tile = attention_tile(device, shape);
        return shape;
    }

    void allocate_kept(D& device, Arena<D>& arena, const Sequences& s, const Selection* selection, bool keep,
                       BlockTape<D>& t) const {
        if (!keep) return;
        const Index rows = s.rows(), queries = selection ? s.count : rows;
        t.mean_1 = arena.template keep<T>(rows);
        t.rstd_1 = arena.template keep<T>(rows);
        allocate_attention(device, arena, s, selection, true, t);
        t.x_mid = arena.template keep<A>(queries * d);
        t.mean_2 = arena.template keep<T>(queries);
        t.rstd_2 = arena.template keep<T>(queries);
        t.hidden = arena.template keep<A>(queries * c_fc.weight.rows);
    }

    void allocate_attention(D& device, Arena<D>& arena, const Sequences& s, const Selection* selection, bool keep,
                            BlockTape<D>& t) const {
        const Index rows = s.rows();
        t.q = arena.template take<A>(keep, selection ? s.count * d : rows * 3 * d);
        t.kv = selection ? arena.template take<A>(keep, rows * 2 * d) : nullptr;
        const AttentionShape shape = attention_shape(device, s, selection);
        if (uses_fused_attention(device, shape))
            t.log_sum = arena.template take<T>(keep, heads * rows);
        else
            t.probabilities = arena.template take<A>(keep, keep ? shape.scores() : shape.tile_scores());
    }

    /// o = attention(ln_1(x)) before the output projection.
    void attend(D& device, Arena<D>& arena, const AttentionShape& shape, BlockTape<D>& t, A* o, bool keep) const {
        typename Arena<D>::Scope scope(arena);
        const Sequences& s = shape.sequences;
        const Index rows = s.rows();
        A* norm = arena.template scratch<A>(rows * d);
        layer_norm_forward(device, t.x, d, ln_1.weight, ln_1.bias, norm, t.mean_1, t.rstd_1, rows, d);
        if (shape.selection) {
            A* chosen = arena.template scratch<A>(s.count * d);
            gather_selected(device, s, *shape.selection, norm, chosen, d);
            linear_forward(device, in_proj.row_range(0, d), chosen, t.q, s.count);
            linear_forward(device, in_proj.row_range(d, 2 * d), norm, t.kv, rows);
            attention_forward(device, arena, shape, t.q, t.kv, t.kv + d, t.probabilities, o, keep);
        } else {
            linear_forward(device, in_proj, norm, t.q, rows);
            const A *q = t.q, *k = q + d, *v = q + 2 * d;
            if (uses_fused_attention(device, shape))
                fused_attention_forward(device, shape, q, k, v, t.log_sum, o);
            else
                attention_forward(device, arena, shape, q, k, v, t.probabilities, o, keep);
        }
    }

    /// x_mid = x (its selected rows) + out_proj(o), then o = ln_2(x_mid).
    void finish_attention(D& device, Arena<D>& arena, const Sequences& s, const Selection* selection, BlockTape<D>& t,
                          A* o) const {
        const Index rows = selection ? s.count : s.rows();
        typename Arena<D>::Scope scope(arena);
        const A* residual = t.x;
        if (selection) {
            A* chosen = arena.template scratch<A>(rows * d);
            gather_selected(device, s, *selection, t.x, chosen, d);
            residual = chosen;
        }
        linear_forward(device, out_proj, o, t.x_mid, rows, residual);
        layer_norm_forward(device, static_cast<const A*>(t.x_mid), d, ln_2.weight, ln_2.bias, o, t.mean_2, t.rstd_2,
                           rows, d);
    }

    /// y = x_mid + c_proj(gelu(c_fc(norm))), norm = ln_2(x_mid).
    void mlp(D& device, Arena<D>& arena, Index queries, BlockTape<D>& t, const A* norm, A* y, bool keep) const {
        typename Arena<D>::Scope scope(arena);
        A* active = keep ? arena.template scratch<A>(queries * c_fc.weight.rows) : t.hidden;
        linear_forward(device, c_fc, norm, t.hidden, queries);
        gelu_forward(device, gelu, static_cast<const A*>(t.hidden), active, queries * c_fc.weight.rows);
        linear_forward(device, c_proj, active, y, queries, static_cast<const A*>(t.x_mid));
    }

    /// d_mid = dy + the gradient through the MLP. d_mid may be dy.
    void mlp_backward(D& device, Arena<D>& arena, Index queries, const BlockTape<D>& t, const A* dy, A* d_mid,
                      const WeightGradients<T>* weights) const {
        typename Arena<D>::Scope scope(arena);
        const Index width = c_fc.weight.rows;
        if (weights) {
            typename Arena<D>::Scope inner(arena);
            A* active = arena.template scratch<A>(queries * width);
            gelu_forward(device, gelu, static_cast<const A*>(t.hidden), active, queries * width);
            add_linear_gradients(device, c_proj, static_cast<const A*>(active), dy, queries, weights);
        }
        A* d_hidden = arena.template scratch<A>(queries * width);
        linear_backward(device, c_proj, dy, d_hidden, queries);
        gelu_backward(device, gelu, t.hidden, d_hidden, queries * width);
        A* d_norm = arena.template scratch<A>(queries * d);
        if (weights) {  // ln_2's output again, in the memory of its gradient
            layer_norm_forward(device, static_cast<const A*>(t.x_mid), d, ln_2.weight, ln_2.bias, d_norm,
                               static_cast<T*>(nullptr), static_cast<T*>(nullptr), queries, d);
            add_linear_gradients(device, c_fc, static_cast<const A*>(d_norm), static_cast<const A*>(d_hidden), queries,
                                 weights);
        }
        linear_backward(device, c_fc, d_hidden, d_norm, queries);
        add_norm_gradients(device, ln_2, static_cast<const A*>(t.x_mid), static_cast<const A*>(d_norm), t.mean_2,
                           t.rstd_2, queries, d, weights);
        if (d_mid != dy) device.copy(d_mid, dy, static_cast<std::size_t>(queries * d) * sizeof(A));
        layer_norm_backward(device, t.x_mid, d, d_norm, ln_2.weight, t.mean_2, t.rstd_2, d_mid, d, true, queries, d);
    }

    /// Gradients of the output projection from d_mid, that of its output.
    void output_gradients(D& device, Arena<D>& arena, const AttentionShape& shape, const BlockTape<D>& t,
                          const A* d_mid, const WeightGradients<T>* weights) const {
        typename Arena<D>::Scope scope(arena);
        A* o = arena.template scratch<A>(shape.queries() * d);
        const A* v = shape.selection ? t.kv + d : t.q + 2 * d;
        if (uses_fused_attention(device, shape)) {
            T* log_sum = arena.template scratch<T>(heads * shape.queries());  // as it is on the tape
            fused_attention_forward(device, shape, static_cast<const A*>(t.q), static_cast<const A*>(t.q + d), v,
                                    log_sum, o);
        } else {
            attention_output(device, shape, v, static_cast<const A*>(t.probabilities), o);
        }
        add_linear_gradients(device, out_proj, static_cast<const A*>(o), d_mid, shape.queries(), weights);
    }

    /// d_norm (rows, d) = the gradient of ln_1's output.
    void attend_backward(D& device, Arena<D>& arena, const AttentionShape& shape, const BlockTape<D>& t, const A* d_o,
                         A* d_norm, const WeightGradients<T>* weights) const {
        typename Arena<D>::Scope scope(arena);
        const Sequences& s = shape.sequences;
        if (weights)  // ln_1's output again, in the memory of its gradient
            layer_norm_forward(device, t.x, d, ln_1.weight, ln_1.bias, d_norm, static_cast<T*>(nullptr),
                               static_cast<T*>(nullptr), s.rows(), d);
        if (shape.selection) {
            A* dq = arena.template scratch<A>(s.count * d);
            A* d_kv = arena.template scratch<A>(s.rows() * 2 * d);
            attention_backward(device, arena, shape, t.q, t.kv, t.kv + d, t.probabilities, d_o, dq, d_kv, d_kv + d);
            A* d_chosen = arena.template scratch<A>(s.count * d);
            if (weights) {
                gather_selected(device, s, *shape.selection, static_cast<const A*>(d_norm), d_chosen, d);
                add_linear_gradients(device, in_proj.row_range(0, d), static_cast<const A*>(d_chosen),
                                     static_cast<const A*>(dq), s.count, weights);
                add_linear_gradients(device, in_proj.row_range(d, 2 * d), static_cast<const A*>(d_norm),
                                     static_cast<const A*>(d_kv), s.rows(), weights);
            }
            linear_backward(device, in_proj.row_range(d, 2 * d), d_kv, d_norm, s.rows());
            linear_backward(device, in_proj.row_range(0, d), dq, d_chosen, s.count);
            scatter_add_selected(device, s, *shape.selection, d_chosen, d_norm, d);
        } else {
            A* d_qkv = arena.template scratch<A>(s.rows() * 3 * d);
            const A *q = t.q, *k = q + d, *v = q + 2 * d;
            A *dk = d_qkv + d, *dv = d_qkv + 2 * d;
            if (uses_fused_attention(device, shape))
                fused_attention_backward(device, arena, shape, q, k, v, static_cast<const T*>(t.log_sum), d_o, d_qkv,
                                         dk, dv);
            else
                attention_backward(device, arena, shape, q, k, v, t.probabilities, d_o, d_qkv, dk, dv);
            add_linear_gradients(device, in_proj, static_cast<const A*>(d_norm), static_cast<const A*>(d_qkv), s.rows(),
                                 weights);
            linear_backward(device, in_proj, d_qkv, d_norm, s.rows());
        }
    }
};

}  // namespace promptkd
