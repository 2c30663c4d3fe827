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

inline void compare_size(const ModelConfig& config, const TensorMap& map, const char* what, Index configured,
                         Index found) {
    require(configured == 0 || found == 0 || configured == found, config.source, ": says ", what, " ", configured,
            ", but the weights in ", map.source, " have ", found, "; this configuration belongs to another model");
}

/// Throws Error where the configuration says that the image tower lacks something that the weights hold.
inline void check_absent(const ModelConfig& config, const TensorMap& map) {
    for (const schema::Group& group : schema::vision_transformer.groups)
        for (const schema::Row& row : group.rows) {
            const schema::Weight w{&schema::vision_transformer, &group, &row, {}, -1};
            if (schema::is_repeated(group) || row.presence != schema::Presence::required) continue;
            require(!schema::is_described_absent(map, w) || !map.contains(schema::name_of(w)), config.source,
                    ": describes an image tower without '", schema::name_of(w, schema::file_layout(map)),
                    "', but the weights in ", map.source, " hold it; this configuration belongs to another model");
        }
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
    if (model.contains("vision_config") || model.contains("text_config") ||
        model.value("model_type", detail::Json()) == "clip_vision_model")
        return detail::huggingface_config(model, path);
    return std::nullopt;
}

/// What a configuration file says; nothing where it is none of a known kind. Throws Error when it is damaged.
inline std::optional<ModelConfig> read_model_config(const std::string& path) {
    return parse_model_config(read_file(path, std::size_t{16} << 20), path);
}

/// Puts `config` into the metadata of a model under OpenAI's names: `vision_heads`, `text_heads`, `gelu`, `eot` and the
/// entries of tower_entries that it asks for. Throws Error when its sizes are not those of the weights, or it describes
/// what they do not hold.
inline void apply_model_config(const ModelConfig& config, TensorMap& map) {
    using detail::compare_size;
    using schema::Size;
    const auto text_entry = [](const std::string& key) { return key.rfind("text_", 0) == 0; };
    if (schema::has_vision_transformer(map)) {
        for (const auto& [key, value] : config.description)
            if (!text_entry(key)) map.metadata[key] = value;
        detail::check_absent(config, map);
        detail::check_scales(config, config.vision_scales, map, schema::vision_transformer);
        detail::apply_image_size(config, map);
        const schema::Sizes found = schema::measure_known(map, schema::vision_transformer);
        const Index layers = schema::count_blocks(map, schema::vision_transformer);
        compare_size(config, map, "vision width", config.vision_width, found[Size::width]);
        compare_size(config, map, "vision layers", config.vision_layers, layers);
        const bool projects = !detail::lacks(map, schema::Role::projection);
        compare_size(config, map, "embedding size", config.embed, found[projects ? Size::embed : Size::width]);
        if (config.image_size > 0) map.metadata[detail::image_size_key] = std::to_string(config.image_size);
        if (config.vision_heads > 0) map.metadata["vision_heads"] = std::to_string(config.vision_heads);
    }
    if (schema::has_text_branch(map)) {
        for (const auto& [key, value] : config.description)
            if (text_entry(key)) map.metadata[key] = value;
        detail::check_scales(config, config.text_scales, map, schema::text_transformer);
        const schema::Sizes found = schema::measure_known(map, schema::text_transformer);
        const Index layers = schema::count_blocks(map, schema::text_transformer);
        compare_size(config, map, "text width", config.text_width, found[Size::width]);
        compare_size(config, map, "text layers", config.text_layers, layers);
        compare_size(config, map, "vocabulary", config.vocabulary, found[Size::vocabulary]);
        if (config.text_heads > 0) map.metadata["text_heads"] = std::to_string(config.text_heads);
        map.metadata["eot"] = config.eot;
    }
    map.metadata["gelu"] = config.gelu;
}

}  // namespace promptkd
