// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/attention_pool.hpp>

namespace promptkd {

/// What the backward pass of a VisionHead needs.
template <Device D>
struct VisionHeadTape {
    using T = typename D::Scalar;
    using A = typename D::Activation;
    Matrix<A> last;                ///< what the last block wrote: one row an image, or all
    bool by_itself = false;        ///< each row has features of its own: nothing is pooled
    RowMoments<T> moments_before;  ///< of the norm in front of the pooling
    AttentionPoolTape<D> pool;     ///< of the pooling by attention
    Matrix<A> pooled;              ///< (batch, p)
    RowMoments<T> moments_after;   ///< of the norm behind the pooling
};

/// From the tokens behind the last block to the features of an image: norm, pooling, norm, projection, of which each
/// but the pooling may be absent. CLIP: the class token, ln_post, projection.
template <Device D>
class VisionHead {
public:
    using T = typename D::Scalar;
    using A = typename D::Activation;

    /// Of a tower that is described so; its weights are read by visit() and read_pool().
    explicit VisionHead(const VisionConfig& config) : config_(config) {
        before_.epsilon = config.blocks.epsilon;
        after_.epsilon = config.blocks.epsilon;
    }

    /// Whether one token an image is all that is read.
    bool reads_one_token() const { return config_.reads_one_token(); }
    /// The last norm.
    template <class Visitor>
    void visit_norm(Visitor& visitor) {
        if (!config_.last_norm) return;
        if (config_.pool_norm == NormPlace::before) return visitor.norm(schema::Role::last_norm, before_);
        visitor.sizes().set(schema::Size::width, config_.pooled_width);
        visitor.norm(schema::Role::last_norm, after_);
        visitor.sizes().set(schema::Size::width, config_.width);
    }
    /// The projection.
    template <class Visitor>
    void visit_projection(Visitor& visitor) {
        if (!config_.projection) return;
        visitor.sizes().set(schema::Size::width, config_.pooled_width);
        visitor.matrix(schema::Role::projection, projection_);
        visitor.sizes().set(schema::Size::width, config_.width);
    }
    /// The pooling, where it has weights. CoCa's keys have a norm of their own in front.
    void read_pool(WeightReader<D>& reader, FrozenStore<D>& store) {
        if (config_.pooling != Pooling::attention) return;
        pool_ = AttentionPool<D>(reader, store, config_);
        if (reader.is_there(schema::Role::pool_norm_key)) reader.norm(schema::Role::pool_norm_key, before_);
    }

    /// features (batch, e) of t.last, tokens of the sequences `s`; or, where t says that each row stands by itself,
    /// (rows, e): its norms and its projection alone.
    void forward(const Workspace<D>& w, const Sequences& s, VisionHeadTape<D>& t, Keep kept, Matrix<T> features) const {
        const WorkspaceScope scope(w);
        Matrix<A> x = t.last;
        if (before_.weight) {
            if (kept == Keep::yes) t.moments_before = keep_moments<T>(w, x.rows);
            x = scratch<A>(w, x.rows, x.columns);
            layer_norm_forward(w.device, t.last, before_, x, t.moments_before);
        }
        const bool pools = !t.by_itself && !reads_one_token();
        t.pooled = pools ? take<A>(w, kept, s.count, config_.pooled_width) : x;
        if (pools && config_.pooling == Pooling::mean) mean_of_tokens(w.device, patches(s), x, t.pooled);
        if (pools && config_.pooling == Pooling::attention)
            pool_.forward(w, s, x, t.pooled, kept == Keep::yes ? &t.pool : nullptr);
        x = t.pooled;
        if (after_.weight) {
            if (kept == Keep::yes) t.moments_after = keep_moments<T>(w, x.rows);
            x = scratch<A>(w, x.rows, x.columns);
            layer_norm_forward(w.device, t.pooled, after_, x, t.moments_after);
        }
        if (config_.projection)
            linear_forward(w, projection_, x, features);
        else
            convert(w.device, x, features);
    }

    /// d_last, the gradient of t.last, from d_features (batch, e); and the gradients of weights that are trained.
    void backward(const Workspace<D>& w, const Sequences& s, Matrix<const T> d_features, const VisionHeadTape<D>& t,
                  Matrix<A> d_last) const {
        const WorkspaceScope scope(w);
        const Matrix<A> d_out = scratch<A>(w, d_features.rows, config_.embed);
        convert(w.device, d_features, d_out);
        const bool pools = !t.by_itself && !reads_one_token();
        const Matrix<A> d_pooled = pools ? scratch<A>(w, s.count, config_.pooled_width) : d_last;
        projection_backward(w, t, d_out, d_pooled);
        if (after_.weight) norm_backward(w, after_, LayerNormTape<A, T>{t.pooled, t.moments_after}, d_pooled);
        if (pools && config_.pooling == Pooling::mean) mean_of_tokens_backward(w.device, patches(s), d_pooled, d_last);
        if (pools && config_.pooling == Pooling::attention) pool_.backward(w, t.pool, d_pooled, d_last);
        if (before_.weight) norm_backward(w, before_, LayerNormTape<A, T>{t.last, t.moments_before}, d_last);
    }

private:
    PatchTokens patches(const Sequences& s) const { return {config_.class_tokens(), config_.cells(), s.tokens()}; }

    void projection_backward(const Workspace<D>& w, const VisionHeadTape<D>& t, Matrix<const A> d_out,
                             Matrix<A> d_pooled) const {
        if (!config_.projection) return copy(w.device, d_out, d_pooled);
        if (projection_.needs_input()) {  // its input again, in the memory of its gradient
            if (after_.weight)
                layer_norm_forward(w.device, t.pooled, after_, d_pooled);
            else
                copy(w.device, t.pooled, d_pooled);
            add_linear_gradients(w, projection_, d_pooled, d_out);
        }
        linear_backward(w, projection_, d_out, d_pooled);
    }

    /// d, the gradient of a norm's output, becomes that of its input.
    static void norm_backward(const Workspace<D>& w, const Norm<T>& norm, const LayerNormTape<A, T>& t, Matrix<A> d) {
        add_norm_gradients(w.device, norm, t, d);
        layer_norm_backward(w.device, norm, t, d, d);
    }

    VisionConfig config_;
    Norm<T> before_, after_;
    AttentionPool<D> pool_;
    Linear<T> projection_;
};

}  // namespace promptkd
