// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/huggingface_config.hpp>
#include <promptkd/clip/checkpoint/open_clip_config.hpp>
#include <promptkd/clip/checkpoint/pe_config.hpp>
#include <promptkd/clip/config.hpp>
#include <promptkd/format/file.hpp>

#include <optional>
#include <string>

namespace promptkd {

namespace detail {

/// Metadata that holds a configuration's image size while the model is read.
inline constexpr const char* image_size_key = "config_image_size";

/// Throws Error where a configuration says another size than the weights have.
inline void compare_size(const ConfigSize& said, const TensorMap& map, Index found) {
    require(said == 0 || found == 0 || said == found, said.said, " ", said.value, ", but the weights in ", map.source,
            " have ", found, "; this configuration belongs to another model");
}

/// Throws Error where the configuration says that a tower lacks something that the weights hold.
inline void check_absent(const ModelConfig& config, const TensorMap& map, const schema::Architecture& tower) {
    const char* branch = tower.branch == schema::Branch::image ? "an image" : "a text";
    for (const schema::Group& group : tower.groups)
        for (const schema::Row& row : group.rows) {
            const schema::Weight w{&tower, &group, &row, {}, -1};
            if (schema::is_repeated(group) || row.presence != schema::Presence::required) continue;
            require(!schema::is_described_absent(map, w) || !map.contains(schema::name_of(w)), config.source,
                    ": describes ", branch, " tower without '", schema::name_of(w, schema::file_layout(map)),
                    "', but the weights in ", map.source, " hold it; this configuration belongs to another model");
        }
}

/// Throws Error where configuration and weights disagree about a class token behind the texts.
inline void check_text_class_token(const ModelConfig& config, const TensorMap& map) {
    const schema::Weight token = *schema::find(schema::text_transformer, schema::Role::class_token);
    const bool found = map.contains(schema::name_of(token));
    require(!config.text_class_token || *config.text_class_token == found, config.source, ": 'embed_cls' is ",
            found ? "false" : "true", ", but the weights in ", map.source, found ? " hold '" : " lack '",
            schema::name_of(token, schema::file_layout(map)), "'");
}

/// Throws Error where configuration and weights disagree about LayerScale.
inline void check_scales(const ModelConfig& config, std::optional<bool> said, const TensorMap& map,
                         const schema::Architecture& architecture) {
    const auto scale = *schema::find(architecture, schema::Role::scale_1, schema::Part::weight, schema::Numbers{});
    const bool found = map.contains(schema::name_of(scale));
    require(!said || *said == found, config.source, ": 'ls_init_value' says that the blocks ",
            found ? "have no LayerScale, but" : "have LayerScale, but", " the weights in ", map.source,
            found ? " hold '" : " lack '", schema::name_of(scale, schema::file_layout(map)), "'");
}

/// Images that no whole number of patches covers: their size, where the positions are those of its patches.
inline void apply_image_size(const ModelConfig& config, TensorMap& map) {
    const Index patch = schema::measure_known(map, schema::vision_transformer)[schema::Size::patch];
    if (config.image_size > 0 && patch > 0 && config.image_size % patch != 0)
        map.metadata["vision_image_size"] = std::to_string(config.image_size);
}

}  // namespace detail

/// The configuration in a model's JSON: Hugging Face's config.json, open_clip's or Meta's of PE (bare, or inside
/// "model_cfg").
/// Nothing where the JSON is something else. Throws Error for JSON of those kinds that asks for what is not supported
/// here.
inline std::optional<ModelConfig> parse_model_config(const std::string& text, const std::string& path) {
    const detail::Json root = detail::Json::parse(text, nullptr, false);
    if (!root.is_object()) return std::nullopt;
    const auto inner = root.find("model_cfg");
    const detail::Json& model = inner != root.end() && inner->is_object() ? *inner : root;
    if (detail::is_pe_config(model)) return detail::pe_config(model, path);
    if (model.contains("vision_cfg")) return detail::open_clip_config(model, path);
    if (model.contains("vision_config") || model.contains("text_config") || detail::is_huggingface_vision(model))
        return detail::huggingface_config(model, path);
    return std::nullopt;
}

/// What a configuration file says; nothing where it is none of a known kind. Throws Error when it is damaged.
inline std::optional<ModelConfig> read_model_config(const std::string& path) {
    return parse_model_config(read_file(path, std::size_t{16} << 20), path);
}

namespace detail {

/// What the configuration says of a vision transformer.
inline void apply_vision_config(const ModelConfig& config, TensorMap& map) {
    using schema::Size;
    for (const auto& [key, value] : config.description)
        if (key.rfind("text_", 0) != 0) map.metadata[key] = value;
    const schema::Weight projection = *schema::find(schema::vision_transformer, schema::Role::projection);
    const bool bare = config.may_lack_projection && !map.contains(schema::name_of(projection));
    if (bare) map.metadata["vision_without"] = "projection";
    check_absent(config, map, schema::vision_transformer);
    check_scales(config, config.vision_scales, map, schema::vision_transformer);
    apply_image_size(config, map);
    const schema::Sizes found = schema::measure_known(map, schema::vision_transformer);
    compare_size(config.vision_width, map, found[Size::width]);
    compare_size(config.vision_layers, map, schema::count_blocks(map, schema::vision_transformer));
    compare_size(config.vision_mlp, map, schema::hidden_width(map, schema::vision_transformer));
    compare_size(config.patch, map, found[Size::patch]);
    const bool projects = !lacks(map, schema::Role::projection);
    if (!bare) compare_size(config.embed, map, found[projects ? Size::embed : Size::width]);
    if (config.image_size > 0) map.metadata[image_size_key] = std::to_string(config.image_size);
    if (config.vision_heads > 0) map.metadata["vision_heads"] = std::to_string(config.vision_heads);
}

/// The same of a ResNet.
inline void apply_resnet_config(const ModelConfig& config, TensorMap& map) {
    const schema::Sizes found = schema::measure_known(map, schema::modified_resnet);
    compare_size(config.vision_width, map, found[schema::Size::width]);
    compare_size(config.embed, map, found[schema::Size::embed]);
    for (std::size_t i = 0; i < config.stages.size(); ++i)
        compare_size(config.stages[i], map,
                     schema::count_blocks(map, schema::modified_resnet, static_cast<Index>(i) + 1));
    if (config.vision_heads > 0) map.metadata["vision_heads"] = std::to_string(config.vision_heads);
}

/// The same of a text branch.
inline void apply_text_config(const ModelConfig& config, TensorMap& map) {
    using schema::Size;
    for (const auto& [key, value] : config.description)
        if (key.rfind("text_", 0) == 0) map.metadata[key] = value;
    check_absent(config, map, schema::text_transformer);
    check_scales(config, config.text_scales, map, schema::text_transformer);
    check_text_class_token(config, map);
    const schema::Sizes found = schema::measure_known(map, schema::text_transformer);
    compare_size(config.text_width, map, found[Size::width]);
    compare_size(config.text_layers, map, schema::count_blocks(map, schema::text_transformer));
    compare_size(config.text_mlp, map, schema::hidden_width(map, schema::text_transformer));
    compare_size(config.vocabulary, map, found[Size::vocabulary]);
    compare_size(config.context_length, map, found[Size::context_length]);
    const bool projects = !lacks(map, schema::Role::projection, schema::text_transformer);
    compare_size(config.embed, map, found[projects ? Size::embed : Size::width]);
    if (config.text_heads > 0) map.metadata["text_heads"] = std::to_string(config.text_heads);
    map.metadata["eot"] = config.eot;
}

}  // namespace detail

/// Puts `config` into the metadata of a model under OpenAI's names: `vision_heads`, `text_heads`, `gelu`, `eot` and the
/// entries of tower_entries that it asks for. Throws Error naming the field where its sizes are not those of the
/// weights, or it describes what they do not hold.
inline void apply_model_config(const ModelConfig& config, TensorMap& map) {
    if (schema::has_vision_transformer(map)) detail::apply_vision_config(config, map);
    if (schema::image_architecture(map) == &schema::modified_resnet) detail::apply_resnet_config(config, map);
    if (schema::has_text_branch(map)) detail::apply_text_config(config, map);
    map.metadata["gelu"] = config.gelu;
}

}  // namespace promptkd
