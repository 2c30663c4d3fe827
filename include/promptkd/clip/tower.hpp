// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>
#include <promptkd/op/elementwise.hpp>
#include <promptkd/op/norm.hpp>

#include <cstdlib>
#include <string>

namespace promptkd {

/// What the blocks of a tower are beyond their sizes, as far as their tensors do not tell. The defaults are CLIP's.
struct BlockDesign {
    Gelu gelu = Gelu::quick;              ///< activation of the MLPs, unless they have a gate
    double epsilon = layer_norm_epsilon;  ///< ε of all LayerNorms of the tower
    NormPlace norms = NormPlace::before;  ///< of the residual branches
};

/// Where the features of an image are taken.
enum class Pooling {
    class_token,  ///< the first token
    mean,         ///< the mean of the patches
    attention     ///< attention of a learned query over all tokens
};

/// Which coordinate of a cell the first half of a rotation's angles has.
enum class RotationOrder { none, columns_first, rows_first };

/// Rotary positions of an image's cells: none, or the angles coordinate·10000^(−j/n) of both coordinates.
struct RotationDesign {
    RotationOrder order = RotationOrder::none;  ///< none: no rotation
    Index offset = 0;                           ///< added to both coordinates
    Index grid = 0;  ///< not 0: coordinates are scaled from the tower's grid to one of so many cells a side
};

/// Where the features of a text are taken.
enum class TextPooling {
    end,         ///< the end token
    last,        ///< the last position
    first,       ///< the first
    class_token  ///< a class token behind the text (CoCa)
};

/// The description of a tower as a model carries it: entries of its TensorMap's metadata. An entry that is absent means
/// CLIP's choice.
///
/// | entry                                | values                                                                   |
/// |--------------------------------------|--------------------------------------------------------------------------|
/// | vision_heads, text_heads             | attention heads                                                          |
/// | gelu                                 | quick, exact or tanh: activation of both towers                          |
/// | vision_gelu                          | of the image tower, where it differs                                     |
/// | vision_epsilon, text_epsilon         | ε of the LayerNorms                                                      |
/// | vision_norms                         | after: the norms of the blocks stand behind their branches               |
/// | vision_without                       | what the tower lacks: patch_embedding (a convolutional stem is there     |
/// |                                      | instead), class_token, first_norm, last_norm, projection                 |
/// | vision_image_size                    | pixels a side, where that is not grid·patch                              |
/// | vision_positions                     | cells: the class token has no position                                   |
/// | vision_pool                          | mean or attention                                                        |
/// | vision_pool_heads                    | attention heads of the pooling                                           |
/// | vision_pool_norm                     | before: the last norm stands in front of the pooling                     |
/// | vision_rotation                      | columns or rows: the coordinate that comes first                         |
/// | vision_rotation_offset, …_grid       | see RotationDesign                                                       |
/// | text_mask                            | none: every token sees every token                                       |
/// | text_without                         | what the tower lacks: projection                                         |
/// | eot                                  | argmax, a token id, last or first: where the text features are taken     |
inline constexpr const char* tower_entries[] = {
    "vision_gelu",       "vision_epsilon",   "text_epsilon", "vision_norms",           "vision_without",
    "vision_image_size", "vision_positions", "vision_pool",  "vision_pool_heads",      "vision_pool_norm",
    "vision_rotation",   "text_mask",        "text_without", "vision_rotation_offset", "vision_rotation_grid"};

namespace detail {

/// A metadata entry; empty where the model does not carry it.
inline std::string metadata_text(const TensorMap& map, const std::string& key) {
    const auto it = map.metadata.find(key);
    return it == map.metadata.end() ? std::string() : it->second;
}

/// Which of `values` the entry is, 0 where it is absent. Throws Error for another one.
template <std::size_t N>
std::size_t metadata_choice(const TensorMap& map, const std::string& key, const char* const (&values)[N]) {
    const std::string text = metadata_text(map, key);
    if (text.empty()) return 0;
    std::string expected;
    for (std::size_t i = 0; i < N; ++i) {
        if (text == values[i]) return i;
        if (*values[i] != '\0') expected += (expected.empty() ? "'" : " or '") + std::string(values[i]) + "'";
    }
    fail(map.source, ": metadata '", key, "' is '", text, "', expected ", expected);
}

/// An integer of at least `least` from the metadata, or `fallback` where the file does not carry it.
inline Index metadata_integer(const TensorMap& map, const std::string& key, Index fallback, Index least = 1) {
    const auto it = map.metadata.find(key);
    if (it == map.metadata.end()) return fallback;
    try {
        std::size_t used = 0;
        const long long value = std::stoll(it->second, &used);
        if (used == it->second.size() && value >= least) return value;
    } catch (const std::exception&) {
    }
    fail(map.source, ": metadata '", key, "' is '", it->second, "', expected ",
         least > 0 ? "a positive integer" : "an integer from 0 on");
}

}  // namespace detail

/// The activation that a metadata entry names: "quick", "exact" or "tanh".
inline Gelu gelu_in(const TensorMap& map, const std::string& key) {
    constexpr const char* names[] = {"quick", "exact", "tanh"};
    return static_cast<Gelu>(detail::metadata_choice(map, key, names));
}

/// "quick", "exact", "tanh".
inline const char* name_of(Gelu gelu) {
    constexpr const char* names[] = {"quick", "exact", "tanh"};
    return names[static_cast<int>(gelu)];
}

/// What describes the blocks of a branch, "vision" or "text".
inline BlockDesign block_design(const TensorMap& map, const std::string& branch) {
    BlockDesign design;
    design.gelu = gelu_in(map, map.metadata.count(branch + "_gelu") != 0 ? branch + "_gelu" : "gelu");
    const std::string epsilon = detail::metadata_text(map, branch + "_epsilon");
    if (!epsilon.empty()) {
        char* end = nullptr;
        design.epsilon = std::strtod(epsilon.c_str(), &end);
        require(*end == '\0' && design.epsilon > 0 && design.epsilon < 1, map.source, ": metadata '", branch,
                "_epsilon' is '", epsilon, "', expected a small number above 0");
    }
    constexpr const char* places[] = {"", "after"};
    if (detail::metadata_choice(map, branch + "_norms", places) == 1) design.norms = NormPlace::after;
    return design;
}

}  // namespace promptkd
