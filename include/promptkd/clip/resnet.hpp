// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/weights.hpp>
#include <promptkd/op/convolution.hpp>

namespace promptkd {

/// Sizes of CLIP's ModifiedResNet, read from its weights.
struct ResNetConfig {
    Index width = 0;            ///< channels after the stem
    std::vector<Index> layers;  ///< bottlenecks of the four stages
    Index grid = 0, heads = 0, embed = 0;
    Index resolution() const { return 32 * grid; }
    Index features() const { return 32 * width; }
};

/// Throws Error when tensors are missing or do not fit together.
inline ResNetConfig resnet_config(const TensorMap& map) {
    ResNetConfig c;
    c.width = detail::extent(map, "visual.conv3.weight", 4, 0);
    for (int stage = 1; stage <= 4; ++stage) {
        Index n = 0;
        while (map.contains(concat("visual.layer", stage, ".", n, ".conv1.weight"))) ++n;
        require(n > 0, map.source, ": 'visual.layer", stage, ".0.conv1.weight' is missing");
        c.layers.push_back(n);
    }
    const Index tokens = detail::extent(map, "visual.attnpool.positional_embedding", 2, 0);
    c.grid = static_cast<Index>(std::lround(std::sqrt(static_cast<double>(tokens - 1))));
    require(c.grid > 0 && c.grid * c.grid + 1 == tokens, map.source, ": 'visual.attnpool.positional_embedding' has ",
            tokens, " rows, expected a square number plus 1");
    c.embed = detail::extent(map, "visual.attnpool.c_proj.weight", 2, 0);
    c.heads = detail::checked_heads(map, "vision", c.features(),
                                    detail::metadata_integer(map, "vision_heads", c.features() / 64));
    return c;
}

/// CLIP's ModifiedResNet image encoder (RN50 … RN50x64), frozen, inference only. BatchNorms are folded into their
/// convolutions at load.
template <Device D>
class ModifiedResNet {
public:
    using T = typename D::Scalar;
    using A = typename D::Activation;

    /// Reads `visual.*` (OpenAI's key names) from `map` into `store`.
    ModifiedResNet(FrozenStore<D>& store, const TensorMap& map) : config_(resnet_config(map)) {
        for (int i = 1; i <= 3; ++i)
            stem_.push_back(convolution(store, map, concat("visual.conv", i), concat("visual.bn", i), i == 1 ? 2 : 1));
        for (int stage = 1; stage <= 4; ++stage)
            for (Index i = 0; i < config_.layers[static_cast<std::size_t>(stage - 1)]; ++i)
                blocks_.push_back(
                    bottleneck(store, map, concat("visual.layer", stage, ".", i, "."), stage > 1 && i == 0 ? 2 : 1));
        const Index d = config_.features();
        const std::string pool = "visual.attnpool.";
        positions_ = store.vector(map.at(pool + "positional_embedding", {config_.grid * config_.grid + 1, d}));
        q_ = detail::load_linear(store, map, pool + "q_proj.weight", pool + "q_proj.bias", d, d);
        k_ = detail::load_linear(store, map, pool + "k_proj.weight", pool + "k_proj.bias", d, d);
        v_ = detail::load_linear(store, map, pool + "v_proj.weight", pool + "v_proj.bias", d, d);
        c_ = detail::load_linear(store, map, pool + "c_proj.weight", pool + "c_proj.bias", config_.embed, d);
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
    static Convolution convolution(FrozenStore<D>& store, const TensorMap& map, const std::string& name,
                                   const std::string& norm, Index stride) {
        const Index out = detail::extent(map, name + ".weight", 4, 0), in = detail::extent(map, name + ".weight", 4, 1),
                    k = detail::extent(map, name + ".weight", 4, 3);
        require(k == 1 || k == 3, map.source, ": '", name, ".weight' has a ", k, "x", k,
                " kernel, expected 1x1 or 3x3");
        const std::vector<double> w = map.at(name + ".weight", {out, in, k, k}).template to<double>();
        const auto part = [&](const char* suffix) { return map.at(norm + suffix, {out}).template to<double>(); };
        const std::vector<double> gamma = part(".weight"), beta = part(".bias"), mean = part(".running_mean"),
                                  variance = part(".running_var");
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
        c.kernel = k, c.stride = stride;
        c.product = {store.matrix(make_tensor(std::move(folded), {out, k * k * in}), out, k * k * in),
                     store.vector(make_tensor(std::move(bias), {out})), nullptr};
        return c;
    }

    static Bottleneck bottleneck(FrozenStore<D>& store, const TensorMap& map, const std::string& p, Index stride) {
        Bottleneck b;
        b.stride = stride;
        b.first = convolution(store, map, p + "conv1", p + "bn1", 1);
        b.second = convolution(store, map, p + "conv2", p + "bn2", 1);
        b.third = convolution(store, map, p + "conv3", p + "bn3", 1);
        b.projects = map.contains(p + "downsample.0.weight");
        if (b.projects) b.shortcut = convolution(store, map, p + "downsample.0", p + "downsample.1", 1);
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
