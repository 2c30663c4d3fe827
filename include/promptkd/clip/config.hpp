// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/schema/sizes.hpp>
#include <promptkd/op/elementwise.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace promptkd {

/// Sizes of a vision transformer, all read from its weights.
struct VisionConfig {
    /// d, blocks, heads, pixels of a patch and patches a side, e
    Index width = 0, layers = 0, heads = 0, patch = 0, grid = 0, embed = 0;
    /// Height and width of the images.
    Index resolution() const { return grid * patch; }
    /// Patches of an image.
    Index cells() const { return grid * grid; }
};

/// Sizes of a text transformer.
struct TextConfig {
    /// d, blocks, heads, tokens known, tokens of a text, e
    Index width = 0, layers = 0, heads = 0, vocabulary = 0, context_length = 0, embed = 0;
    Index end_id = -1;  ///< features are taken at the first token with this id; −1: at the largest id
};

/// Sizes of CLIP's ModifiedResNet.
struct ResNetConfig {
    Index width = 0;                       ///< channels after the stem
    std::vector<Index> layers;             ///< bottlenecks of the four stages
    Index grid = 0, heads = 0, embed = 0;  ///< cells of the last feature map a side, heads of its pooling, e
    /// Height and width of the images.
    Index resolution() const { return 32 * grid; }
    /// Channels of the last feature map.
    Index features() const { return 32 * width; }
};

namespace detail {

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

/// Attention heads of one branch: metadata `{branch}_heads`, else width / 64.
inline Index heads_of(const TensorMap& map, const char* branch, Index width) {
    const std::string key = std::string(branch) + "_heads";
    const Index heads = metadata_integer(map, key, std::max<Index>(1, width / 64));
    require(heads > 0 && width % heads == 0, map.source, ": the ", branch, " width ", width, " cannot be divided into ",
            heads, " attention heads; give the number of heads in the metadata key '", key, "'");
    return heads;
}

/// Side of the square of cells whose positions, behind that of a class token, are embedded.
inline Index grid_of(const TensorMap& map, const schema::Architecture& architecture, Index positions) {
    const Index grid = static_cast<Index>(std::lround(std::sqrt(static_cast<double>(positions - 1))));
    require(grid > 0 && grid * grid + 1 == positions, map.source, ": '",
            schema::name_of(*schema::find(architecture, schema::Role::positions), schema::file_layout(map)), "' has ",
            positions, " rows, expected a square number plus 1");
    return grid;
}

inline Index require_blocks(const TensorMap& map, const schema::Architecture& architecture) {
    const Index blocks = schema::count_blocks(map, architecture);
    if (blocks > 0) return blocks;
    const auto first = schema::find(architecture, schema::Role::norm_1, schema::Part::weight, schema::Numbers{});
    fail(map.source, ": no transformer blocks found under '", schema::block_prefix(*first, schema::file_layout(map)),
         "'");
}

}  // namespace detail

/// Sizes of the vision transformer in `map` (OpenAI's key names). Heads: metadata `vision_heads`, else width / 64.
/// Throws Error when tensors are missing or do not fit together.
inline VisionConfig vision_config(const TensorMap& map) {
    const schema::Architecture& vit = schema::vision_transformer;
    const schema::Sizes sizes = schema::measure(map, vit);
    VisionConfig c;
    c.width = sizes[schema::Size::width];
    c.patch = sizes[schema::Size::patch];
    c.grid = detail::grid_of(map, vit, sizes[schema::Size::positions]);
    c.layers = detail::require_blocks(map, vit);
    c.embed = sizes[schema::Size::embed];
    c.heads = detail::heads_of(map, "vision", c.width);
    return c;
}

/// Sizes of the text transformer in `map`. Heads: metadata `text_heads`, else width / 64. EOT rule: metadata `eot`, a
/// token id or "argmax" (the default).
inline TextConfig text_config(const TensorMap& map) {
    const schema::Sizes sizes = schema::measure(map, schema::text_transformer);
    TextConfig c;
    c.vocabulary = sizes[schema::Size::vocabulary];
    c.width = sizes[schema::Size::width];
    c.context_length = sizes[schema::Size::context_length];
    c.layers = detail::require_blocks(map, schema::text_transformer);
    c.embed = sizes[schema::Size::embed];
    c.heads = detail::heads_of(map, "text", c.width);
    const auto eot = map.metadata.find("eot");
    if (eot != map.metadata.end() && eot->second != "argmax") c.end_id = detail::metadata_integer(map, "eot", -1);
    require(c.end_id < c.vocabulary, map.source, ": metadata 'eot' is token ", c.end_id, " of a vocabulary of ",
            c.vocabulary);
    return c;
}

/// Sizes of the ModifiedResNet in `map`. Throws Error when tensors are missing or do not fit together.
inline ResNetConfig resnet_config(const TensorMap& map) {
    const schema::Architecture& resnet = schema::modified_resnet;
    const schema::Sizes sizes = schema::measure(map, resnet);
    ResNetConfig c;
    c.width = sizes[schema::Size::width];
    for (Index stage = 1; stage <= 4; ++stage) {
        c.layers.push_back(schema::count_blocks(map, resnet, stage));
        const auto first =
            schema::find(resnet, schema::Role::convolution_1, schema::Part::weight, schema::Numbers{stage, 0});
        require(c.layers.back() > 0, map.source, ": tensor '", schema::name_of(*first, schema::file_layout(map)),
                "' is missing");
    }
    c.grid = detail::grid_of(map, resnet, sizes[schema::Size::positions]);
    c.embed = sizes[schema::Size::embed];
    c.heads = detail::heads_of(map, "vision", c.features());
    return c;
}

/// The sizes of the schema's shapes, from a configuration.
inline schema::Sizes sizes_of(const VisionConfig& c) {
    schema::Sizes sizes;
    sizes.set(schema::Size::width, c.width).set(schema::Size::patch, c.patch).set(schema::Size::embed, c.embed);
    return sizes.set(schema::Size::positions, c.cells() + 1);
}
/// The same of a text transformer.
inline schema::Sizes sizes_of(const TextConfig& c) {
    schema::Sizes sizes;
    sizes.set(schema::Size::width, c.width).set(schema::Size::embed, c.embed);
    return sizes.set(schema::Size::vocabulary, c.vocabulary).set(schema::Size::context_length, c.context_length);
}
/// The same of a ModifiedResNet.
inline schema::Sizes sizes_of(const ResNetConfig& c) {
    schema::Sizes sizes;
    sizes.set(schema::Size::width, c.width).set(schema::Size::embed, c.embed);
    return sizes.set(schema::Size::positions, c.grid * c.grid + 1);
}

/// The MLP's activation: metadata `gelu` = "quick" or "exact"; OpenAI's files, which carry none, mean quick.
inline Gelu gelu_of(const TensorMap& map) {
    const auto it = map.metadata.find("gelu");
    if (it == map.metadata.end() || it->second == "quick") return Gelu::quick;
    require(it->second == "exact", map.source, ": metadata 'gelu' is '", it->second, "', expected 'quick' or 'exact'");
    return Gelu::exact;
}

}  // namespace promptkd
