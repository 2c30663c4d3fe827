// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/weights.hpp>
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

    const ResNetConfig& config() const { return config_; }

    /// features (batch, embed), un-normalised, of images (batch, 3, resolution, resolution).
    void forward(D& device, Arena<D>& arena, const T* images, Index batch, T* features) const {
        typename Arena<D>::Scope scope(arena);
        MapShape s{batch, config_.resolution(), config_.resolution(), 3};
        // Two buffers of the largest map take turns; no map of a bottleneck is larger than the stem's.
        const Index largest = batch * (s.height / 2) * (s.width / 2) * std::max<Index>(config_.width, 3 * 4);
        A* x = arena.template scratch<A>(largest);
        A* y = arena.template scratch<A>(largest);
        to_channels_last(device, images, x, s);
        for (const Convolution& c : stem_) convolve(device, arena, c, s, x, y, nullptr, true), std::swap(x, y);
        average_pool(device, static_cast<const A*>(x), y, s, 2);
        s.height /= 2, s.width /= 2;
        std::swap(x, y);
        for (const Bottleneck& b : blocks_) run(device, arena, b, s, x, y), std::swap(x, y);
        attention_pool(device, arena, static_cast<const A*>(x), batch, features);
    }

private:
    struct Convolution {
        FrozenLinear<T> product;
        Index kernel = 1, stride = 1;
    };
    struct Bottleneck {
        Convolution first, second, third, shortcut;
        Index stride = 1;
        bool projects = false;
    };

    /// Weight (out, in, k, k) as (out, k, k, in), scaled by the BatchNorm's weight/√(var + eps); bias = bn.bias −
    /// mean·scale.
    static Convolution convolution(WeightReader<D>& reader, FrozenStore<D>& store, schema::Role role, Index stride) {
        const HostTensor weight = reader.tensor(role);
        const Index out = weight.shape[0], in = weight.shape[1], k = weight.shape[3];
        const auto part = [&](schema::Part p) { return reader.tensor(role, p).template to<double>(); };
        const std::vector<double> w = weight.template to<double>(), gamma = part(schema::Part::norm_weight),
                                  beta = part(schema::Part::norm_bias), mean = part(schema::Part::norm_mean),
                                  variance = part(schema::Part::norm_variance);
        std::vector<T> folded(w.size()), bias(static_cast<std::size_t>(out));
        for (Index o = 0; o < out; ++o) {
            const std::size_t oo = static_cast<std::size_t>(o);
            const double scale = gamma[oo] / std::sqrt(variance[oo] + 1e-5);
            bias[oo] = static_cast<T>(beta[oo] - mean[oo] * scale);
            for (Index i = 0; i < in; ++i)
                for (Index p = 0; p < k * k; ++p)
                    folded[static_cast<std::size_t>((o * k * k + p) * in + i)] =
                        static_cast<T>(w[static_cast<std::size_t>((o * in + i) * k * k + p)] * scale);
        }
        Convolution c;
        c.kernel = k;
        c.stride = stride;
        c.product = {store.matrix(make_tensor(std::move(folded), {out, k * k * in}), out, k * k * in),
                     store.vector(make_tensor(std::move(bias), {out})), nullptr};
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

    /// y = relu?(convolution(x) + residual); `s` becomes the shape of y.
    static void convolve(D& device, Arena<D>& arena, const Convolution& c, MapShape& s, const A* x, A* y,
                         const A* residual, bool relu) {
        typename Arena<D>::Scope scope(arena);
        MapShape out = s;
        out.height = (s.height - 1) / c.stride + 1, out.width = (s.width - 1) / c.stride + 1,
        out.channels = c.product.weight.rows;
        if (c.kernel == 3) {
            A* columns = arena.template scratch<A>(out.pixels() * 9 * s.channels);
            gather_neighbourhoods(device, x, columns, s, c.stride);
            linear_forward(device, c.product, static_cast<const A*>(columns), y, out.pixels(), residual);
        } else {
            linear_forward(device, c.product, x, y, out.pixels(), residual);
        }
        if (relu) relu_forward(device, static_cast<const A*>(y), y, out.pixels() * out.channels);
        s = out;
    }

    /// y = relu(conv3(pool(conv2(conv1(x)))) + shortcut(x)).
    static void run(D& device, Arena<D>& arena, const Bottleneck& b, MapShape& s, const A* x, A* y) {
        typename Arena<D>::Scope scope(arena);
        const Index middle = b.first.product.weight.rows, wide = b.third.product.weight.rows;
        A* one = arena.template scratch<A>(s.pixels() * std::max(middle, s.channels));
        A* two = arena.template scratch<A>(s.pixels() * middle);
        MapShape m = s;
        convolve(device, arena, b.first, m, x, two, nullptr, true);
        convolve(device, arena, b.second, m, two, one, nullptr, true);
        MapShape pooled = m, skip = s;
        const A *inner = one, *residual = x;
        if (b.stride > 1) {
            pooled.height /= b.stride, pooled.width /= b.stride;
            average_pool(device, static_cast<const A*>(one), two, m, b.stride);
            inner = two;
            skip.height /= b.stride, skip.width /= b.stride;
        }
        if (b.projects) {
            A* side = arena.template scratch<A>(pooled.pixels() * wide);
            const A* from = x;
            if (b.stride > 1) average_pool(device, x, one, s, b.stride), from = one;
            convolve(device, arena, b.shortcut, skip, from, side, nullptr, false);
            residual = side;
        }
        convolve(device, arena, b.third, pooled, inner, y, residual, true);
        s = pooled;
    }

    void attention_pool(D& device, Arena<D>& arena, const A* x, Index batch, T* features) const {
        typename Arena<D>::Scope scope(arena);
        const Index d = config_.features(), cells = config_.grid * config_.grid;
        const Sequences s{0, batch, cells + 1, false};
        const Selection mean{};
        A* tokens = arena.template scratch<A>(s.rows() * d);
        pool_tokens(device, x, positions_, tokens, batch, cells, d);
        A* first = arena.template scratch<A>(batch * d);
        gather_selected(device, s, mean, static_cast<const A*>(tokens), first, d);
        A* q = arena.template scratch<A>(batch * d);
        A* k = arena.template scratch<A>(s.rows() * d);
        A* v = arena.template scratch<A>(s.rows() * d);
        linear_forward(device, q_, static_cast<const A*>(first), q, batch);
        linear_forward(device, k_, static_cast<const A*>(tokens), k, s.rows());
        linear_forward(device, v_, static_cast<const A*>(tokens), v, s.rows());
        AttentionShape shape;
        shape.sequences = s, shape.selection = &mean, shape.heads = config_.heads, shape.head_dim = d / config_.heads;
        shape.q_ld = shape.kv_ld = shape.o_ld = d;
        A* probabilities = arena.template scratch<A>(shape.scores());
        A* o = arena.template scratch<A>(batch * d);
        attention_forward(device, arena, shape, static_cast<const A*>(q), static_cast<const A*>(k),
                          static_cast<const A*>(v), probabilities, o);
        linear_forward(device, c_, static_cast<const A*>(o), features, batch);
    }

    ResNetConfig config_;
    std::vector<Convolution> stem_;
    std::vector<Bottleneck> blocks_;
    const T* positions_ = nullptr;
    FrozenLinear<T> q_, k_, v_, c_;
};

}  // namespace promptkd
