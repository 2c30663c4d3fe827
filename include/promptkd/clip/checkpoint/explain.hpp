// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/inventory.hpp>
#include <promptkd/core/tensor.hpp>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace promptkd {

namespace detail {

/// Models that people have beside CLIP's, by a piece of a name that only they have.
struct ForeignFamily {
    std::string_view piece, name;
};

inline constexpr ForeignFamily foreign_families[] = {
    {"lora_", "a LoRA adapter; merge it into its model first"},
    {"visual_encoder.blocks", "BLIP"},
    {"qformer", "BLIP-2"},
    {"image_bind", "ImageBind"},
    {"mask_decoder", "Segment Anything"},
    {"down_blocks", "a diffusion model's UNet"},
    {"model.diffusion_model", "a diffusion checkpoint"},
    {"lm_head", "a language model"},
    {"model.embed_tokens", "a language model"},
    {"encoder.layer.0.attention.self.query", "BERT"},
    {"embeddings.patch_embeddings.projection", "a ViT of Hugging Face's (no CLIP)"},
    {"blocks.0.attn.qkv", "a ViT of timm's (no text branch of CLIP beside it)"},
    {"features.denseblock1", "a DenseNet of torchvision's"},
    {"layer1.0.conv1", "a ResNet of torchvision's (no CLIP)"},
    {"adapter", "an adapter; its CLIP model is not in the file"},
    {"class_vectors", "class vectors"},
    {"image_features", "features that encode wrote"},
    {"targets", "stored targets of a distillation"},
};

/// Whether `name` begins as those of a branch in any layout: "visual.…", "text_model.…", ….
inline bool is_inside_branch(const std::string& name) {
    const std::string first = name.substr(0, name.find('.'));
    for (const schema::Architecture* architecture : schema::architectures)
        for (const schema::Group& group : architecture->groups)
            for (const schema::Row& row : group.rows)
                for (std::size_t i = 0; i < schema::layout_count; ++i) {
                    const schema::Weight w{architecture, &group, &row, {}, -1};
                    const std::string known = schema::name_of(w, static_cast<schema::Layout>(i));
                    if (architecture->branch != schema::Branch::model && known.substr(0, known.find('.')) == first)
                        return true;
                }
    return false;
}

inline std::string count_text(std::size_t n, const char* what) { return concat(n, " ", what, n == 1 ? "" : "s"); }

}  // namespace detail

/// What tensors that fit nowhere are: their number, three names, and the family that they come nearest to.
inline std::string describe_tensors(const TensorMap& map) {
    std::string text = "it holds " + detail::count_text(map.tensors.size(), "tensor");
    std::size_t shown = 0;
    for (const auto& named : map.tensors) {
        if (shown == 3) break;
        text += (shown++ == 0 ? " ('" : ", '") + named.first.substr(0, 60) + "'";
    }
    if (shown > 0) text += map.tensors.size() > shown ? ", …)" : ")";
    for (const detail::ForeignFamily& family : detail::foreign_families)
        for (const auto& named : map.tensors)
            if (named.first.find(family.piece) != std::string::npos)
                return text + ", most like " + std::string(family.name);
    return text;
}

/// Throws Error for tensors of a model's branches that no computation here reads: its results would be others than
/// those of the model (LayerScale, adapters, biases). What stands outside the branches is no part of the model.
inline void require_all_used(const TensorMap& map) {
    const Inventory inventory = clip_inventory(map);
    if (!inventory.missing.empty()) return;  // who reads the model says so
    std::vector<std::string> unused;
    for (const std::string& name : inventory.unknown)
        if (detail::is_inside_branch(name)) unused.push_back(name);
    if (unused.empty()) return;
    std::string shown;
    for (std::size_t i = 0; i < std::min<std::size_t>(3, unused.size()); ++i)
        shown += (i == 0 ? "'" : ", '") + unused[i] + "'";
    fail(map.source, ": ", detail::count_text(unused.size(), "tensor"), " of the model would not be used (", shown,
         unused.size() > 3 ? ", …" : "", "): it is of a kind that is not read here, and its results would be wrong");
}

}  // namespace promptkd
