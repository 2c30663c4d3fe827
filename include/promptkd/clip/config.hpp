// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/schema/sizes.hpp>
#include <promptkd/clip/tower.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace promptkd {

/// What a vision transformer is: its sizes, all read from its weights, and its description. The defaults are CLIP's.
struct VisionConfig {
    /// d, blocks, heads, pixels of a patch and patches a side, e
    Index width = 0, layers = 0, heads = 0, patch = 0, grid = 0, embed = 0;
    Index image_size = 0;                    ///< pixels a side; what no whole patch covers is not read
    BlockDesign blocks;                      ///< of the blocks
    bool stem = false;                       ///< convolutions in place of the patch embedding
    bool class_token = true;                 ///< in front of the patches
    bool class_position = true;              ///< whether the class token has a position
    bool first_norm = true;                  ///< in front of the blocks
    bool last_norm = true;                   ///< behind them
    bool projection = true;                  ///< to e; without one e is d
    Pooling pooling = Pooling::class_token;  ///< where features are taken
    Index pool_heads = 0;                    ///< of Pooling::attention
    Index pooled_width = 0;  ///< values that the pooling makes; d unless CoCa's pooling has a width of its own
    NormPlace pool_norm = NormPlace::after;  ///< whether the last norm stands behind the pooling
    RotationDesign rotation;                 ///< of queries and keys

    /// Height and width of the images.
    Index resolution() const { return image_size; }
    /// Patches of an image.
    Index cells() const { return grid * grid; }
    /// Tokens in front of the patches.
    Index class_tokens() const { return class_token ? 1 : 0; }
    /// Tokens that have a position.
    Index positions() const { return cells() + (class_token && class_position ? 1 : 0); }
    /// Whether the features are those of one token of the last block.
    bool reads_one_token() const { return pooling == Pooling::class_token; }
};

/// What a text transformer is: its sizes and its description. The defaults are CLIP's.
struct TextConfig {
    /// d, blocks, heads, tokens known, tokens of a text, e
    Index width = 0, layers = 0, heads = 0, vocabulary = 0, context_length = 0, embed = 0;
    Index end_id = -1;   ///< of TextPooling::end: at the first token with this id; −1: at the largest id
    BlockDesign blocks;  ///< of the blocks
    bool causal = true;  ///< a token sees those before it alone; false: every token sees every token
    TextPooling pooling = TextPooling::end;  ///< where features are taken
    bool projection = true;                  ///< to e; without one e is d

