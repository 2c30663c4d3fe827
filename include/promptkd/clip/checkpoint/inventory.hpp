// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/names.hpp>

#include <cstdlib>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace promptkd {

/// Tensors that a CLIP model under OpenAI's names lacks, and tensors that have no place in one.
struct Inventory {
    std::vector<std::string> missing, unknown;
};

namespace detail {

/// Blocks under `prefix`, counted by the largest number found, so that a gap shows.
inline Index block_count(const TensorMap& map, const std::string& prefix) {
    Index n = 0;
    for (auto it = map.tensors.lower_bound(prefix); it != map.tensors.end() && starts_with(it->first, prefix); ++it) {
        const auto parts = split_block(std::string_view(it->first).substr(prefix.size()));
        if (parts && parts->first.size() <= 4) n = std::max<Index>(n, std::atoi(parts->first.c_str()) + 1);
    }
    return n;
}

inline void expect_blocks(const TensorMap& map, const std::string& prefix, std::set<std::string>& names) {
    for (Index i = std::max<Index>(1, block_count(map, prefix)); i-- > 0;)
        for (const char* name : {"ln_1.weight", "ln_1.bias", "attn.in_proj_weight", "attn.in_proj_bias",
                                 "attn.out_proj.weight", "attn.out_proj.bias", "ln_2.weight", "ln_2.bias",
                                 "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"})
            names.insert(prefix + std::to_string(i) + "." + name);
}

}  // namespace detail

/// Compares the names in `map` with those of a CLIP model: ViT or ResNet image branch, and the text branch where it has
/// one.
inline Inventory clip_inventory(const TensorMap& map) {
    const bool resnet = map.contains("visual.layer1.0.conv1.weight");
    std::set<std::string> expected{"logit_scale"};
    if (resnet) {
        for (const char* name : {"visual.conv1.weight", "visual.conv2.weight", "visual.conv3.weight",
                                 "visual.attnpool.positional_embedding"})
            expected.insert(name);
        for (const char* part : {"q", "k", "v", "c"})
            for (const char* kind : {"weight", "bias"})
                expected.insert(std::string("visual.attnpool.") + part + "_proj." + kind);
    } else {
        for (const char* name :
             {"visual.class_embedding", "visual.conv1.weight", "visual.positional_embedding", "visual.ln_pre.weight",
              "visual.ln_pre.bias", "visual.ln_post.weight", "visual.ln_post.bias", "visual.proj"})
            expected.insert(name);
        detail::expect_blocks(map, "visual.transformer.resblocks.", expected);
    }
    if (map.contains("token_embedding.weight")) {
        for (const char* name :
             {"token_embedding.weight", "positional_embedding", "ln_final.weight", "ln_final.bias", "text_projection"})
            expected.insert(name);
        detail::expect_blocks(map, "transformer.resblocks.", expected);
    }
    Inventory result;
    for (const std::string& name : expected)
        if (!map.contains(name)) result.missing.push_back(name);
    for (const auto& named : map.tensors) {
        const bool part_of_resnet = resnet && (detail::starts_with(named.first, "visual.layer") ||
                                               detail::starts_with(named.first, "visual.bn"));
        if (!part_of_resnet && expected.count(named.first) == 0) result.unknown.push_back(named.first);
    }
    return result;
}

}  // namespace promptkd
