// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "devices.hpp"

#include <promptkd/clip/model.hpp>
#include <promptkd/clip/prompts.hpp>

namespace promptkd::test {

/// A CLIP model of random fp64 weights, small enough for finite differences: images 8×8 in four patches, width 12,
/// three heads, three blocks; texts of eight tokens from a vocabulary of 20, width 10, two heads, two blocks;
/// embeddings of 6.
inline TensorMap tiny_clip(const char* gelu = "quick", unsigned seed = 1) {
    TensorMap map;
    map.source = "tiny CLIP";
    map.metadata = {{"vision_heads", "3"}, {"text_heads", "2"}, {"gelu", gelu}};
    const auto add = [&](const std::string& name, const Shape& shape, double scale, double mean = 0) {
        std::vector<double> values = numbers(count_of(shape), ++seed, scale);
        for (double& v : values) v += mean;
        map.tensors[name] = make_tensor(std::move(values), shape);
    };
    const auto norm = [&](const std::string& name, Index d) {
        add(name + ".weight", {d}, 0.2, 1);
        add(name + ".bias", {d}, 0.2);
    };
    const auto blocks = [&](const std::string& prefix, Index d, Index layers) {
        for (Index i = 0; i < layers; ++i) {
            const std::string p = prefix + "resblocks." + std::to_string(i) + ".";
            norm(p + "ln_1", d);
            norm(p + "ln_2", d);
            add(p + "attn.in_proj_weight", {3 * d, d}, 0.5);
            add(p + "attn.in_proj_bias", {3 * d}, 0.3);
            add(p + "attn.out_proj.weight", {d, d}, 0.3);
            add(p + "attn.out_proj.bias", {d}, 0.3);
            add(p + "mlp.c_fc.weight", {4 * d, d}, 0.3);
            add(p + "mlp.c_fc.bias", {4 * d}, 0.3);
            add(p + "mlp.c_proj.weight", {d, 4 * d}, 0.2);
            add(p + "mlp.c_proj.bias", {d}, 0.3);
        }
    };
    add("visual.conv1.weight", {12, 3, 4, 4}, 0.2);
    add("visual.class_embedding", {12}, 0.5);
    add("visual.positional_embedding", {5, 12}, 0.5);
    norm("visual.ln_pre", 12);
    norm("visual.ln_post", 12);
    add("visual.proj", {12, 6}, 0.4);
    blocks("visual.transformer.", 12, 3);
    add("token_embedding.weight", {20, 10}, 0.5);
    add("positional_embedding", {8, 10}, 0.3);
    norm("ln_final", 10);
    add("text_projection", {10, 6}, 0.4);
    blocks("transformer.", 10, 2);
    add("logit_scale", {}, 0, 2.5);
    return map;
}

/// Three texts for it (SOT 17, EOT 19) that share four tokens and end at 5, 6 and 5 of 8.
inline const TokenRows tiny_texts{{17, 3, 4, 5, 6, 19, 0, 0, 17, 3, 4, 5, 7, 8, 19, 0, 17, 3, 4, 5, 9, 19, 0, 0}, 3, 8};

}  // namespace promptkd::test
