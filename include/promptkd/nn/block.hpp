// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/nn/mlp.hpp>
#include <promptkd/nn/self_attention.hpp>
#include <promptkd/op/branch.hpp>

namespace promptkd {

/// What the backward pass of a branch's end needs, with a norm behind it or a γ that is trained.
template <Device D>
struct BranchTape {
    Matrix<typename D::Activation> f;          ///< what the branch wrote
    RowMoments<typename D::Scalar> moments{};  ///< of the norm
};

/// What the backward pass of one block needs; allocated in the arena by the forward pass.
template <Device D>
struct BlockTape {
    using T = typename D::Scalar;
    using A = typename D::Activation;
    SelfAttentionTape<D> attention;  ///< of the first branch
    MlpTape<D> mlp;                  ///< of the second branch
    Matrix<const A> x;               ///< input (rows, d)
    RowMoments<T> moments_1;         ///< of ln_1 in front of attention
    Matrix<A> x_mid;                 ///< after the attention's residual (queries, d)
    RowMoments<T> moments_2;         ///< of ln_2 in front of the MLP
    BranchTape<D> behind_1;          ///< of ln_1 behind attention
    BranchTape<D> behind_2;          ///< of ln_2 behind the MLP
    bool alone = false;              ///< see Block

    /// Of the first LayerNorm in front of its branch.
    LayerNormTape<A, T> ln_1() const { return {x, moments_1}; }
    /// Of the second LayerNorm in front of its branch.
    LayerNormTape<A, T> ln_2() const { return {x_mid, moments_2}; }
};

/// What the last block of a transformer is instead of the model's own, for features of single tokens: what its
/// attention compares, and whether the attention branch leaves the block alone, without residual and MLP (MaskCLIP,
/// SCLIP, ClearCLIP, NACLIP; see clip/dense_method.hpp).
template <class T>
struct LastBlock {
    AttentionPattern<T> pattern;  ///< of its attention
    bool alone = false;           ///< no residual, no MLP

    /// Whether it is the model's own.
    bool is_plain() const { return pattern.is_plain() && !alone; }
};

/// A residual attention block: x += γ₁∘attn(ln_1(x)); x += γ₂∘mlp(ln_2(x)), or x += ln_1(attn(x)); x += ln_2(mlp(x))
/// with NormPlace::after. γ is 1 unless there is LayerScale. With a Selection (the last block) only one row a sequence
/// leaves the block, so queries, output projection and MLP run for those rows alone; keys and values for all. Whether a
/// weight is frozen or trained is its layer's own matter; what the gradients of trained ones need is computed again, so
/// that the tape is the same. With `alone` y is what the attention branch adds, γ₁∘attn(ln_1(x)) or ln_1(attn(x)).
template <Device D>
struct Block {
    using T = typename D::Scalar;
    using A = typename D::Activation;

    Norm<T> ln_1, ln_2;                   ///< of attention and of the MLP
    SelfAttention<D> attention;           ///< the first branch
    Mlp<D> mlp;                           ///< the second branch
    WeightVector<T> scale_1, scale_2;     ///< γ (d) of the branches; without values: 1
    NormPlace norms = NormPlace::before;  ///< where ln_1 and ln_2 stand
    bool alone = false;                   ///< the attention branch alone; takes no selection

    /// The same block with another policy.
    Block as(const LastBlock<T>& policy) const {
        Block other = *this;
        other.attention.pattern = policy.pattern;
        other.alone = policy.alone;
        return other;
    }

    /// d.
    Index width() const { return attention.d; }

    /// y (queries, d) from x (rows, d). y may be x when nothing is taped and there is no selection. With `tape`, x and
    /// what the tape points to must stay as they are until backward().
    void forward(const Workspace<D>& w, const Sequences& s, const std::optional<Selection>& selection,
                 Matrix<const A> x, Matrix<A> y, BlockTape<D>* tape) const {
        const Index d = width();
        require_shape(x, s.rows(), d, "residual attention block: x");
        require_shape(y, selection ? s.count : s.rows(), d, "residual attention block: y");
        const Keep kept = tape ? Keep::yes : Keep::no;
        BlockTape<D> local;
        BlockTape<D>& t = tape ? *tape : local;
        require(!selection || (attention.pattern.is_plain() && !alone),
                "residual attention block: a variant of it runs for all rows");
        t.attention.shape = attention.shape_of(w.device, s, selection);
        t.alone = alone;
        const Index queries = t.attention.shape.queries();
        if (kept == Keep::yes) allocate_kept(w, t);
        const WorkspaceScope scope(w);
        t.x = x;
        if (kept == Keep::no && !alone) t.x_mid = selection ? scratch<A>(w, queries, d) : y;
        const Matrix<A> o = scratch<A>(w, queries, d);
        {
            const WorkspaceScope inner(w);
            if (kept == Keep::no) attention.allocate(w, Keep::no, t.attention);
            attend(w, t, o, kept);
        }
        if (alone) return leave(w, t, o, y);
        finish_attention(w, t, o);
        if (kept == Keep::no) mlp.allocate(w, Keep::no, queries, t.mlp);
        const auto run = [&](Matrix<A> out, Matrix<const A> residual) {
            mlp.forward(w, norms == NormPlace::before ? Matrix<const A>(o) : Matrix<const A>(t.x_mid), t.mlp, kept, out,
                        residual);
        };
        join(w, BranchEnd{ln_2, scale_2}, t.behind_2, t.x_mid, y, run);
    }

