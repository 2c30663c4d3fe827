// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/schema/sizes.hpp>
#include <promptkd/format/file.hpp>
#include <promptkd/op/norm.hpp>

#include <nlohmann/json.hpp>

#include <initializer_list>
#include <optional>
#include <string>
#include <utility>

namespace promptkd {

/// What a CLIP model's weights do not tell, from the JSON beside them, and the sizes by which to see that both belong
/// together (0: the JSON does not say).
struct ModelConfig {
    Index vision_heads = 0, text_heads = 0;  ///< attention heads of the branches; 0: not said
    std::string gelu;                        ///< "quick" or "exact"
    std::string eot =
        "argmax";  ///< where text features are taken: at the largest id, or at the first token with this id
    /// sizes of the model, to be compared with its tensors; 0: not said
    Index vision_width = 0, vision_layers = 0, text_width = 0, text_layers = 0, vocabulary = 0, embed = 0;
    std::string source;  ///< file, for messages
};

namespace detail {

using Json = nlohmann::json;

/// A model's JSON, read field by field. Errors name file and field.
class ConfigReader {
public:
    ConfigReader(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
        require(object.is_object(), where_, ": expected an object");
    }

    const std::string& where() const { return where_; }

    /// A positive integer, or `fallback` where the field is absent or null.
    Index integer(const char* key, Index fallback) const {
        const Json* value = find(key);
        if (value == nullptr) return fallback;
        require(value->is_number_integer() && value->get<std::int64_t>() > 0 &&
                    value->get<std::int64_t>() < (std::int64_t{1} << 31),
                where_, ": '", key, "' is ", value->dump(), ", expected a positive integer");
        return value->get<Index>();
    }
    std::string text(const char* key, const std::string& fallback) const {
        const Json* value = find(key);
        if (value == nullptr) return fallback;
        require(value->is_string(), where_, ": '", key, "' must be a text");
        return value->get<std::string>();
    }
    bool boolean(const char* key, bool fallback) const {
        const Json* value = find(key);
        if (value == nullptr) return fallback;
        require(value->is_boolean(), where_, ": '", key, "' must be true or false");
        return value->get<bool>();
    }
    double number(const char* key, double fallback) const {
        const Json* value = find(key);
        if (value == nullptr) return fallback;
        require(value->is_number(), where_, ": '", key, "' must be a number");
        return value->get<double>();
    }
    const Json* find(const char* key) const {
        const auto it = object_.find(key);
        return it == object_.end() || it->is_null() ? nullptr : &*it;
    }

