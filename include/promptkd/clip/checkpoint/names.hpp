// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace promptkd {

/// Whose names the tensors of a CLIP model carry.
enum class Naming {
    none,         ///< not a CLIP model
    openai,       ///< visual.conv1.weight, token_embedding.weight, …
    open_clip,    ///< the same with the text branch under "text."
    huggingface,  ///< vision_model.…, text_model.…
};

/// "openai", "open_clip", "huggingface".
inline const char* name_of(Naming naming) {
    constexpr const char* names[] = {"none", "openai", "open_clip", "huggingface"};
    return names[static_cast<int>(naming)];
}

namespace detail {

inline bool starts_with(std::string_view text, std::string_view prefix) {
    return text.substr(0, prefix.size()) == prefix;
}
inline bool ends_with(std::string_view text, std::string_view suffix) {
    return text.size() >= suffix.size() && text.substr(text.size() - suffix.size()) == suffix;
}

struct NamePair {
    const char *huggingface, *openai;
};

/// Tensors outside the blocks, and (from `transposed_from` on) the projections, which Hugging Face stores transposed.
inline constexpr NamePair outer_names[] = {
    {"logit_scale", "logit_scale"},
    {"vision_model.embeddings.class_embedding", "visual.class_embedding"},
    {"vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"},
    {"vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"},
    {"vision_model.pre_layrnorm.weight", "visual.ln_pre.weight"},
    {"vision_model.pre_layrnorm.bias", "visual.ln_pre.bias"},
    {"vision_model.post_layernorm.weight", "visual.ln_post.weight"},
    {"vision_model.post_layernorm.bias", "visual.ln_post.bias"},
    {"text_model.embeddings.token_embedding.weight", "token_embedding.weight"},
    {"text_model.embeddings.position_embedding.weight", "positional_embedding"},
    {"text_model.final_layer_norm.weight", "ln_final.weight"},
    {"text_model.final_layer_norm.bias", "ln_final.bias"},
    {"visual_projection.weight", "visual.proj"},
    {"text_projection.weight", "text_projection"},
};
inline constexpr std::size_t transposed_from = 12;

inline constexpr NamePair block_prefixes[] = {{"vision_model.encoder.layers.", "visual.transformer.resblocks."},
                                              {"text_model.encoder.layers.", "transformer.resblocks."}};
inline constexpr NamePair block_names[] = {{"layer_norm1.", "ln_1."},
                                           {"layer_norm2.", "ln_2."},
                                           {"self_attn.out_proj.", "attn.out_proj."},
                                           {"mlp.fc1.", "mlp.c_fc."},
                                           {"mlp.fc2.", "mlp.c_proj."}};
inline constexpr const char* attention_parts[] = {"self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."};

/// "17.rest" -> "17." and "rest"; nothing where there is no number.
inline std::optional<std::pair<std::string, std::string>> split_block(std::string_view text) {
    std::size_t digits = 0;
    while (digits < text.size() && std::isdigit(static_cast<unsigned char>(text[digits]))) ++digits;
    if (digits == 0 || digits >= text.size() || text[digits] != '.') return std::nullopt;
    return std::pair<std::string, std::string>(text.substr(0, digits + 1), text.substr(digits + 1));
}

/// Where a tensor of a Hugging Face file belongs under OpenAI's names.
struct Place {
    std::string name;
    bool transposed = false;
    int third = -1;  ///< 0, 1, 2: the q, k or v rows of in_proj
};

inline std::optional<Place> openai_place(const std::string& name) {
    for (std::size_t i = 0; i < std::size(outer_names); ++i)
        if (name == outer_names[i].huggingface) return Place{outer_names[i].openai, i >= transposed_from, -1};
    for (const NamePair& prefix : block_prefixes) {
        if (!starts_with(name, prefix.huggingface)) continue;
        const auto parts = split_block(std::string_view(name).substr(std::string_view(prefix.huggingface).size()));
        if (!parts) return std::nullopt;
        for (const NamePair& part : block_names)
            if (starts_with(parts->second, part.huggingface))
                return Place{prefix.openai + parts->first + part.openai +
                                 parts->second.substr(std::string_view(part.huggingface).size()),
                             false, -1};
        for (int third = 0; third < 3; ++third)
            if (starts_with(parts->second, attention_parts[third]))
                return Place{prefix.openai + parts->first + "attn.in_proj_" +
                                 parts->second.substr(std::string_view(attention_parts[third]).size()),
                             false, third};
    }
    return std::nullopt;
}

/// Hugging Face's name of an OpenAI tensor; for in_proj with "{}" in place of q, k or v.
inline std::optional<Place> huggingface_place(const std::string& name) {
    for (std::size_t i = 0; i < std::size(outer_names); ++i)
        if (name == outer_names[i].openai) return Place{outer_names[i].huggingface, i >= transposed_from, -1};
    for (const NamePair& prefix : block_prefixes) {
        if (!starts_with(name, prefix.openai)) continue;
        const auto parts = split_block(std::string_view(name).substr(std::string_view(prefix.openai).size()));
        if (!parts) return std::nullopt;
        for (const NamePair& part : block_names)
            if (starts_with(parts->second, part.openai))
                return Place{prefix.huggingface + parts->first + part.huggingface +
                                 parts->second.substr(std::string_view(part.openai).size()),
                             false, -1};
        for (const char* kind : {"weight", "bias"})
            if (parts->second == std::string("attn.in_proj_") + kind)
                return Place{prefix.huggingface + parts->first + "self_attn.{}_proj." + kind, false, 0};
    }
    return std::nullopt;
}

inline HostTensor transposed_matrix(const HostTensor& tensor, const std::string& name, const std::string& source) {
    require(tensor.shape.size() == 2, source, ": tensor '", name, "' has shape ", to_string(tensor.shape),
            ", expected a matrix");
    return transpose(tensor);
}

/// q, k and v below each other.
inline HostTensor stack_thirds(const std::array<const HostTensor*, 3>& parts, const std::string& name,
                               const std::string& source) {
    for (const HostTensor* part : parts) {
        require(part != nullptr, source, ": of the three parts (q, k, v) of '", name, "' one is missing");
        require(part->shape == parts[0]->shape && part->dtype == parts[0]->dtype && !part->shape.empty(), source,
                ": the three parts (q, k, v) of '", name, "' differ in shape or type");
    }
    auto bytes = std::make_shared<std::vector<std::byte>>(3 * parts[0]->size_bytes());
    std::byte* to = bytes->data();
    for (const HostTensor* part : parts) {
        if (part->size_bytes() > 0) std::memcpy(to, part->bytes, part->size_bytes());
        to += part->size_bytes();
        release_pages(*part);
    }
    HostTensor out;
    out.dtype = parts[0]->dtype, out.shape = parts[0]->shape, out.bytes = bytes->data();
    out.shape[0] *= 3;
    out.owner = std::move(bytes);
    return out;
}

}  // namespace detail

