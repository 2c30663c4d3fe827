// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/config.hpp>
#include <promptkd/clip/weights.hpp>
#include <promptkd/nn/mlp.hpp>
#include <promptkd/op/attention.hpp>
#include <promptkd/op/pool.hpp>

#include <cmath>
#include <vector>

namespace promptkd {

/// What the backward pass of an AttentionPool needs.
template <Device D>
struct AttentionPoolTape {
    using T = typename D::Scalar;
    using A = typename D::Activation;
    AttentionShape shape;        ///< of the pass
    Matrix<A> q;                 ///< the query, once an image (batch, p)
    Matrix<A> kv;                ///< keys and values side by side (rows, 2p)
    A* probabilities = nullptr;  ///< (heads·batch, tokens)
    Matrix<A> z;                 ///< in front of the MLP (batch, p)
    RowMoments<T> moments;       ///< of its norm
    MlpTape<D> mlp;              ///< of the MLP

    /// What attention read.
    QueriesKeysValues<A> inputs() const {
        return {q, kv.column_range(0, q.columns), kv.column_range(q.columns, q.columns)};
    }
};

/// Pooling of all tokens of an image by the attention of one learned query, which is the same for every image:
/// z = W_o·attention(q; W_k·x + b_k, W_v·x + b_v) + b_o, q = W_q·probe + b_q; with an MLP the result is
/// z + mlp(LN(z)) (MAP: Zhai et al., Scaling Vision Transformers, 2022; SigLIP, PE), without one it is z (CoCa: Yu et
/// al. 2022, whose query is normalised before). Its weights are frozen.
template <Device D>
class AttentionPool {
public:
    using T = typename D::Scalar;
    using A = typename D::Activation;

    AttentionPool() = default;
    /// Reads the pooling of an image tower of this configuration.
    AttentionPool(WeightReader<D>& reader, FrozenStore<D>& store, const VisionConfig& config)
        : heads_(config.pool_heads), width_(config.pooled_width) {
        using schema::Role;
        norm_.epsilon = config.blocks.epsilon;
        mlp_.gelu = config.blocks.gelu;
        reader.sizes().set(schema::Size::pooled, width_);
        const bool several = reader.is_there(Role::pool_queries);
        const std::vector<double> probe =
            several ? first_query(reader) : reader.tensor(Role::pool_probe).template to<double>();
        read_projections(reader, store, probe);
        reader.layer(Role::pool_out, out_);
        if (!reader.is_there(Role::pool_mlp_in)) return;
        reader.norm(Role::pool_norm, norm_);
        reader.layer(Role::pool_mlp_in, mlp_.c_fc);
        reader.layer(Role::pool_mlp_out, mlp_.c_proj);
    }

    /// y (s.count, p) from x (s.rows(), d).
    void forward(const Workspace<D>& w, const Sequences& s, Matrix<const A> x, Matrix<A> y,
                 AttentionPoolTape<D>* tape) const {
        const WorkspaceScope scope(w);
        const Keep kept = tape ? Keep::yes : Keep::no;
        AttentionPoolTape<D> local;
        AttentionPoolTape<D>& t = tape ? *tape : local;
        t.shape = shape_of(s);
        t.q = take<A>(w, kept, s.count, width_);
        t.kv = take<A>(w, kept, s.rows(), 2 * width_);
        t.probabilities = take<A>(w, kept, t.shape.scores());
        repeat_row(w.device, query_, t.q);
        linear_forward(w.device, key_, x, t.kv.column_range(0, width_));
        linear_forward(w.device, value_, x, t.kv.column_range(width_, width_));
        const Matrix<A> o = scratch<A>(w, s.count, width_);
        attention_forward(w, t.shape, t.inputs(), t.probabilities, o);
        if (!has_mlp()) return linear_forward(w.device, out_, o, y);
        t.z = take<A>(w, kept, s.count, width_);
        linear_forward(w.device, out_, o, t.z);
        if (tape) t.moments = keep_moments<T>(w, s.count);
        layer_norm_forward(w.device, t.z, norm_, o, t.moments);
        mlp_.allocate(w, kept, s.count, t.mlp);
        mlp_.forward(w, o, t.mlp, kept, y, t.z);
    }

