// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/config_reader.hpp>

#include <algorithm>
#include <iterator>
#include <string>
#include <string_view>

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
    Index text_heads, text_width, vocabulary, text_mlp, context_length, patch;
    const char* activation;
    double epsilon;
};

/// The fields that both families have.
inline ModelConfig huggingface_towers(const ConfigReader& vision, const ConfigReader& text,
                                      const HuggingfaceDefaults& defaults) {
    ModelConfig c;
    c.vision_heads = vision.integer("num_attention_heads", 12);
    c.vision_width = vision.size("hidden_size", 768);
    c.vision_layers = vision.size("num_hidden_layers", 12);
    c.vision_mlp = vision.size("intermediate_size", 3072);
    c.patch = vision.size("patch_size", defaults.patch);
    c.image_size = vision.integer("image_size", 224);
    c.text_heads = text.integer("num_attention_heads", defaults.text_heads);
    c.text_width = text.size("hidden_size", defaults.text_width);
    c.text_layers = text.size("num_hidden_layers", 12);
    c.text_mlp = text.size("intermediate_size", defaults.text_mlp);
    c.vocabulary = text.size("vocab_size", defaults.vocabulary);
    c.context_length = text.size("max_position_embeddings", defaults.context_length);
    c.set_activations(gelu_name(vision.text("hidden_act", defaults.activation), vision.where()),
                      gelu_name(text.text("hidden_act", defaults.activation), text.where()));
    c.set_epsilon("vision", vision.number("layer_norm_eps", defaults.epsilon));
    c.set_epsilon("text", text.number("layer_norm_eps", defaults.epsilon));
    return c;
}

/// transformers' CLIPConfig, and MetaClip2Config, which differs in where texts end.
inline ModelConfig huggingface_clip(const Json& root, const ConfigReader& vision, const ConfigReader& text,
                                    bool metaclip, const std::string& path) {
    ModelConfig c = huggingface_towers(vision, text, {8, 512, 49408, 2048, 77, 32, "quick_gelu", layer_norm_epsilon});
    c.embed = ConfigReader(root, path).size("projection_dim", 512);
    const Index eos = text.integer("eos_token_id", 2);
    // In a CLIP config 2 is an old mistake, whose models pool at the largest id.
    if (eos != 2 || metaclip) c.eot = std::to_string(eos);
    return c;
}

/// transformers' SiglipConfig: no class token, attention pooling, texts without a mask that are read at their last
/// position.
inline ModelConfig huggingface_siglip(const ConfigReader& vision, const ConfigReader& text) {
    ModelConfig c = huggingface_towers(vision, text, {12, 768, 32000, 3072, 64, 16, "gelu_pytorch_tanh", 1e-6});
    require(vision.boolean("vision_use_head", true), vision.where(), ": vision_use_head false is not supported");
    c.embed = text.size("projection_size", c.text_width);
    for (const char* role : {"class_token", "first_norm", "projection"}) c.lacks(role);
    c.description["vision_pool"] = "attention";
    c.description["vision_pool_norm"] = "before";
    c.description["text_mask"] = "none";
    c.eot = "last";
    return c;
}

/// Families of which the image branch alone is saved as a model: its type begins so.
inline constexpr const char* huggingface_families[] = {"clip", "metaclip_2", "siglip"};
inline constexpr std::string_view vision_model_ending = "_vision_model";

/// Whether the JSON describes an image branch alone.
inline bool is_huggingface_vision(const Json& root) {
    const Json type = root.value("model_type", Json());
    for (const char* family : huggingface_families)
        if (type == std::string(family) + std::string(vision_model_ending)) return true;
    return false;
}

inline ModelConfig huggingface_config(const Json& root, const std::string& path);

/// The configuration of an image branch alone, all of which stands at the top: with its projection, or without.
inline ModelConfig huggingface_vision(const Json& root, const std::string& path) {
    const std::string type = root.at("model_type").get<std::string>();
    const std::string family = type.substr(0, type.size() - vision_model_ending.size());
    Json whole = {{"model_type", family}, {"vision_config", root}, {"text_config", Json::object()}};
    whole["projection_dim"] = root.value("projection_dim", 512);
    if (root.contains("hidden_act")) whole["text_config"]["hidden_act"] = root.at("hidden_act");
    ModelConfig c = huggingface_config(whole, path);
    if (family == "siglip") c.embed = c.vision_width;
    c.may_lack_projection = family != "siglip";
    return c;
}

inline ModelConfig huggingface_config(const Json& root, const std::string& path) {
    if (is_huggingface_vision(root)) return huggingface_vision(root, path);
    const std::string type = ConfigReader(root, path).text("model_type", "clip");
    const bool known = std::find(std::begin(huggingface_families), std::end(huggingface_families), type) !=
                       std::end(huggingface_families);
    require(known, path, ": model_type '", type,
            type == "siglip2" ? "' is SigLIP 2 of variable resolution, which" : "'",
            " is not supported, only clip, metaclip_2 and siglip (which SigLIP 2 of a fixed resolution is)");
    const Json vision_json = huggingface_part(root, "vision_config"), text_json = huggingface_part(root, "text_config");
    const ConfigReader vision(vision_json, path + ": vision_config"), text(text_json, path + ": text_config");
    ModelConfig c = type == "siglip" ? huggingface_siglip(vision, text)
                                     : huggingface_clip(root, vision, text, type == "metaclip_2", path);
    c.source = path;
    return c;
}

}  // namespace promptkd::detail