    /// Throws Error for a field outside `known` that switches something on.
    void refuse_others(std::initializer_list<const char*> known) const {
        for (const auto& item : object_.items()) {
            bool expected = item.value().is_null() || item.value() == false || item.value() == 0;
            for (const char* name : known) expected = expected || item.key() == name;
            require(expected, where_, ": '", item.key(), "' is not supported");
        }
    }

private:
    const Json& object_;
    std::string where_;
};

/// Hugging Face's name of an activation in ours. Throws Error for one that CLIP here does not have.
inline std::string gelu_name(const std::string& activation, const std::string& where) {
    if (activation == "quick_gelu") return "quick";
    require(activation == "gelu", where, ": activation '", activation, "' is not supported, only quick_gelu and gelu");
    return "exact";
}

/// One of the two parts of a Hugging Face config; the older `…_config_dict` overrides it, as it does there.
inline Json huggingface_part(const Json& root, const char* key) {
    Json part = root.value(key, Json::object());
    const auto old = root.find(std::string(key) + "_dict");
    if (part.is_null()) part = Json::object();
    if (old != root.end() && old->is_object() && part.is_object()) part.update(*old);
    return part;
}

inline ModelConfig huggingface_config(const Json& root, const std::string& path) {
    const std::string type = ConfigReader(root, path).text("model_type", "clip");
    require(type == "clip", path, ": model_type '", type, "' is not supported, only clip");
    const Json vision_json = huggingface_part(root, "vision_config"), text_json = huggingface_part(root, "text_config");
    const ConfigReader vision(vision_json, path + ": vision_config"), text(text_json, path + ": text_config");
    ModelConfig c;
    c.source = path;
    c.vision_heads = vision.integer("num_attention_heads", 12);
    c.vision_width = vision.integer("hidden_size", 768);
    c.vision_layers = vision.integer("num_hidden_layers", 12);
    c.text_heads = text.integer("num_attention_heads", 8);
    c.text_width = text.integer("hidden_size", 512);
    c.text_layers = text.integer("num_hidden_layers", 12);
    c.vocabulary = text.integer("vocab_size", 49408);
    c.embed = ConfigReader(root, path).integer("projection_dim", 512);
    const std::string act = vision.text("hidden_act", "quick_gelu"), other = text.text("hidden_act", "quick_gelu");
    require(act == other, path, ": the image branch uses ", act, " and the text branch ", other,
            "; one activation for both is supported");
    c.gelu = gelu_name(act, path);
    for (const ConfigReader* part : {&vision, &text}) {
        const double eps = part->number("layer_norm_eps", layer_norm_epsilon);
        require(std::abs(eps / layer_norm_epsilon - 1) < 0.01, part->where(), ": layer_norm_eps ", eps,
                " is not supported, only ", layer_norm_epsilon);
    }
    const Index eos = text.integer("eos_token_id", 2);
    if (eos != 2) c.eot = std::to_string(eos);  // 2 stands in old configs, whose models pool at the largest id
    return c;
}

inline ModelConfig open_clip_config(const Json& root, const std::string& path) {
    require(root.contains("text_cfg"), path, ": 'text_cfg' is missing");
    const ConfigReader top(root, path), vision(root.at("vision_cfg"), path + ": vision_cfg"),
        text(root.at("text_cfg"), path + ": text_cfg");
    top.refuse_others({"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "init_logit_scale", "custom_text"});
    vision.refuse_others({"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "patch_dropout"});
    text.refuse_others({"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "pool_type", "eos_id",
                        "hf_tokenizer_name", "tokenizer_kwargs", "embed_cls", "proj_type", "pad_id"});
    ModelConfig c;
    c.source = path;
    c.gelu = top.boolean("quick_gelu", false) ? "quick" : "exact";
    c.embed = top.integer("embed_dim", 0);
    c.vision_width = vision.integer("width", 768);
    const Index head = vision.integer("head_width", 64);
    const Json* layers = vision.find("layers");
    if (layers == nullptr || !layers->is_array()) {  // a list: a ResNet, whose heads are those of its attention pool
        require(c.vision_width % head == 0, vision.where(), ": width ", c.vision_width,
                " is not a multiple of head_width ", head);
        c.vision_layers = vision.integer("layers", 12);
        c.vision_heads = c.vision_width / head;
    } else {
        c.vision_width = 0;
    }
    c.text_width = text.integer("width", 512);
    c.text_heads = text.integer("heads", 8);
    c.text_layers = text.integer("layers", 12);
    c.vocabulary = text.integer("vocab_size", 49408);
    const std::string pool = text.text("pool_type", "argmax"), projection = text.text("proj_type", "linear");
    require(pool == "argmax" || pool == "eos", text.where(), ": pool_type '", pool,
            "' is not supported, only argmax and eos");
    require(projection == "linear", text.where(), ": proj_type '", projection, "' is not supported, only linear");
    require(!text.boolean("embed_cls", false), text.where(), ": embed_cls is not supported");
    if (pool == "eos") c.eot = std::to_string(text.integer("eos_id", 2));
    return c;
}

inline void compare_size(const ModelConfig& config, const TensorMap& map, const char* what, Index configured,
                         Index found) {
    require(configured == 0 || found == 0 || configured == found, config.source, ": says ", what, " ", configured,
            ", but the weights in ", map.source, " have ", found, "; this configuration belongs to another model");
}

}  // namespace detail

/// The configuration in a model's JSON: Hugging Face's config.json, or open_clip's (bare, or inside "model_cfg").
/// Nothing where the JSON is something else. Throws Error for JSON of those kinds that asks for what is not supported
/// here.
inline std::optional<ModelConfig> parse_model_config(const std::string& text, const std::string& path) {
    const detail::Json root = detail::Json::parse(text, nullptr, false);
    if (!root.is_object()) return std::nullopt;
    const auto inner = root.find("model_cfg");
    const detail::Json& model = inner != root.end() && inner->is_object() ? *inner : root;
    if (model.contains("vision_cfg")) return detail::open_clip_config(model, path);
    if (model.contains("vision_config") || model.contains("text_config"))
        return detail::huggingface_config(model, path);
    return std::nullopt;
}

/// What a configuration file says; nothing where it is none of a known kind. Throws Error when it is damaged.
inline std::optional<ModelConfig> read_model_config(const std::string& path) {
    return parse_model_config(read_file(path, std::size_t{16} << 20), path);
}

/// Puts `config` into the metadata of a model under OpenAI's names: `vision_heads`, `text_heads`, `gelu`, `eot`. Throws
/// Error when its sizes are not those of the weights.
inline void apply_model_config(const ModelConfig& config, TensorMap& map) {
    using detail::compare_size;
    using schema::Size;
    if (schema::has_vision_transformer(map)) {
        const schema::Sizes found = schema::measure_known(map, schema::vision_transformer);
        const Index layers = schema::count_blocks(map, schema::vision_transformer);
        compare_size(config, map, "vision width", config.vision_width, found[Size::width]);
        compare_size(config, map, "vision layers", config.vision_layers, layers);
        compare_size(config, map, "embedding size", config.embed, found[Size::embed]);
        if (config.vision_heads > 0) map.metadata["vision_heads"] = std::to_string(config.vision_heads);
    }
    if (schema::has_text_branch(map)) {
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
