// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/config_reader.hpp>

#include <string>

namespace promptkd::detail {

/// One of the two parts of a Hugging Face config; the older `…_config_dict` overrides it, as it does there.
inline Json huggingface_part(const Json& root, const char* key) {
    Json part = root.value(key, Json::object());
    const auto old = root.find(std::string(key) + "_dict");
    if (part.is_null()) part = Json::object();
    if (old != root.end() && old->is_object() && part.is_object()) part.update(*old);
    return part;
}

/// What a family's library takes for fields that its config.json leaves out.
struct HuggingfaceDefaults {
    Index text_heads, text_width, vocabulary;
    const char* activation;
    double epsilon;
};

/// The fields that both families have.
inline ModelConfig huggingface_towers(const ConfigReader& vision, const ConfigReader& text,
                                      const HuggingfaceDefaults& defaults) {
    ModelConfig c;
    c.vision_heads = vision.integer("num_attention_heads", 12);
    c.vision_width = vision.integer("hidden_size", 768);
    c.vision_layers = vision.integer("num_hidden_layers", 12);
    c.image_size = vision.integer("image_size", 0);
    c.text_heads = text.integer("num_attention_heads", defaults.text_heads);
    c.text_width = text.integer("hidden_size", defaults.text_width);
    c.text_layers = text.integer("num_hidden_layers", 12);
    c.vocabulary = text.integer("vocab_size", defaults.vocabulary);
    c.set_activations(gelu_name(vision.text("hidden_act", defaults.activation), vision.where()),
                      gelu_name(text.text("hidden_act", defaults.activation), text.where()));
    c.set_epsilon("vision", vision.number("layer_norm_eps", defaults.epsilon));
    c.set_epsilon("text", text.number("layer_norm_eps", defaults.epsilon));
    return c;
}

/// transformers' CLIPConfig, and MetaClip2Config, which differs in where texts end.
inline ModelConfig huggingface_clip(const Json& root, const ConfigReader& vision, const ConfigReader& text,
                                    bool metaclip, const std::string& path) {
    ModelConfig c = huggingface_towers(vision, text, {8, 512, 49408, "quick_gelu", layer_norm_epsilon});
    c.embed = ConfigReader(root, path).integer("projection_dim", 512);
    const Index eos = text.integer("eos_token_id", 2);
    // In a CLIP config 2 is an old mistake, whose models pool at the largest id.
    if (eos != 2 || metaclip) c.eot = std::to_string(eos);
    return c;
}

/// transformers' SiglipConfig: no class token, attention pooling, texts without a mask that are read at their last
/// position.
inline ModelConfig huggingface_siglip(const ConfigReader& vision, const ConfigReader& text) {
    ModelConfig c = huggingface_towers(vision, text, {12, 768, 32000, "gelu_pytorch_tanh", 1e-6});
    require(vision.boolean("vision_use_head", true), vision.where(), ": vision_use_head false is not supported");
    c.embed = text.integer("projection_size", c.text_width);
    for (const char* role : {"class_token", "first_norm", "projection"}) c.lacks(role);
    c.description["vision_pool"] = "attention";
    c.description["vision_pool_norm"] = "before";
    c.description["text_mask"] = "none";
    c.eot = "last";
    return c;
}

inline ModelConfig huggingface_config(const Json& root, const std::string& path) {
    if (root.value("model_type", Json()) == "clip_vision_model") {  // the image branch alone, described at the top
        Json whole = {{"vision_config", root}, {"projection_dim", root.value("projection_dim", 512)}};
        whole["text_config"]["hidden_act"] = root.value("hidden_act", "quick_gelu");
        return huggingface_config(whole, path);
    }
    const std::string type = ConfigReader(root, path).text("model_type", "clip");
    require(type == "clip" || type == "metaclip_2" || type == "siglip", path, ": model_type '", type,
            "' is not supported, only clip, metaclip_2 and siglip");
    const Json vision_json = huggingface_part(root, "vision_config"), text_json = huggingface_part(root, "text_config");
    const ConfigReader vision(vision_json, path + ": vision_config"), text(text_json, path + ": text_config");
    ModelConfig c = type == "siglip" ? huggingface_siglip(vision, text)
                                     : huggingface_clip(root, vision, text, type == "metaclip_2", path);
    c.source = path;
    return c;
}

}  // namespace promptkd::detail
