// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/config_reader.hpp>
#include <promptkd/clip/checkpoint/timm_config.hpp>

#include <string>

namespace promptkd::detail {

/// `{"eps": …}` of a tower's norms. Throws Error for any other field.
inline double norm_epsilon(const ConfigReader& tower) {
    const Json* kwargs = tower.find("norm_kwargs");
    if (kwargs == nullptr) return layer_norm_epsilon;
    const ConfigReader reader(*kwargs, tower.where() + ": norm_kwargs");
    reader.refuse_others({"eps"});
    return reader.number("eps", layer_norm_epsilon);
}

/// The activation of one of open_clip's own towers.
inline std::string tower_activation(const ConfigReader& tower, bool quick) {
    const Json* kwargs = tower.find("act_kwargs");
    if (quick) return "quick";
    if (kwargs == nullptr) return "exact";
    const ConfigReader reader(*kwargs, tower.where() + ": act_kwargs");
    reader.refuse_others({"approximate"});
    const std::string approximate = reader.text("approximate", "none");
    require(approximate == "none" || approximate == "tanh", reader.where(), ": approximate '", approximate,
            "' is not supported, only none and tanh");
    return approximate == "tanh" ? "tanh" : "exact";
}

/// Where open_clip's own image tower takes its features.
inline void set_pooling(const ConfigReader& vision, ModelConfig& c) {
    const std::string pool = vision.text("pool_type", "tok");
    require(pool == "tok" || pool == "avg", vision.where(), ": pool_type '", pool,
            "' is not supported, only tok and avg");
    const Json* attentional = vision.find("attentional_pool");
    if (attentional != nullptr && *attentional != false) {
        require(*attentional == true && pool == "tok", vision.where(),
                ": attentional_pool is supported as true, with pool_type tok alone");
        c.description["vision_pool"] = "attention";
        c.description["vision_pool_heads"] = std::to_string(vision.integer("attn_pooler_heads", 8));
    } else if (pool == "avg") {
        c.description["vision_pool"] = "mean";
        if (!vision.boolean("final_ln_after_pool", false)) c.description["vision_pool_norm"] = "before";
    }
}

/// open_clip's ResNet: the blocks of its stages, and the heads of its pool.
inline void set_resnet(const ConfigReader& vision, const Json& layers, Index head, ModelConfig& c) {
    require(layers.size() == 4, vision.where(), ": 'layers' is ", layers.dump(), ", expected the blocks of 4 stages");
    for (const Json& blocks : layers) {
        require(blocks.is_number_unsigned() && blocks != 0, vision.where(), ": 'layers' is ", layers.dump(),
                ", expected positive integers");
        c.stages.emplace_back(blocks.get<Index>(), concat(vision.where(), ": 'layers' ", layers.dump(), " means"));
    }
    c.vision_heads = c.vision_width * 32 / head;
}

/// open_clip's own image tower: a ViT, or a ResNet (whose `layers` are a list, and whose heads are those of its pool).
inline std::string set_own_vision(const ConfigReader& vision, bool quick, ModelConfig& c) {
    vision.refuse_others({"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "patch_dropout",
                          "ls_init_value", "no_ln_pre", "pool_type", "final_ln_after_pool", "pos_embed_type",
                          "act_kwargs", "norm_kwargs", "attentional_pool", "attn_pooler_heads", "attn_pooler_queries",
                          "output_tokens"});
    const Json* layers = vision.find("layers");
    c.vision_width = vision.size("width", 768);
    const Index head = vision.integer("head_width", 64);
    if (layers != nullptr && layers->is_array()) {
        set_resnet(vision, *layers, head, c);
        return quick ? "quick" : "exact";
    }
    c.vision_layers = vision.size("layers", 12);
    c.vision_mlp = vision.mlp_width("mlp_ratio", c.vision_width, 4);
    c.patch = vision.size("patch_size", 16);
    require(head <= c.vision_width, vision.where(), ": head_width ", head, " is more than the width ", c.vision_width);
    c.vision_heads = c.vision_width / head;
    c.vision_scales = vision.find("ls_init_value") != nullptr;
    if (vision.boolean("no_ln_pre", false)) c.lacks("first_norm");
    c.set_epsilon("vision", norm_epsilon(vision));
    set_pooling(vision, c);
    return tower_activation(vision, quick);
}

/// open_clip's text tower; returns its activation.
inline std::string set_text(const ConfigReader& text, bool quick, ModelConfig& c) {
    require(text.find("hf_model_name") == nullptr, text.where(), ": the text tower is Hugging Face's '",
            text.text("hf_model_name", ""), "', which is not supported");
    text.refuse_others({"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "pool_type", "eos_id",
                        "hf_tokenizer_name", "tokenizer_kwargs", "embed_cls", "proj_type", "proj_bias", "pad_id",
                        "no_causal_mask", "ls_init_value", "act_kwargs", "norm_kwargs", "output_tokens"});
    c.text_width = text.size("width", 512);
    c.text_heads = text.integer("heads", 8);
    c.text_layers = text.size("layers", 12);
    c.text_mlp = text.mlp_width("mlp_ratio", c.text_width, 4);
    c.vocabulary = text.size("vocab_size", 49408);
    c.context_length = text.size("context_length", 77);
    c.text_class_token = text.boolean("embed_cls", false);
    if (*c.text_class_token) c.context_length.value += 1;  // it has a position
    c.text_scales = text.find("ls_init_value") != nullptr;
    c.set_epsilon("text", norm_epsilon(text));
    const std::string pool = text.text("pool_type", "argmax"), projection = text.text("proj_type", "linear");
    require(pool == "argmax" || pool == "eos" || pool == "last" || pool == "first", text.where(), ": pool_type '", pool,
            "' is not supported, only argmax, eos, last and first");
    require(projection == "linear" || projection == "none", text.where(), ": proj_type '", projection,
            "' is not supported, only linear and none");
    if (projection == "none") c.description["text_without"] = "projection";
    if (pool == "eos") c.eot = std::to_string(text.integer("eos_id", 2));
    if (pool == "last" || pool == "first") c.eot = pool;
    if (text.boolean("no_causal_mask", false)) c.description["text_mask"] = "none";
    const Json* padding = text.find("pad_id");
    require(!text.boolean("embed_cls", false) || padding == nullptr || *padding == 0, text.where(),
            ": embed_cls with a pad_id other than 0 is not supported");
    return tower_activation(text, quick);
}

inline ModelConfig open_clip_config(const Json& root, const std::string& path) {
    require(root.contains("text_cfg"), path, ": 'text_cfg' is missing");
    const ConfigReader top(root, path), vision(root.at("vision_cfg"), path + ": vision_cfg"),
        text(root.at("text_cfg"), path + ": text_cfg");
    top.refuse_others({"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "init_logit_scale", "init_logit_bias",
                       "custom_text", "multimodal_cfg"});
    const bool quick = top.boolean("quick_gelu", false);
    ModelConfig c;
    c.source = path;
    c.embed = top.size("embed_dim", 0);
    c.image_size = square_size(vision, "image_size");
    const std::string vision_gelu =
        vision.find("timm_model_name") ? set_timm_vision(vision, c) : set_own_vision(vision, quick, c);
    c.set_activations(vision_gelu, set_text(text, quick, c));
    return c;
}

}  // namespace promptkd::detail