    /// dx (rows, d) from dy (queries, d), and the gradients of the weights that are trained. dx may be dy when there is
    /// no selection.
    void backward(const Workspace<D>& w, const BlockTape<D>& t, Matrix<const A> dy, Matrix<A> dx) const {
        const AttentionShape& shape = t.attention.shape;
        const Index queries = shape.queries(), rows = shape.sequences.rows(), d = width();
        require_shape(dy, queries, d, "gradient of a residual attention block: dy");
        require_shape(dx, rows, d, "gradient of a residual attention block: dx");
        const WorkspaceScope scope(w);
        const Matrix<A> d_mid = shape.selection ? scratch<A>(w, queries, d) : dx;
        if (!t.alone) mlp_backward(w, t, dy, d_mid);
        const Matrix<const A> d_out =
            into_branch(w, BranchEnd{ln_1, scale_1}, t.behind_1, t.alone ? dy : Matrix<const A>(d_mid));
        const Matrix<A> d_in = scratch<A>(w, rows, d);
        const auto input = [&](Matrix<A> to) { write_input(w, ln_1, t.x, to); };
        attention.backward(w, t.attention, d_out, input, d_in);
        if (norms == NormPlace::before) add_norm_gradients(w.device, ln_1, t.ln_1(), d_in);
        if (t.alone) zero(w.device, dx);
        if (shape.selection) {
            zero(w.device, dx);
            scatter_add_selected(w.device, shape.sequences, *shape.selection, d_mid, dx);
        }
        out_of_branch(w, ln_1, t.ln_1(), d_in, dx);
    }

private:
    /// How a branch joins the residual stream.
    struct BranchEnd {
        const Norm<T>& norm;
        const WeightVector<T>& scale;
    };

    void allocate_kept(const Workspace<D>& w, BlockTape<D>& t) const {
        const Index rows = t.attention.shape.sequences.rows(), queries = t.attention.shape.queries();
        if (norms == NormPlace::before) t.moments_1 = keep_moments<T>(w, rows);
        attention.allocate(w, Keep::yes, t.attention);
        keep_branch(w, queries, scale_1, t.behind_1);
        if (t.alone) return;
        t.x_mid = keep<A>(w, queries, width());
        if (norms == NormPlace::before) t.moments_2 = keep_moments<T>(w, queries);
        mlp.allocate(w, Keep::yes, queries, t.mlp);
        keep_branch(w, queries, scale_2, t.behind_2);
    }

    /// What a branch wrote, where its end needs it again: a norm behind it, or the gradient of γ.
    void keep_branch(const Workspace<D>& w, Index queries, const WeightVector<T>& scale, BranchTape<D>& t) const {
        const bool behind = norms == NormPlace::after;
        if (behind || scale.gradient) t.f = keep<A>(w, queries, width());
        if (behind) t.moments = keep_moments<T>(w, queries);
    }

    /// o = attention(ln_1(x)), or attention(x), before the output projection.
    void attend(const Workspace<D>& w, BlockTape<D>& t, Matrix<A> o, Keep kept) const {
        if (norms == NormPlace::after) return attention.forward(w, t.x, t.attention, o, kept);
        const WorkspaceScope scope(w);
        const Matrix<A> norm = scratch<A>(w, t.x.rows, t.x.columns);
        layer_norm_forward(w.device, t.x, ln_1, norm, t.moments_1);
        attention.forward(w, norm, t.attention, o, kept);
    }

    /// x_mid = x (its selected rows) + the attention branch; then, unless the norms stand behind, o = ln_2(x_mid).
    void finish_attention(const Workspace<D>& w, BlockTape<D>& t, Matrix<A> o) const {
        const WorkspaceScope scope(w);
        const AttentionShape& shape = t.attention.shape;
        Matrix<const A> residual = t.x;
        if (shape.selection) {
            const Matrix<A> selected = scratch<A>(w, o.rows, o.columns);
            gather_selected(w.device, shape.sequences, *shape.selection, t.x, selected);
            residual = selected;
        }
        const auto run = [&](Matrix<A> out, Matrix<const A> added) {
            linear_forward(w, attention.out_proj, o, out, added);
        };
        join(w, BranchEnd{ln_1, scale_1}, t.behind_1, residual, t.x_mid, run);
        if (norms == NormPlace::before) layer_norm_forward(w.device, t.x_mid, ln_2, o, t.moments_2);
    }

