// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/config.hpp>
#include <promptkd/nn/transformer.hpp>

namespace promptkd::detail {

template <Device D>
FrozenNorm<typename D::Scalar> load_norm(FrozenStore<D>& store, const TensorMap& map, const std::string& name,
                                         Index d) {
    return {store.vector(map.at(name + ".weight", {d})), store.vector(map.at(name + ".bias", {d}))};
}

template <Device D>
FrozenLinear<typename D::Scalar> load_linear(FrozenStore<D>& store, const TensorMap& map, const std::string& weight,
                                             const std::string& bias, Index out, Index in, Index unit = 0) {
    const HostTensor& b = map.at(bias, {out});
    const std::uint16_t* activation_bias = store.activation_vector(b);
    return {store.layer(map.at(weight, {out, in}), out, in, unit), store.vector(b), activation_bias};
}

/// The blocks under `prefix` ("visual.transformer." or "transformer.").
template <Device D>
Transformer<D> load_transformer(FrozenStore<D>& store, const TensorMap& map, const std::string& prefix, Index layers,
                                Index d, Index heads, Gelu gelu) {
    Transformer<D> transformer;
    for (Index i = 0; i < layers; ++i) {
        const std::string p = prefix + "resblocks." + std::to_string(i) + ".";
        const Index hidden = extent(map, p + "mlp.c_fc.weight", 2, 0);
        Block<D> b;
        b.d = d, b.heads = heads, b.gelu = gelu;
        b.ln_1 = load_norm(store, map, p + "ln_1", d);
        b.ln_2 = load_norm(store, map, p + "ln_2", d);
        b.in_proj = load_linear(store, map, p + "attn.in_proj_weight", p + "attn.in_proj_bias", 3 * d, d, d);
        b.out_proj = load_linear(store, map, p + "attn.out_proj.weight", p + "attn.out_proj.bias", d, d);
        b.c_fc = load_linear(store, map, p + "mlp.c_fc.weight", p + "mlp.c_fc.bias", hidden, d);
        b.c_proj = load_linear(store, map, p + "mlp.c_proj.weight", p + "mlp.c_proj.bias", d, hidden);
        transformer.blocks.push_back(b);
    }
    return transformer;
}

}  // namespace promptkd::detail