/// Whose names these are, from the names alone.
inline Naming naming_of(const TensorMap& map) {
    if (map.contains("vision_model.embeddings.patch_embedding.weight") ||
        map.contains("text_model.embeddings.token_embedding.weight"))
        return Naming::huggingface;
    if (map.contains("text.token_embedding.weight")) return Naming::open_clip;
    return map.contains("visual.conv1.weight") || map.contains("token_embedding.weight") ? Naming::openai
                                                                                         : Naming::none;
}

/// The same model under OpenAI's names, from Hugging Face's: q, k and v joined to in_proj, projections transposed,
/// `position_ids` left out. Tensors with other names are kept as they are. Values and types do not change.
inline TensorMap from_huggingface(const TensorMap& in) {
    TensorMap out;
    out.metadata = in.metadata, out.source = in.source;
    std::map<std::string, std::array<const HostTensor*, 3>> attention;
    for (const auto& [name, tensor] : in.tensors) {
        if (detail::ends_with(name, "position_ids")) continue;
        const std::optional<detail::Place> place = detail::openai_place(name);
        if (place && place->third >= 0)
            attention[place->name][static_cast<std::size_t>(place->third)] = &tensor;
        else if (place && place->transposed)
            out.tensors[place->name] = detail::transposed_matrix(tensor, name, in.source);
        else
            out.tensors[place ? place->name : name] = tensor;
    }
    for (const auto& [name, parts] : attention) out.tensors[name] = detail::stack_thirds(parts, name, in.source);
    return out;
}

/// The same model under Hugging Face's names. Throws Error for tensors that have no place there (a ResNet, for
/// example).
inline TensorMap to_huggingface(const TensorMap& in) {
    TensorMap out;
    out.metadata = in.metadata, out.source = in.source;
    for (const auto& [name, tensor] : in.tensors) {
        const std::optional<detail::Place> place = detail::huggingface_place(name);
        require(place.has_value(), in.source, ": tensor '", name,
                "' would be lost: Hugging Face's CLIP has no place for it");
        if (place->third < 0) {
            out.tensors[place->name] = place->transposed ? detail::transposed_matrix(tensor, name, in.source) : tensor;
            continue;
        }
        require(!tensor.shape.empty() && tensor.shape[0] % 3 == 0, in.source, ": tensor '", name, "' has shape ",
                to_string(tensor.shape), ", expected q, k and v below each other");
        for (std::size_t third = 0; third < 3; ++third) {
            HostTensor part = tensor;
            part.shape[0] /= 3;
            part.bytes += third * part.size_bytes();
            std::string to = place->name;
            to.replace(to.find("{}"), 2, 1, "qkv"[third]);
            out.tensors[to] = part;
        }
    }
    return out;
}

/// The same model under OpenAI's names, from open_clip's: the prefix "text." is dropped, and so are stored attention
/// masks.
inline TensorMap from_open_clip(const TensorMap& in) {
    TensorMap out;
    out.metadata = in.metadata, out.source = in.source;
    for (const auto& [name, tensor] : in.tensors) {
        if (detail::ends_with(name, "attn_mask")) continue;
        const std::string plain = detail::starts_with(name, "text.") ? name.substr(5) : name;
        require(out.tensors.emplace(plain, tensor).second, in.source, ": tensor '", plain,
                "' occurs with and without the prefix 'text.'");
    }
    return out;
}

}  // namespace promptkd