    /// Tokens of the sequence: the text and a class token behind it.
    Index tokens() const { return context_length + (pooling == TextPooling::class_token ? 1 : 0); }
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

/// Attention heads of one branch: metadata `{branch}_heads`, else width / 64.
inline Index heads_of(const TensorMap& map, const char* branch, Index width) {
    const std::string key = std::string(branch) + "_heads";
    const Index heads = metadata_integer(map, key, std::max<Index>(1, width / 64));
    require(heads > 0 && width % heads == 0, map.source, ": the ", branch, " width ", width, " cannot be divided into ",
            heads, " attention heads; give the number of heads in the metadata key '", key, "'");
    return heads;
}

/// Side of the square of cells whose positions, behind those of `others` tokens, are embedded.
inline Index grid_of(const TensorMap& map, const schema::Architecture& architecture, Index positions,
                     Index others = 1) {
    const Index cells = positions - others;
    const Index grid = static_cast<Index>(std::lround(std::sqrt(static_cast<double>(std::max<Index>(0, cells)))));
    require(grid > 0 && grid * grid == cells, map.source, ": '",
            schema::name_of(*schema::find(architecture, schema::Role::positions), schema::file_layout(map)), "' has ",
            positions, " rows, expected a square number", others > 0 ? " plus 1" : "");
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

namespace detail {

/// Whether the description says that the tower lacks a role.
inline bool lacks(const TensorMap& map, schema::Role role,
                  const schema::Architecture& tower = schema::vision_transformer) {
    return schema::is_described_absent(map, *schema::find(tower, role));
}

/// What the metadata say of a vision transformer beyond its sizes.
inline void read_design(const TensorMap& map, VisionConfig& c) {
    using schema::Role;
    c.blocks = block_design(map, "vision");
    c.stem = lacks(map, Role::patch_embedding);
    c.class_token = !lacks(map, Role::class_token);
    c.first_norm = !lacks(map, Role::first_norm);
    c.last_norm = !lacks(map, Role::last_norm);
    c.projection = !lacks(map, Role::projection);
    constexpr const char* positions[] = {"", "cells"};
    c.class_position = metadata_choice(map, "vision_positions", positions) == 0;
    constexpr const char* pools[] = {"", "mean", "attention"};
    c.pooling = static_cast<Pooling>(metadata_choice(map, "vision_pool", pools));
    require(c.class_token || c.pooling != Pooling::class_token, map.source,
            ": the image tower has no class token, and nothing says where its features are taken");
    constexpr const char* norms[] = {"", "before"};
    if (metadata_choice(map, "vision_pool_norm", norms) == 1) c.pool_norm = NormPlace::before;
    constexpr const char* orders[] = {"", "columns", "rows"};
    c.rotation.order = static_cast<RotationOrder>(metadata_choice(map, "vision_rotation", orders));
    c.rotation.offset = metadata_integer(map, "vision_rotation_offset", 0, 0);
    c.rotation.grid = metadata_integer(map, "vision_rotation_grid", 0);
}

/// Pixels of a patch: of the embedding, or what the stem's convolutions take together.
inline Index patch_of(const TensorMap& map, const VisionConfig& c, const schema::Sizes& sizes) {
    if (!c.stem) return sizes[schema::Size::patch];
    Index patch = 1;
    for (const schema::Role role :
         {schema::Role::convolution_1, schema::Role::convolution_2, schema::Role::convolution_3})
        patch *= schema::shape_of(map, *schema::find(schema::vision_transformer, role))[3];
    return patch;
}

/// Pixels a side, where they fit the grid.
inline Index image_size_of(const TensorMap& map, const VisionConfig& c) {
    const Index size = metadata_integer(map, "vision_image_size", c.grid * c.patch);
    require(size / c.patch == c.grid, map.source, ": image_size ", size, " and patches of ", c.patch, " make ",
            size / c.patch, " cells a side, but the positions are those of ", c.grid);
    return size;
}

/// Values that the pooling makes: those of a learned query where there are several (CoCa), else d.
inline Index pooled_width_of(const TensorMap& map, const VisionConfig& c) {
    const auto queries = schema::find(schema::vision_transformer, schema::Role::pool_queries);
    if (c.pooling != Pooling::attention || !map.contains(schema::name_of(*queries))) return c.width;
    return schema::shape_of(map, *queries)[1];
}

/// Throws Error where the weights hold a pooling by attention that the description does not use: another model's.
inline void check_pooling(const TensorMap& map, const VisionConfig& c) {
    for (const schema::Role role : {schema::Role::pool_probe, schema::Role::pool_queries}) {
        const schema::Weight w = *schema::find(schema::vision_transformer, role);
        require(c.pooling == Pooling::attention || !map.contains(schema::name_of(w)), map.source, ": holds '",
                schema::name_of(w, schema::file_layout(map)),
                "', a pooling by attention, but nothing says that features are taken there; give the configuration "
                "that belongs to these weights");
    }
}

/// Throws Error for heads that a rotation or a pooling cannot have.
inline void check_heads(const TensorMap& map, const VisionConfig& c) {
    const Index head = c.width / c.heads;
    require(c.rotation.order == RotationOrder::none || head % 4 == 0, map.source, ": rotary positions turn heads of ",
            head, " components (width ", c.width, ", ", c.heads, " heads), expected a multiple of 4");
    require(c.pooling != Pooling::attention || c.pooled_width % c.pool_heads == 0, map.source,
            ": the attention pooling of width ", c.pooled_width, " cannot be divided into ", c.pool_heads, " heads");
}

}  // namespace detail

/// The vision transformer in `map` (OpenAI's key names): sizes from its tensors, the rest from its description, see
/// tower_entries. Heads: metadata `vision_heads`, else width / 64. Throws Error when tensors are missing or do not fit
/// together.
inline VisionConfig vision_config(const TensorMap& map) {
    const schema::Architecture& vit = schema::vision_transformer;
    const schema::Sizes sizes = schema::measure(map, vit);
    VisionConfig c;
    detail::read_design(map, c);
    c.width = sizes[schema::Size::width];
    c.patch = detail::patch_of(map, c, sizes);
    c.grid = detail::grid_of(map, vit, sizes[schema::Size::positions], c.class_token && c.class_position ? 1 : 0);
    c.image_size = detail::image_size_of(map, c);
    c.layers = detail::require_blocks(map, vit);
    c.embed = c.projection ? sizes[schema::Size::embed] : c.width;
    c.heads = detail::heads_of(map, "vision", c.width);
    c.pool_heads = detail::metadata_integer(map, "vision_pool_heads", c.heads);
    detail::check_pooling(map, c);
    c.pooled_width = detail::pooled_width_of(map, c);
    if (!c.projection) c.embed = c.pooled_width;
    detail::check_heads(map, c);
    return c;
}

/// The text transformer in `map`. Heads: metadata `text_heads`, else width / 64. Where features are taken: metadata
/// `eot`, a token id, "last", "first" or "argmax" (the default), or at the class token where there is one.
inline TextConfig text_config(const TensorMap& map) {
    const schema::Sizes sizes = schema::measure(map, schema::text_transformer);
    TextConfig c;
    c.vocabulary = sizes[schema::Size::vocabulary];
    c.width = sizes[schema::Size::width];
    c.context_length = sizes[schema::Size::context_length];
    c.layers = detail::require_blocks(map, schema::text_transformer);
    c.projection = !detail::lacks(map, schema::Role::projection, schema::text_transformer);
    c.embed = c.projection ? sizes[schema::Size::embed] : c.width;
    c.heads = detail::heads_of(map, "text", c.width);
    c.blocks = block_design(map, "text");
    constexpr const char* masks[] = {"", "none"};
    c.causal = detail::metadata_choice(map, "text_mask", masks) == 0;
    const std::string eot = detail::metadata_text(map, "eot");
    if (map.contains(schema::name_of(schema::text_transformer, schema::Role::class_token))) {
        c.pooling = TextPooling::class_token;
        c.context_length -= 1;
    } else if (eot == "last" || eot == "first") {
        c.pooling = eot == "last" ? TextPooling::last : TextPooling::first;
    } else if (!eot.empty() && eot != "argmax") {
        c.end_id = detail::metadata_integer(map, "eot", -1);
    }
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

namespace detail {

/// Whether a branch of `map` is of CLIP's own kind: no entry describes it, and it holds none of the tensors that CLIP
/// does without.
inline bool is_plain(const TensorMap& map, const schema::Architecture& architecture, const std::string& branch) {
    for (const std::string entry : tower_entries)
        if (entry.rfind(branch, 0) == 0 && map.metadata.count(entry) != 0) return false;
    return std::none_of(map.tensors.begin(), map.tensors.end(), [&](const auto& named) {
        const auto w = schema::parse(architecture, named.first);
        return w && w->row->presence == schema::Presence::optional;
    });
}

}  // namespace detail

/// Whether the image branch is of CLIP's own kind: a reader that knows sizes, heads and activation knows it. A ResNet
/// is.
inline bool has_plain_image_tower(const TensorMap& map) {
    return !schema::has_vision_transformer(map) || detail::is_plain(map, schema::vision_transformer, "vision_");
}
/// Whether the model is of CLIP's own kind, the EOT rule with a token id included.
inline bool is_plain_clip(const TensorMap& map) {
    return has_plain_image_tower(map) && detail::is_plain(map, schema::text_transformer, "text_") &&
           detail::metadata_text(map, "eot") != "last" && detail::metadata_text(map, "eot") != "first";
}

/// Height and width of the images that the image branch of `map` takes.
inline Index image_resolution(const TensorMap& map) {
    return schema::has_vision_transformer(map) ? vision_config(map).resolution() : resnet_config(map).resolution();
}

namespace detail {

/// A single number beside the two branches.
inline double model_number(const TensorMap& map, schema::Role role) {
    schema::Sizes sizes;
    const schema::Weight w = *schema::find(schema::model, role);
    const double number = schema::checked(map, w, sizes).to<double>().at(0);
    require(std::isfinite(number), map.source, ": '", schema::name_of(w), "' is not a finite number");
    return number;
}

}  // namespace detail

/// exp(s), the factor of the cosine in every logit of the model in `map`. Throws Error when s is missing, not finite,
/// or such that no model has it.
inline double logit_scale_of(const TensorMap& map) {
    const double scale = detail::model_number(map, schema::Role::logit_scale), factor = std::exp(scale);
    require(factor > 1e-6 && factor < 1e6, map.source, ": 'logit_scale' holds ", scale,
            ", the logarithm of the factor of all logits: a model's is about 4.6 (a factor of 100)");
    return factor;
}

/// The sizes of the schema's shapes, from a configuration.
inline schema::Sizes sizes_of(const VisionConfig& c) {
    schema::Sizes sizes;
    sizes.set(schema::Size::width, c.width).set(schema::Size::patch, c.patch).set(schema::Size::embed, c.embed);
    return sizes.set(schema::Size::positions, c.positions());
}
/// The same of a text transformer.
inline schema::Sizes sizes_of(const TextConfig& c) {
    schema::Sizes sizes;
    sizes.set(schema::Size::width, c.width).set(schema::Size::embed, c.embed);
    return sizes.set(schema::Size::vocabulary, c.vocabulary).set(schema::Size::context_length, c.tokens());
}
/// The same of a ModifiedResNet.
inline schema::Sizes sizes_of(const ResNetConfig& c) {
    schema::Sizes sizes;
    sizes.set(schema::Size::width, c.width).set(schema::Size::embed, c.embed);
    return sizes.set(schema::Size::positions, c.grid * c.grid + 1);
}

/// The activation of the model's MLPs (of the text's, where the image tower has another): metadata `gelu`; OpenAI's
/// files, which carry none, mean quick.
inline Gelu gelu_of(const TensorMap& map) { return gelu_in(map, "gelu"); }

}  // namespace promptkd
