// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/config.hpp>

#include <nlohmann/json.hpp>

#include <string>

namespace promptkd {

namespace detail {

/// What the blocks of a tower are.
inline void describe_blocks(const BlockDesign& blocks, nlohmann::json& out) {
    out["activation"] = blocks.gelu == Gelu::quick ? "quick_gelu" : blocks.gelu == Gelu::exact ? "gelu" : "gelu_tanh";
    out["epsilon"] = blocks.epsilon;
    out["norms"] = blocks.norms == NormPlace::before ? "before" : "after";
}

/// Whether the first block of a branch has an optional tensor of this role.
inline bool block_has(const TensorMap& map, const schema::Architecture& architecture, schema::Role role) {
    const auto w = schema::find(architecture, role, schema::Part::weight, schema::Numbers{});
    return w && map.contains(schema::name_of(*w));
}

/// The optional parts of a branch's blocks.
inline void describe_parts(const TensorMap& map, const schema::Architecture& architecture, nlohmann::json& out) {
    using schema::Role;
    if (block_has(map, architecture, Role::mlp_gate)) out["activation"] = "swiglu";
    out["layer_scale"] = block_has(map, architecture, Role::scale_1);
    out["inner_norms"] =
        block_has(map, architecture, Role::attention_norm) || block_has(map, architecture, Role::mlp_norm);
}

}  // namespace detail

/// The family whose image tower this is, by its description: CLIP, CLIP with mean pooling, SigLIP, PE, EVA02, EVA, CoCa
/// or MobileCLIP.
inline std::string family_of(const TensorMap& map, const VisionConfig& c) {
    const auto has = [&](schema::Role role) {
        const auto w = schema::find(schema::vision_transformer, role);
        return w && map.contains(schema::name_of(*w));
    };
    if (c.stem) return "MobileCLIP";
    if (has(schema::Role::pool_queries)) return "CoCa";
    if (c.rotation.order == RotationOrder::columns_first) return "PE";
    if (c.rotation.order == RotationOrder::rows_first) return "EVA02";
    if (c.pooling == Pooling::attention) return "SigLIP";
    if (c.blocks.norms == NormPlace::after || (!c.first_norm && c.pooling == Pooling::class_token)) return "EVA";
    return c.pooling == Pooling::mean ? "CLIP with mean pooling" : "CLIP";
}

/// Sizes and every policy of an image tower, for people and programs.
inline nlohmann::json describe(const TensorMap& map, const VisionConfig& c) {
    constexpr const char* pools[] = {"class_token", "mean", "attention"};
    constexpr const char* orders[] = {"none", "columns_first", "rows_first"};
    nlohmann::json out = {{"family", family_of(map, c)},
                          {"width", c.width},
                          {"layers", c.layers},
                          {"heads", c.heads},
                          {"patch", c.patch},
                          {"resolution", c.resolution()},
                          {"embed", c.embed},
                          {"mlp_width", schema::hidden_width(map, schema::vision_transformer)},
                          {"stem", c.stem},
                          {"class_token", c.class_token},
                          {"first_norm", c.first_norm},
                          {"last_norm", c.last_norm},
                          {"projection", c.projection},
                          {"pooling", pools[static_cast<int>(c.pooling)]},
                          {"rotation", orders[static_cast<int>(c.rotation.order)]}};
    if (c.pooling == Pooling::attention) out["pool_heads"] = c.pool_heads;
    if (c.pooling != Pooling::class_token) out["pool_norm"] = c.pool_norm == NormPlace::before ? "before" : "after";
    detail::describe_blocks(c.blocks, out);
    detail::describe_parts(map, schema::vision_transformer, out);
    return out;
}

/// Sizes and every policy of a text tower.
inline nlohmann::json describe(const TensorMap& map, const TextConfig& c) {
    nlohmann::json eot = c.end_id < 0 ? nlohmann::json("argmax") : nlohmann::json(c.end_id);
    if (c.pooling == TextPooling::last) eot = "last";
    if (c.pooling == TextPooling::first) eot = "first";
    if (c.pooling == TextPooling::class_token) eot = "class_token";
    nlohmann::json out = {{"width", c.width},
                          {"layers", c.layers},
                          {"heads", c.heads},
                          {"vocabulary", c.vocabulary},
                          {"context_length", c.context_length},
                          {"embed", c.embed},
                          {"mlp_width", schema::hidden_width(map, schema::text_transformer)},
                          {"causal", c.causal},
                          {"projection", c.projection},
                          {"eot", eot}};
    detail::describe_blocks(c.blocks, out);
    detail::describe_parts(map, schema::text_transformer, out);
    return out;
}

}  // namespace promptkd
