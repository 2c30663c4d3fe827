// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/config_reader.hpp>
#include <promptkd/clip/checkpoint/pe_config.hpp>

#include <string>
#include <string_view>

namespace promptkd::detail {

/// What the name of one of timm's towers stands for, as far as the tensors do not tell. A name belongs to the first row
/// whose `begins` it begins with and whose `contains` it contains.
struct TimmTower {
    enum class Kind { clip, mobile_stem, siglip, pe, eva02, eva_post_norm, eva };
    const char* begins;
    const char* contains;
    Kind kind;
    Index heads;
    const char* gelu = "exact";
    Index rotation_grid = 0;
};

// clang-format off
inline constexpr TimmTower timm_towers[] = {
    {"vit_base_mci_",              "",               TimmTower::Kind::mobile_stem,   12},
    {"vit_xsmall_patch",           "_clip_",         TimmTower::Kind::clip,          4},
    {"vit_medium_patch",           "_clip_",         TimmTower::Kind::clip,          8},
    {"vit_betwixt_patch",          "_clip_",         TimmTower::Kind::clip,          10},
    {"vit_base_patch",             "_plus_clip_",    TimmTower::Kind::clip,          14},
    {"vit_base_patch",             "_clip_",         TimmTower::Kind::clip,          12},
    {"vit_large_patch",            "_clip_",         TimmTower::Kind::clip,          16},
    {"vit_huge_patch",             "_clip_",         TimmTower::Kind::clip,          16},
    {"vit_giant_patch",            "_clip_",         TimmTower::Kind::clip,          16},
    {"vit_gigantic_patch",         "_clip_",         TimmTower::Kind::clip,          16},
    {"vit_base_patch32_siglip_",   "",               TimmTower::Kind::siglip,        12, "tanh"},
    {"vit_base_patch16_siglip_",   "",               TimmTower::Kind::siglip,        12},
    {"vit_large_patch16_siglip_512", "",             TimmTower::Kind::siglip,        16, "tanh"},
    {"vit_large_patch16_siglip_",  "",               TimmTower::Kind::siglip,        16},
    {"vit_so400m_patch14_siglip_", "",               TimmTower::Kind::siglip,        16},
    {"vit_so400m_patch16_siglip_", "",               TimmTower::Kind::siglip,        16, "tanh"},
    {"vit_giantopt_patch16_siglip_", "",             TimmTower::Kind::siglip,        16, "tanh"},
    {"vit_pe_core_tiny_patch",     "",               TimmTower::Kind::pe,            3,  "exact", 24},
    {"vit_pe_core_small_patch",    "",               TimmTower::Kind::pe,            6,  "exact", 24},
    {"vit_pe_core_base_patch",     "",               TimmTower::Kind::pe,            12, "exact", 14},
    {"vit_pe_core_large_patch",    "",               TimmTower::Kind::pe,            16, "exact", 24},
    {"vit_pe_core_gigantic_patch", "",               TimmTower::Kind::pe,            16, "exact", 32},
    {"eva02_base_patch",           "_clip_",         TimmTower::Kind::eva02,         12, "exact", 16},
    {"eva02_large_patch",          "_clip_",         TimmTower::Kind::eva02,         16, "exact", 16},
    {"eva02_enormous_patch",       "_clip_",         TimmTower::Kind::eva_post_norm, 16},
    {"eva_giant_patch14_",         "",               TimmTower::Kind::eva,           16},
};
// clang-format on

/// The row of a name. Throws Error naming the family of one that is not supported.
inline const TimmTower& timm_tower(const std::string& name, const std::string& where) {
    for (const TimmTower& tower : timm_towers)
        if (name.rfind(tower.begins, 0) == 0 && name.find(tower.contains) != std::string::npos) return tower;
    const std::string family = name.substr(0, name.find('_'));
    fail(where, ": timm_model_name '", name, "': the family ", family,
         " is not supported, only vision transformers of CLIP, SigLIP, PE-Core and EVA02 and MobileCLIP-B");
}

/// A grid that timm_model_kwargs gives as [rows, columns].
inline Index square_grid(const ConfigReader& kwargs, const char* key, Index fallback) {
    const Json* value = kwargs.find(key);
    if (value == nullptr) return fallback;
    const bool square = value->is_array() && value->size() == 2 && value->front() == value->back() &&
                        value->front().is_number_unsigned() && value->front() != 0;
    require(square, kwargs.where(), ": '", key, "' is ", value->dump(), ", expected two equal sizes");
    return value->front().get<Index>();
}

/// What a kind of tower has in its blocks and in front of them.
inline void describe_kind(const TimmTower& tower, const ConfigReader& kwargs, ModelConfig& c) {
    using Kind = TimmTower::Kind;
    const bool clip_epsilon = tower.kind == Kind::clip || tower.kind == Kind::pe;
    c.set_epsilon("vision", clip_epsilon ? layer_norm_epsilon : 1e-6);
    if (!clip_epsilon) c.lacks("first_norm");
    if (tower.kind == Kind::siglip) c.lacks("class_token");
    if (tower.kind == Kind::eva_post_norm) c.description["vision_norms"] = "after";
    if (tower.kind == Kind::mobile_stem) {
        c.lacks("patch_embedding");
        c.description["vision_positions"] = "cells";
    }
    if (tower.kind == Kind::pe)
        describe_pe(std::string_view(tower.begins).find("gigantic") == std::string_view::npos,
                    kwargs.integer("attn_pool_num_heads", 8), c);
    if (tower.kind == Kind::eva02) c.description["vision_rotation"] = "rows";
    if (tower.rotation_grid > 0)
        c.description["vision_rotation_grid"] =
            std::to_string(square_grid(kwargs, "ref_feat_shape", tower.rotation_grid));
}

/// Pooling and projection of a timm tower: a head of its own, none, or open_clip's Linear behind it. A tower made with
/// a mean has its norm behind it, one whose head open_clip replaces keeps it in front.
inline void describe_head(const ConfigReader& vision, const std::string& name, ModelConfig& c) {
    const std::string pool = vision.text("timm_pool", "avg");
    const std::string projection = vision.has("timm_proj") ? vision.text("timm_proj", "") : "linear";
    require(pool == "token" || pool == "avg" || pool == "map", vision.where(), ": timm_pool '", pool,
            "' is not supported, only token, avg and map");
    require(projection.empty() || projection == "linear" || projection == "none", vision.where(), ": timm_proj '",
            projection, "' is not supported, only linear, none and null");
    if (projection == "none") c.lacks("projection");
    if (pool == "token") return;
    c.description["vision_pool"] = pool == "avg" ? "mean" : "attention";
    const bool made_with_mean = name.find("_gap_") != std::string::npos;  // SigLIP's, which keep their norm in front
    if (pool == "map" || projection == "linear" || made_with_mean) c.description["vision_pool_norm"] = "before";
}

/// The image tower of timm that `vision` names; returns its activation. timm_model_kwargs overrides what the name
/// stands for.
inline std::string set_timm_vision(const ConfigReader& vision, ModelConfig& c) {
    vision.refuse_others({"timm_model_name", "timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias",
                          "timm_drop", "timm_drop_path", "timm_model_kwargs", "image_size", "patch_dropout",
                          "output_tokens"});
    const std::string name = vision.text("timm_model_name", "");
    const TimmTower& tower = timm_tower(name, vision.where());
    const Json none = Json::object();
    const Json* given = vision.find("timm_model_kwargs");
    const ConfigReader kwargs(given ? *given : none, vision.where() + ": timm_model_kwargs");
    kwargs.refuse_others({"img_size", "patch_size", "embed_dim", "depth", "num_heads", "attn_pool_num_heads",
                          "mlp_ratio", "init_values", "ref_feat_shape", "dynamic_img_size"});
    c.vision_heads = kwargs.integer("num_heads", tower.heads);
    c.vision_width = kwargs.size("embed_dim", 0);
    c.vision_layers = kwargs.size("depth", 0);
    c.patch = kwargs.size("patch_size", 0);
    if (kwargs.find("mlp_ratio") != nullptr) c.vision_mlp = kwargs.mlp_width("mlp_ratio", c.vision_width, 4);
    describe_kind(tower, kwargs, c);
    describe_head(vision, name, c);
    return name.find("quickgelu") != std::string::npos ? "quick" : tower.gelu;
}

}  // namespace promptkd::detail
