// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/config_reader.hpp>

#include <string>

namespace promptkd::detail {

/// Whether the JSON holds the fields of Meta's PEConfig and PETextConfig.
inline bool is_pe_config(const Json& root) {
    const auto vision = root.find("vision_cfg");
    return vision != root.end() && vision->is_object() && vision->contains("use_rope2d");
}

/// Perception Encoder (Bolya et al. 2025): rotary positions, attention pooling over all tokens.
inline void describe_pe(bool class_token, Index pool_heads, ModelConfig& c) {
    c.description["vision_rotation"] = "columns";
    if (class_token)
        c.description["vision_rotation_offset"] = "1";
    else
        c.lacks("class_token");
    c.description["vision_pool"] = "attention";
    c.description["vision_pool_norm"] = "before";
    c.description["vision_pool_heads"] = std::to_string(pool_heads);
}

/// Meta's configuration of a PE model.
inline ModelConfig pe_config(const Json& root, const std::string& path) {
    require(root.contains("text_cfg"), path, ": 'text_cfg' is missing");
    const ConfigReader vision(root.at("vision_cfg"), path + ": vision_cfg"),
        text(root.at("text_cfg"), path + ": text_cfg");
    vision.refuse_others({"patch_size", "width", "layers", "heads", "mlp_ratio", "output_dim", "image_size",
                          "ls_init_value", "drop_path", "use_abs_posemb", "use_cls_token", "use_rope2d", "pool_type",
                          "attn_pooler_heads", "use_ln_pre", "use_ln_post"});
    text.refuse_others({"context_length", "width", "heads", "layers", "output_dim", "mlp_ratio", "vocab_size"});
    ModelConfig c;
    c.source = path;
    c.set_activations("exact", "exact");
    c.vision_heads = vision.integer("heads", 12);
    c.vision_width = vision.size("width", 0);
    c.vision_layers = vision.size("layers", 0);
    if (vision.find("mlp_ratio") != nullptr) c.vision_mlp = vision.mlp_width("mlp_ratio", c.vision_width, 4);
    c.patch = vision.size("patch_size", 0);
    c.image_size = vision.integer("image_size", 0);
    c.vision_scales = vision.find("ls_init_value") != nullptr;
    c.embed = vision.size("output_dim", 0);
    c.text_heads = text.integer("heads", 8);
    c.text_width = text.size("width", 0);
    c.text_layers = text.size("layers", 0);
    if (text.find("mlp_ratio") != nullptr) c.text_mlp = text.mlp_width("mlp_ratio", c.text_width, 4);
    c.vocabulary = text.size("vocab_size", 0);
    c.context_length = text.size("context_length", 0);
    require(vision.boolean("use_abs_posemb", true), vision.where(), ": use_abs_posemb false is not supported");
    require(vision.boolean("use_rope2d", true), vision.where(), ": use_rope2d false is not supported");
    require(vision.boolean("use_ln_post", true), vision.where(), ": use_ln_post false is not supported");
    require(vision.text("pool_type", "attn") == "attn", vision.where(), ": pool_type '", vision.text("pool_type", ""),
            "' is not supported, only attn");
    describe_pe(vision.boolean("use_cls_token", true), vision.integer("attn_pooler_heads", 8), c);
    if (!vision.boolean("use_ln_pre", true)) c.lacks("first_norm");
    return c;
}

}  // namespace promptkd::detail
