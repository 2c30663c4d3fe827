// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/folded_convolution.hpp>
#include <promptkd/clip/weights.hpp>
#include <promptkd/op/batch_norm.hpp>
#include <promptkd/op/convolution.hpp>

namespace promptkd {

/// CLIP's ModifiedResNet image encoder (RN50 … RN50x64), frozen, inference only. BatchNorms are folded into their
/// convolutions at load.
template <Device D>
class ModifiedResNet {
public:
    using T = typename D::Scalar;
    using A = typename D::Activation;

    /// Reads the image branch of a model (OpenAI's key names) from `map` into `store`.
    ModifiedResNet(FrozenStore<D>& store, const TensorMap& map) : config_(resnet_config(map)) {
        WeightReader<D> reader(store, map, schema::modified_resnet, sizes_of(config_));
        stem_.push_back(convolution(reader, store, schema::Role::convolution_1, 2));
        stem_.push_back(convolution(reader, store, schema::Role::convolution_2, 1));
        stem_.push_back(convolution(reader, store, schema::Role::convolution_3, 1));
        Index channels = config_.width;
        for (Index stage = 1; stage <= 4; ++stage)
            for (Index i = 0; i < config_.layers[static_cast<std::size_t>(stage - 1)]; ++i) {
                reader.in_block({stage, i});
                reader.sizes().set(schema::Size::planes, config_.width << (stage - 1));
                reader.sizes().set(schema::Size::input, channels);
                blocks_.push_back(bottleneck(reader, store, stage > 1 && i == 0 ? 2 : 1));
                channels = blocks_.back().third.product.weight.rows;
            }
        reader.outside_blocks();
        reader.vector(schema::Role::positions, positions_);
        reader.layer(schema::Role::pool_query, q_);
        reader.layer(schema::Role::pool_key, k_);
        reader.layer(schema::Role::pool_value, v_);
        reader.layer(schema::Role::pool_out, c_);
    }

    /// Its sizes.
    const ResNetConfig& config() const { return config_; }

    /// features (batch, embed), un-normalised, of images (batch, 3·resolution²).
    void forward(const Workspace<D>& w, Matrix<const T> images, Matrix<T> features) const {
        const WorkspaceScope scope(w);
        MapShape s{images.rows, config_.resolution(), config_.resolution(), 3};
        // Two buffers of the largest map take turns; no map of a bottleneck is larger than the stem's.
        const Index largest = s.batch * (s.height / 2) * (s.width / 2) * std::max<Index>(config_.width, 3 * 4);
        A* x = scratch<A>(w, largest);
        A* y = scratch<A>(w, largest);
        to_channels_last(w.device, images, s, map_at(x, s));
        for (const Convolution& c : stem_) {
            convolve(w, c, s, x, y, Activation::relu);
            s = c.result(s);
            std::swap(x, y);
        }
        average_pool(w.device, map_at(x, s), s, 2, map_at(y, s.pooled(2)));
        s = s.pooled(2);
        std::swap(x, y);
        for (const Bottleneck& b : blocks_) {
            run(w, b, s, x, y);
            s = b.result(s);
            std::swap(x, y);
        }
        attention_pool(w, map_at(x, s), features);
    }

private:
    struct Convolution {
        Linear<T> product;
        Index kernel = 1, stride = 1;
        MapShape result(const MapShape& in) const { return in.convolved(stride, product.outputs()); }
    };
    struct Bottleneck {
        Convolution first, second, third, shortcut;
        Index stride = 1;
        bool projects = false;
        MapShape result(const MapShape& in) const { return third.result(in.pooled(stride)); }
    };
    enum class Activation { none, relu };

    static Convolution convolution(WeightReader<D>& reader, FrozenStore<D>& store, schema::Role role, Index stride) {
        Convolution c;
        c.kernel = reader.tensor(role).shape[3];
        c.stride = stride;
        c.product = read_folded_convolution(reader, store, role);
        return c;
    }

    static Bottleneck bottleneck(WeightReader<D>& reader, FrozenStore<D>& store, Index stride) {
        Bottleneck b;
        b.stride = stride;
        b.first = convolution(reader, store, schema::Role::convolution_1, 1);
        b.second = convolution(reader, store, schema::Role::convolution_2, 1);
        b.third = convolution(reader, store, schema::Role::convolution_3, 1);
        const bool same_channels = b.first.product.weight.columns == b.third.product.weight.rows;
        b.projects = reader.is_there(schema::Role::shortcut) || !same_channels;
        if (b.projects) b.shortcut = convolution(reader, store, schema::Role::shortcut, 1);
        return b;
    }

