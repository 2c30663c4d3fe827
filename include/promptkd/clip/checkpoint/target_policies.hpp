// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/config.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <initializer_list>
#include <string>

namespace promptkd::detail {

/// What of a model's towers a layout has a place for, beyond CLIP's own kind.
struct TargetPlaces {
    std::initializer_list<const char*> entries;  ///< of tower_entries
    std::initializer_list<schema::Role> roles;   ///< of optional tensors
};

/// open_clip's own towers: the fields of its vision_cfg and text_cfg.
inline TargetPlaces open_clip_places() {
    using R = schema::Role;
    static constexpr auto entries = {"vision_gelu",  "vision_epsilon",    "text_epsilon",     "vision_image_size",
                                     "vision_pool",  "vision_pool_heads", "vision_pool_norm", "vision_without",
                                     "text_without", "text_mask"};
    static constexpr auto roles = {R::scale_1, R::scale_2,    R::pool_queries, R::pool_norm_query, R::pool_norm_key,
                                   R::pool_in, R::pool_query, R::pool_key,     R::pool_value,      R::pool_out};
    return {entries, roles};
}
/// transformers' CLIP.
inline TargetPlaces huggingface_places() {
    static constexpr auto entries = {"vision_gelu", "vision_epsilon", "text_epsilon", "vision_image_size"};
    return {entries, {}};
}
/// transformers' SigLIP.
inline TargetPlaces siglip_places() {
    using R = schema::Role;
    static constexpr auto entries = {"vision_gelu",       "vision_epsilon",    "text_epsilon",
                                     "vision_image_size", "vision_without",    "vision_pool",
                                     "vision_pool_norm",  "vision_pool_heads", "text_mask"};
    static constexpr auto roles = {R::patch_embedding, R::projection, R::pool_probe,  R::pool_in,
                                   R::pool_out,        R::pool_norm,  R::pool_mlp_in, R::pool_mlp_out};
    return {entries, roles};
}

/// What of the towers of `map` has no place in these, for people; empty: everything has one.
inline std::string lost_in(const TensorMap& map, const TargetPlaces& places) {
    for (const std::string entry : tower_entries)
        if (map.metadata.count(entry) != 0 &&
            std::find(places.entries.begin(), places.entries.end(), entry) == places.entries.end())
            return concat(entry, " ", map.metadata.at(entry));
    for (const auto& named : map.tensors)
        for (const schema::Architecture* tower : {&schema::vision_transformer, &schema::text_transformer}) {
            const auto w = schema::parse(*tower, named.first);
            if (!w || w->row->presence != schema::Presence::optional) continue;
            if (std::find(places.roles.begin(), places.roles.end(), w->row->role) == places.roles.end())
                return concat("'", schema::name_of(*w, schema::file_layout(map)), "'");
        }
    return "";
}

/// The activation of a branch, "vision" or "text".
inline Gelu activation_of(const TensorMap& map, const std::string& branch) { return block_design(map, branch).gelu; }

/// What open_clip has no place for; empty: nothing.
inline std::string lost_in_open_clip(const TensorMap& map) {
    const std::string lost = lost_in(map, open_clip_places());
    if (!lost.empty()) return lost;
    const std::string without = metadata_text(map, "vision_without");
    if (!without.empty() && without != "first_norm") return "vision_without " + without;
    const Gelu vision = activation_of(map, "vision"), text = activation_of(map, "text");
    if ((vision == Gelu::quick) != (text == Gelu::quick)) return "activations of which one is quick_gelu";
    return "";
}

/// Whether the model is of SigLIP's kind, all of which transformers' SigLIP has a place for.
inline bool is_siglip(const TensorMap& map) {
    if (!schema::has_vision_transformer(map) || !schema::has_text_branch(map)) return false;
    const VisionConfig v = vision_config(map);
    const TextConfig t = text_config(map);
    const bool image =
        !v.class_token && !v.first_norm && !v.projection && v.last_norm && v.pooling == Pooling::attention &&
        v.pool_norm == NormPlace::before && v.pool_heads == v.heads &&
        schema::holds(map, schema::vision_transformer, schema::Role::pool_probe) &&
        schema::holds(map, schema::vision_transformer, schema::Role::patch_embedding, schema::Part::bias);
    const bool text = !t.causal && t.pooling == TextPooling::last && t.projection &&
                      schema::holds(map, schema::text_transformer, schema::Role::projection, schema::Part::bias);
    return image && text && map.contains(schema::name_of(schema::model, schema::Role::logit_bias)) &&
           lost_in(map, siglip_places()).empty();
}

/// What transformers has no place for.
inline std::string lost_in_huggingface(const TensorMap& map) {
    if (is_siglip(map)) return "";
    const std::string lost = lost_in(map, huggingface_places());
    const std::string eot = metadata_text(map, "eot");
    if (!lost.empty()) return lost;
    return eot == "last" || eot == "first" ? "texts that are read at their " + eot + " position" : "";
}

/// Hugging Face's name of an activation.
inline const char* huggingface_activation(Gelu gelu) {
    return gelu == Gelu::quick ? "quick_gelu" : gelu == Gelu::tanh ? "gelu_pytorch_tanh" : "gelu";
}

/// open_clip's mlp_ratio, from which int(width·ratio) is `hidden`.
inline double mlp_ratio(Index hidden, Index width) {
    const double exact = static_cast<double>(hidden) / static_cast<double>(width);
    const bool kept = static_cast<Index>(static_cast<double>(width) * exact) == hidden;
    return kept ? exact : (static_cast<double>(hidden) + 0.25) / static_cast<double>(width);
}

/// What both of open_clip's towers say of their blocks, added to `out`.
inline void add_open_clip_blocks(const TensorMap& map, const schema::Architecture& tower, const BlockDesign& blocks,
                                 nlohmann::json& out) {
    const auto scale = schema::find(tower, schema::Role::scale_1, schema::Part::weight, schema::Numbers{});
    if (map.contains(schema::name_of(*scale))) out["ls_init_value"] = 1.0;  // of a fresh model
    if (blocks.epsilon != layer_norm_epsilon) out["norm_kwargs"] = {{"eps", blocks.epsilon}};
    if (blocks.gelu == Gelu::tanh) out["act_kwargs"] = {{"approximate", "tanh"}};
}

/// What open_clip's vision_cfg says beyond sizes.
inline void add_open_clip_vision(const TensorMap& map, const VisionConfig& c, nlohmann::json& out) {
    out["mlp_ratio"] = mlp_ratio(schema::hidden_width(map, schema::vision_transformer), c.width);
    add_open_clip_blocks(map, schema::vision_transformer, c.blocks, out);
    if (!c.first_norm) out["no_ln_pre"] = true;
    if (c.pooling == Pooling::mean) out["pool_type"] = "avg";
    if (c.pooling == Pooling::mean && c.pool_norm == NormPlace::after) out["final_ln_after_pool"] = true;
    if (c.pooling != Pooling::attention) return;
    const auto queries = schema::find(schema::vision_transformer, schema::Role::pool_queries);
    out["attentional_pool"] = true;
    out["attn_pooler_heads"] = c.pool_heads;
    out["attn_pooler_queries"] = schema::shape_of(map, *queries)[0];
}

/// What open_clip's text_cfg says beyond sizes.
inline void add_open_clip_text(const TensorMap& map, const TextConfig& c, nlohmann::json& out) {
    out["mlp_ratio"] = mlp_ratio(schema::hidden_width(map, schema::text_transformer), c.width);
    add_open_clip_blocks(map, schema::text_transformer, c.blocks, out);
    if (!c.causal) out["no_causal_mask"] = true;
    if (!c.projection) out["proj_type"] = "none";
    if (c.pooling == TextPooling::last) out["pool_type"] = "last";
    if (c.pooling == TextPooling::first) out["pool_type"] = "first";
}

/// What transformers' configurations say of image and text towers alike; `hidden`: the width of the MLP.
template <class Config>
nlohmann::json huggingface_tower_json(const Config& c, const char* model_type, Index hidden) {
    return {{"model_type", model_type},
            {"hidden_size", c.width},
            {"num_hidden_layers", c.layers},
            {"num_attention_heads", c.heads},
            {"hidden_act", huggingface_activation(c.blocks.gelu)},
            {"layer_norm_eps", c.blocks.epsilon},
            {"intermediate_size", hidden}};
}

/// What they say of an image tower of this kind.
inline nlohmann::json huggingface_vision_json(const TensorMap& map, const char* model_type) {
    const VisionConfig c = vision_config(map);
    nlohmann::json out = huggingface_tower_json(c, model_type, schema::hidden_width(map, schema::vision_transformer));
    out["num_channels"] = 3;
    out["patch_size"] = c.patch;
    out["image_size"] = c.resolution();
    return out;
}

/// The same of a text tower.
inline nlohmann::json huggingface_text_json(const TensorMap& map, const char* model_type) {
    const TextConfig c = text_config(map);
    nlohmann::json out = huggingface_tower_json(c, model_type, schema::hidden_width(map, schema::text_transformer));
    out["vocab_size"] = c.vocabulary;
    out["max_position_embeddings"] = c.context_length;
    return out;
}

/// transformers' SiglipConfig of a model that is_siglip().
inline nlohmann::json siglip_json(const TensorMap& map) {
    nlohmann::json text = huggingface_text_json(map, "siglip_text_model");
    text["projection_size"] = text_config(map).embed;
    return {{"architectures", {"SiglipModel"}},
            {"model_type", "siglip"},
            {"vision_config", huggingface_vision_json(map, "siglip_vision_model")},
            {"text_config", text}};
}

/// The shapes that transformers' SigLIP gives to single numbers and to its probe.
inline void shape_as_siglip(TensorMap& map) {
    const auto reshape = [&](const schema::Architecture& part, schema::Role role, const Shape& leading) {
        const auto w = schema::find(part, role);
        const auto it = map.tensors.find(schema::name_of(*w, schema::Layout::siglip));
        if (it == map.tensors.end()) return;
        Shape shape = leading;
        if (count_of(it->second.shape) > 1) shape.push_back(count_of(it->second.shape));
        it->second.shape = shape;
    };
    reshape(schema::model, schema::Role::logit_scale, {1});
    reshape(schema::model, schema::Role::logit_bias, {1});
    reshape(schema::vision_transformer, schema::Role::pool_probe, {1, 1});
}

}  // namespace promptkd::detail