    /// dx (rows, d) from dy (count, p).
    void backward(const Workspace<D>& w, const AttentionPoolTape<D>& t, Matrix<const A> dy, Matrix<A> dx) const {
        const WorkspaceScope scope(w);
        const Matrix<A> d_z = scratch<A>(w, dy.rows, width_), d_o = scratch<A>(w, dy.rows, width_);
        copy(w.device, dy, d_z);
        if (has_mlp()) {
            mlp_.backward(
                w, t.mlp, dy, [](Matrix<A>) {}, d_o);
            layer_norm_backward(w.device, norm_, LayerNormTape<A, T>{t.z, t.moments}, d_o, d_z, Accumulate::yes);
        }
        linear_backward(w.device, out_, d_z, d_o);
        const Matrix<A> d_q = scratch<A>(w, dy.rows, width_), d_kv = scratch<A>(w, dx.rows, 2 * width_);
        const Matrix<A> d_k = d_kv.column_range(0, width_), d_v = d_kv.column_range(width_, width_);
        attention_backward(w, t.shape, t.inputs(), t.probabilities, d_o, QueriesKeysValues<A>(d_q, d_k, d_v));
        linear_backward(w.device, key_, d_k, dx);
        linear_backward(w.device, value_, d_v, dx, Accumulate::yes);
    }

private:
    bool has_mlp() const { return mlp_.width() > 0; }

    AttentionShape shape_of(const Sequences& s) const {
        AttentionShape shape;
        shape.sequences = s;
        shape.selection = Selection{};  // one query an image; which row it has does not matter without a mask
        shape.heads = heads_;
        shape.head_dim = width_ / heads_;
        return shape;
    }

    /// The first of several queries, normalised (CoCa's ln_q, whose ε is CLIP's).
    static std::vector<double> first_query(WeightReader<D>& reader) {
        using schema::Role;
        const HostTensor all = reader.tensor(Role::pool_queries);
        const std::size_t n = static_cast<std::size_t>(all.shape[1]);
        std::vector<double> q = all.template to<double>();
        q.resize(n);
        const std::vector<double> weight = reader.tensor(Role::pool_norm_query).template to<double>();
        const std::vector<double> bias = reader.tensor(Role::pool_norm_query, schema::Part::bias).template to<double>();
        double mean = 0, variance = 0;
        for (const double v : q) mean += v / static_cast<double>(n);
        for (const double v : q) variance += (v - mean) * (v - mean) / static_cast<double>(n);
        for (std::size_t i = 0; i < n; ++i)
            q[i] = (q[i] - mean) / std::sqrt(variance + layer_norm_epsilon) * weight[i] + bias[i];
        return q;
    }

    /// q, and the layers of keys and values: parts of one matrix, or matrices of their own with one common bias.
    void read_projections(WeightReader<D>& reader, FrozenStore<D>& store, const std::vector<double>& probe) {
        using schema::Role;
        const bool apart = !reader.is_there(Role::pool_in);
        const std::vector<double> weight =
            reader.tensor(apart ? Role::pool_query : Role::pool_in).template to<double>();
        const HostTensor bias = reader.tensor(Role::pool_in, schema::Part::bias);
        std::vector<double> q = bias.template to<double>();
        q.resize(probe.size());
        for (std::size_t i = 0; i < q.size(); ++i)
            for (std::size_t j = 0; j < probe.size(); ++j) q[i] += weight[i * probe.size() + j] * probe[j];
        query_ = store.vector(make_tensor(std::move(q), {width_}));
        Linear<T> all;
        if (!apart) {
            reader.layer(Role::pool_in, all, width_);
            key_ = all.row_range(width_, width_);
            value_ = all.row_range(2 * width_, width_);
            return;
        }
        reader.layer(Role::pool_key, key_);
        reader.layer(Role::pool_value, value_);
        all.bias = store.vector(bias);
        all.activation_bias = store.activation_vector(bias);
        key_.bias = all.bias + width_;
        value_.bias = all.bias + 2 * width_;
        if (!all.activation_bias) return;
        key_.activation_bias = all.activation_bias + width_;
        value_.activation_bias = all.activation_bias + 2 * width_;
    }

    Index heads_ = 0, width_ = 0;
    const T* query_ = nullptr;
    Linear<T> key_, value_, out_;
    Norm<T> norm_;
    Mlp<D> mlp_;
};

}  // namespace promptkd
