// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/resolution.hpp>
#include <promptkd/clip/config.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <string>
#include <vector>

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
    return schema::holds(map, architecture, role, schema::Part::weight, schema::Numbers{});
}

/// Whether the keys of the first block have a bias: some libraries leave it out, or hold zeros.
inline bool keys_have_bias(const TensorMap& map, const schema::Architecture& architecture) {
    const auto w = schema::find(architecture, schema::Role::attention_in, schema::Part::bias, schema::Numbers{});
    if (!w || !map.contains(schema::name_of(*w))) return false;
    const std::vector<double> bias = map.at(schema::name_of(*w)).template to<double>();
    const auto third = static_cast<std::ptrdiff_t>(bias.size() / 3);
    return std::any_of(bias.begin() + third, bias.begin() + 2 * third, [](double b) { return b != 0; });
}

/// The optional parts of a branch's blocks.
inline void describe_parts(const TensorMap& map, const schema::Architecture& architecture, nlohmann::json& out) {
    using schema::Role;
    out["key_bias"] = keys_have_bias(map, architecture);
    out["projection_bias"] = schema::holds(map, architecture, Role::projection, schema::Part::bias);
    if (block_has(map, architecture, Role::mlp_gate)) out["activation"] = "swiglu";
    out["layer_scale"] = block_has(map, architecture, Role::scale_1);
    out["inner_norms"] =
        block_has(map, architecture, Role::attention_norm) || block_has(map, architecture, Role::mlp_norm);
}

}  // namespace detail

/// The family whose image tower this is, by its description: CLIP, CLIP with mean pooling, SigLIP, PE, EVA02, EVA, CoCa
/// or MobileCLIP.
inline std::string family_of(const TensorMap& map, const VisionConfig& c) {
    if (c.stem) return "MobileCLIP";
    if (schema::holds(map, schema::vision_transformer, schema::Role::pool_queries)) return "CoCa";
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
                          {"head_width", c.width / c.heads},
                          {"patch", c.patch},
                          {"resolution", c.resolution()},
                          {"embed", c.embed},
                          {"mlp_width", schema::hidden_width(map, schema::vision_transformer)},
                          {"stem", c.stem},
                          {"patch_bias", schema::holds(map, schema::vision_transformer, schema::Role::patch_embedding,
                                                       schema::Part::bias)},
                          {"class_token", c.class_token},
                          {"positions", c.class_token && !c.class_position ? "of the patches" : "of all tokens"},
                          {"first_norm", c.first_norm},
                          {"last_norm", c.last_norm},
                          {"projection", c.projection},
                          {"pooling", pools[static_cast<int>(c.pooling)]},
                          {"rotation", orders[static_cast<int>(c.rotation.order)]}};
    const auto resized = map.metadata.find(positions_from_key);
    if (resized != map.metadata.end()) out["positions_interpolated_from"] = resized->second;
    if (c.rotation.order != RotationOrder::none) out["rotation_offset"] = c.rotation.offset;
    if (c.rotation.grid > 0) out["rotation_grid"] = c.rotation.grid;
    if (c.pooling == Pooling::attention) out["pool_heads"] = c.pool_heads;
    if (c.pooled_width != c.width) out["pool_width"] = c.pooled_width;
    if (c.pooling != Pooling::class_token) out["pool_norm"] = c.pool_norm == NormPlace::before ? "before" : "after";
    detail::describe_blocks(c.blocks, out);
    detail::describe_parts(map, schema::vision_transformer, out);
    return out;
}

/// Sizes of a ModifiedResNet.
inline nlohmann::json describe(const ResNetConfig& c) {
    return {{"family", "CLIP's ResNet"},    {"width", c.width}, {"layers", c.layers}, {"pool_heads", c.heads},
            {"resolution", c.resolution()}, {"embed", c.embed}};
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
                          {"head_width", c.width / c.heads},
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
