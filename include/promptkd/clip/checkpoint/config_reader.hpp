// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>
#include <promptkd/op/norm.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdio>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// A size that a model's JSON says, by which to see that it belongs to the weights.
struct ConfigSize {
    Index value = 0;   ///< 0: not said
    std::string said;  ///< "config.json: vision_config: 'hidden_size' is", for messages

    ConfigSize() = default;
    /// A size without a field.
    ConfigSize(Index v, std::string by = {}) : value(v), said(std::move(by)) {}
    /// The number alone.
    operator Index() const { return value; }
};

/// What a CLIP model's weights do not tell, from the JSON beside them, and the sizes by which to see that both belong
/// together (0: the JSON does not say).
struct ModelConfig {
    Index vision_heads = 0, text_heads = 0;  ///< attention heads of the branches; 0: not said
    std::string gelu;                        ///< "quick" or "exact"
    std::string eot =
        "argmax";  ///< where text features are taken: at the largest id, or at the first token with this id
    /// sizes of the image branch, to be compared with its tensors
    ConfigSize vision_width, vision_layers, vision_mlp, patch;
    /// the same of the text branch
    ConfigSize text_width, text_layers, text_mlp, vocabulary, context_length;
    ConfigSize embed;                                ///< of the features
    std::vector<ConfigSize> stages;                  ///< blocks of a ResNet's stages
    Index image_size = 0;                            ///< pixels a side; 0: not said
    std::optional<bool> vision_scales, text_scales;  ///< whether the blocks have LayerScale, where that is said
    std::optional<bool> text_class_token;            ///< whether a class token stands behind the texts
    bool may_lack_projection = false;  ///< an image branch alone, whose features may be what its projection reads
    std::map<std::string, std::string> description;  ///< what is not CLIP's own: entries of tower_entries
    std::string source;                              ///< file, for messages

    /// Adds to what the image tower lacks.
    void lacks(const char* role) {
        std::string& list = description["vision_without"];
        list += (list.empty() ? "" : " ") + std::string(role);
    }
    /// Where the norms of a branch ("vision", "text") have another ε than CLIP's, says so.
    void set_epsilon(const std::string& branch, double epsilon) {
        if (std::abs(epsilon / layer_norm_epsilon - 1) < 0.01) return;
        char digits[32];
        std::snprintf(digits, sizeof digits, "%g", epsilon);
        description[branch + "_epsilon"] = digits;
    }
    /// The activations of the two branches: "quick", "exact" or "tanh".
    void set_activations(const std::string& vision, const std::string& text) {
        gelu = text;
        if (vision != text) description["vision_gelu"] = vision;
    }
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
    /// The same with the field's name; a fallback of 0: nothing is said.
    ConfigSize size(const char* key, Index fallback) const {
        const char* is = find(key) != nullptr ? "' is" : "' is not there, which means";
        return {integer(key, fallback), concat(where_, ": '", key, is)};
    }
    /// The width of an MLP: int(width·ratio), as PyTorch's libraries compute it.
    ConfigSize mlp_width(const char* key, Index width, double fallback) const {
        const double ratio = number(key, fallback);
        return {static_cast<Index>(static_cast<double>(width) * ratio),
                concat(where_, ": '", key, "' ", ratio, " makes an MLP of")};
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
    /// Whether the field is there, null included.
    bool has(const char* key) const { return object_.contains(key); }
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

/// A size, or [height, width] of a square; 0 where it is not said.
inline Index square_size(const ConfigReader& reader, const char* key) {
    const Json* value = reader.find(key);
    if (value == nullptr || !value->is_array()) return reader.integer(key, 0);
    const bool square = value->size() == 2 && value->front() == value->back() && value->front().is_number_unsigned();
    require(square, reader.where(), ": '", key, "' is ", value->dump(), ", only squares are supported");
    return value->front().get<Index>();
}

/// Hugging Face's name of an activation in ours. Throws Error for one that no tower here has.
inline std::string gelu_name(const std::string& activation, const std::string& where) {
    if (activation == "quick_gelu") return "quick";
    for (const char* tanh_form : {"gelu_pytorch_tanh", "gelu_new", "gelu_fast"})
        if (activation == tanh_form) return "tanh";
    require(activation == "gelu", where, ": activation '", activation,
            "' is not supported, only quick_gelu, gelu, gelu_pytorch_tanh, gelu_new and gelu_fast");
    return "exact";
}

}  // namespace detail

}  // namespace promptkd
