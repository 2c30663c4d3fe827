// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>
#include <promptkd/op/elementwise.hpp>

#include <cmath>
#include <string>

namespace promptkd {

/// Sizes of a vision transformer, all read from its weights.
struct VisionConfig {
    Index width = 0, layers = 0, heads = 0, patch = 0, grid = 0, embed = 0;
    Index resolution() const { return grid * patch; }
    Index cells() const { return grid * grid; }
};

/// Sizes of a text transformer.
struct TextConfig {
    Index width = 0, layers = 0, heads = 0, vocabulary = 0, context_length = 0, embed = 0;
    Index end_id = -1;  ///< features are taken at the first token with this id; −1: at the largest id
};

namespace detail {

inline Index count_blocks(const TensorMap& map, const std::string& prefix) {
    Index n = 0;
    while (map.contains(prefix + "resblocks." + std::to_string(n) + ".attn.in_proj_weight")) ++n;
    require(n > 0, map.source, ": no transformer blocks found under '", prefix, "resblocks.'");
    return n;
}

inline Index extent(const TensorMap& map, const std::string& name, std::size_t rank, std::size_t axis) {
    const HostTensor& tensor = map.at(name);
    require(tensor.shape.size() == rank, map.source, ": tensor '", name, "' has shape ", to_string(tensor.shape),
            ", expected ", rank, " dimensions");
    require(tensor.shape[axis] > 0, map.source, ": tensor '", name, "' is empty: ", to_string(tensor.shape));
    return tensor.shape[axis];
}

/// An integer from the metadata, or `fallback` where the file does not carry it.
inline Index metadata_integer(const TensorMap& map, const std::string& key, Index fallback) {
    const auto it = map.metadata.find(key);
    if (it == map.metadata.end()) return fallback;
    try {
        std::size_t used = 0;
        const long long value = std::stoll(it->second, &used);
        if (used == it->second.size() && value > 0) return value;
    } catch (const std::exception&) {
    }
    fail(map.source, ": metadata '", key, "' is '", it->second, "', expected a positive integer");
}

inline Index checked_heads(const TensorMap& map, const char* branch, Index width, Index heads) {
    require(heads > 0 && width % heads == 0, map.source, ": the ", branch, " width ", width, " cannot be divided into ",
            heads, " attention heads; give the number of heads in the metadata key '", branch, "_heads'");
    return heads;
}

}  // namespace detail

/// Sizes of the vision transformer in `map` (OpenAI's key names). Heads: metadata `vision_heads`, else width / 64.
/// Throws Error when tensors are missing or do not fit together.
inline VisionConfig vision_config(const TensorMap& map) {
    VisionConfig c;
    c.width = detail::extent(map, "visual.conv1.weight", 4, 0);
    c.patch = detail::extent(map, "visual.conv1.weight", 4, 3);
    const Index tokens = detail::extent(map, "visual.positional_embedding", 2, 0);
    c.grid = static_cast<Index>(std::lround(std::sqrt(static_cast<double>(tokens - 1))));
    require(c.grid > 0 && c.grid * c.grid + 1 == tokens, map.source, ": 'visual.positional_embedding' has ", tokens,
            " rows, expected a square number plus 1");
    c.layers = detail::count_blocks(map, "visual.transformer.");
    c.embed = detail::extent(map, "visual.proj", 2, 1);
    c.heads = detail::checked_heads(map, "vision", c.width,
                                    detail::metadata_integer(map, "vision_heads", std::max<Index>(1, c.width / 64)));
    return c;
}

/// Sizes of the text transformer in `map`. Heads: metadata `text_heads`, else width / 64. EOT rule: metadata `eot`, a
/// token id or "argmax" (the default).
inline TextConfig text_config(const TensorMap& map) {
    TextConfig c;
    c.vocabulary = detail::extent(map, "token_embedding.weight", 2, 0);
    c.width = detail::extent(map, "token_embedding.weight", 2, 1);
    c.context_length = detail::extent(map, "positional_embedding", 2, 0);
    c.layers = detail::count_blocks(map, "transformer.");
    c.embed = detail::extent(map, "text_projection", 2, 1);
    c.heads = detail::checked_heads(map, "text", c.width,
                                    detail::metadata_integer(map, "text_heads", std::max<Index>(1, c.width / 64)));
    const auto eot = map.metadata.find("eot");
    if (eot != map.metadata.end() && eot->second != "argmax") c.end_id = detail::metadata_integer(map, "eot", -1);
    require(c.end_id < c.vocabulary, map.source, ": metadata 'eot' is token ", c.end_id, " of a vocabulary of ",
            c.vocabulary);
    return c;
}

/// The MLP's activation: metadata `gelu` = "quick" or "exact"; OpenAI's files, which carry none, mean quick.
inline Gelu gelu_of(const TensorMap& map) {
    const auto it = map.metadata.find("gelu");
    if (it == map.metadata.end() || it->second == "quick") return Gelu::quick;
    require(it->second == "exact", map.source, ": metadata 'gelu' is '", it->second, "', expected 'quick' or 'exact'");
    return Gelu::exact;
}

}  // namespace promptkd