    /// The map of this shape at `data`, one row a pixel.
    template <class P>
    static Matrix<P> map_at(P* data, const MapShape& shape) {
        return {data, shape.pixels(), shape.channels};
    }

    /// y = activation(convolution(x) + residual), x of shape `s`; `residual` may be null.
    static void convolve(const Workspace<D>& w, const Convolution& c, const MapShape& s, const A* x, A* y,
                         Activation activation, const A* residual = nullptr) {
        const WorkspaceScope scope(w);
        const MapShape result = c.result(s);
        const Matrix<A> out = map_at(y, result);
        Matrix<const A> columns = map_at(x, s);
        if (c.kernel == 3) {
            const Matrix<A> gathered = scratch<A>(w, result.pixels(), 9 * s.channels);
            gather_neighbourhoods(w.device, map_at(x, s), s, c.stride, gathered);
            columns = gathered;
        }
        linear_forward(w.device, c.product, columns, out, residual ? map_at(residual, result) : Matrix<const A>());
        if (activation == Activation::relu) relu_forward(w.device, out, out);
    }

    /// y = relu(conv3(pool(conv2(conv1(x)))) + shortcut(x)), x of shape `s`.
    static void run(const Workspace<D>& w, const Bottleneck& b, const MapShape& s, const A* x, A* y) {
        const WorkspaceScope scope(w);
        const Index middle = b.first.product.outputs();
        A* one = scratch<A>(w, s.pixels() * std::max(middle, s.channels));
        A* two = scratch<A>(w, s.pixels() * middle);
        const MapShape first = b.first.result(s), second = b.second.result(first);
        convolve(w, b.first, s, x, two, Activation::relu);
        convolve(w, b.second, first, two, one, Activation::relu);
        const A* inner = one;
        if (b.stride > 1) {
            average_pool(w.device, map_at(one, second), second, b.stride, map_at(two, second.pooled(b.stride)));
            inner = two;
        }
        const A* residual = b.projects ? shortcut(w, b, s, x, one) : x;
        convolve(w, b.third, second.pooled(b.stride), inner, y, Activation::relu, residual);
    }

    /// The shortcut's convolution of x, pooled before where the bottleneck is; `pooled` is memory for that, free when
    /// the stride is above 1.
    static const A* shortcut(const Workspace<D>& w, const Bottleneck& b, const MapShape& s, const A* x, A* pooled) {
        const MapShape in = s.pooled(b.stride);
        A* side = scratch<A>(w, b.shortcut.result(in).pixels() * b.shortcut.product.outputs());
        if (b.stride > 1) average_pool(w.device, map_at(x, s), s, b.stride, map_at(pooled, in));
        convolve(w, b.shortcut, in, b.stride > 1 ? pooled : x, side, Activation::none);
        return side;
    }

    void attention_pool(const Workspace<D>& w, Matrix<const A> x, Matrix<T> features) const {
        const WorkspaceScope scope(w);
        const Index d = config_.features(), batch = features.rows;
        const Sequences s{0, batch, config_.grid * config_.grid + 1, false};
        const Selection mean{};
        const Matrix<A> tokens = scratch<A>(w, s.rows(), d);
        pool_tokens(w.device, x, Matrix<const T>(positions_.values, s.length, d), tokens);
        const Matrix<A> first = scratch<A>(w, batch, d);
        gather_selected(w.device, s, mean, tokens, first);
        const QueriesKeysValues<A> qkv(scratch<A>(w, batch, d), scratch<A>(w, s.rows(), d), scratch<A>(w, s.rows(), d));
        linear_forward(w.device, q_, first, qkv.q);
        linear_forward(w.device, k_, tokens, qkv.k);
        linear_forward(w.device, v_, tokens, qkv.v);
        AttentionShape shape;
        shape.sequences = s;
        shape.selection = mean;
        shape.heads = config_.heads;
        shape.head_dim = d / config_.heads;
        A* probabilities = scratch<A>(w, shape.scores());
        const Matrix<A> o = scratch<A>(w, batch, d);
        attention_forward(w, shape, qkv, probabilities, o);
        linear_forward(w.device, c_, o, features);
    }

    ResNetConfig config_;
    std::vector<Convolution> stem_;
    std::vector<Bottleneck> blocks_;
    WeightVector<T> positions_;
    Linear<T> q_, k_, v_, c_;
};

}  // namespace promptkd