    /// y = the attention branch, without what it is added to.
    void leave(const Workspace<D>& w, BlockTape<D>& t, Matrix<A> o, Matrix<A> y) const {
        const WorkspaceScope scope(w);
        const bool before = norms == NormPlace::before;
        if (before && !scale_1.values) return linear_forward(w, attention.out_proj, o, y);
        const Matrix<A> f = t.behind_1.f.data ? t.behind_1.f : scratch<A>(w, y.rows, y.columns);
        linear_forward(w, attention.out_proj, o, f);
        if (before)
            scale_columns(w.device, f, scale_1.values, y);
        else
            layer_norm_forward(w.device, f, ln_1, y, t.behind_1.moments);
    }

    /// y = x + the branch, which `run(out, residual)` writes; a plain branch adds the residual in its last product. y
    /// may be x.
    template <class Run>
    void join(const Workspace<D>& w, const BranchEnd& end, const BranchTape<D>& t, Matrix<const A> x, Matrix<A> y,
              const Run& run) const {
        if (norms == NormPlace::before && !end.scale.values) return run(y, x);
        const WorkspaceScope scope(w);
        const Matrix<A> f = t.f.data ? t.f : scratch<A>(w, y.rows, y.columns);
        run(f, Matrix<const A>());
        if (norms == NormPlace::before) return add_scaled_columns(w.device, f, end.scale.values, x, y);
        const Matrix<A> norm = scratch<A>(w, y.rows, y.columns);
        layer_norm_forward(w.device, f, end.norm, norm, t.moments);
        if (x.data != y.data) copy(w.device, x, y);
        add(w.device, norm, y);
    }

    /// The gradient of what a branch's run() wrote, from dy: dy itself where the branch is plain.
    Matrix<const A> into_branch(const Workspace<D>& w, const BranchEnd& end, const BranchTape<D>& t,
                                Matrix<const A> dy) const {
        if (norms == NormPlace::before && !end.scale.values) return dy;
        const Matrix<A> d_f = scratch<A>(w, dy.rows, dy.columns);
        if (norms == NormPlace::before) {
            if (end.scale.gradient) add_scale_gradients(w.device, t.f, dy, end.scale.gradient);
            scale_columns(w.device, dy, end.scale.values, d_f);
            return d_f;
        }
        const LayerNormTape<A, T> norm{t.f, t.moments};
        add_norm_gradients(w.device, end.norm, norm, dy);
        layer_norm_backward(w.device, end.norm, norm, dy, d_f);
        return d_f;
    }

    /// dx += the gradient through a branch's beginning, from d_in, that of the branch's input.
    void out_of_branch(const Workspace<D>& w, const Norm<T>& norm, const LayerNormTape<A, T>& t, Matrix<const A> d_in,
                       Matrix<A> dx) const {
        if (norms == NormPlace::before)
            layer_norm_backward(w.device, norm, t, d_in, dx, Accumulate::yes);
        else
            add(w.device, d_in, dx);
    }

    /// The input of a branch again.
    void write_input(const Workspace<D>& w, const Norm<T>& norm, Matrix<const A> x, Matrix<A> to) const {
        if (norms == NormPlace::before)
            layer_norm_forward(w.device, x, norm, to);
        else
            copy(w.device, x, to);
    }

    /// d_mid = dy + the gradient through the MLP. d_mid may be dy.
    void mlp_backward(const Workspace<D>& w, const BlockTape<D>& t, Matrix<const A> dy, Matrix<A> d_mid) const {
        const WorkspaceScope scope(w);
        const Matrix<const A> d_out = into_branch(w, BranchEnd{ln_2, scale_2}, t.behind_2, dy);
        const Matrix<A> d_in = scratch<A>(w, dy.rows, dy.columns);
        const auto input = [&](Matrix<A> to) { write_input(w, ln_2, t.x_mid, to); };
        mlp.backward(w, t.mlp, d_out, input, d_in);
        if (norms == NormPlace::before) add_norm_gradients(w.device, ln_2, t.ln_2(), d_in);
        if (d_mid.data != dy.data) copy(w.device, dy, d_mid);
        out_of_branch(w, ln_2, t.ln_2(), d_in, d_mid);
    }
};

}  // namespace promptkd
