// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>

/// Names of learned parameters in the published trainers' checkpoints, and here. They are no weights of CLIP: those
/// stand in schema.hpp.
namespace promptkd {

/// The first block's visual prompts, the context, and what the names of the branches' and the projector's begin with.
///@{
inline constexpr const char* visual_prompt_name = "image_encoder.VPT";
inline constexpr const char* context_name = "prompt_learner.ctx";
inline constexpr const char* image_encoder_prefix = "image_encoder.";
inline constexpr const char* text_encoder_prefix = "text_encoder.";
inline constexpr const char* prompt_learner_prefix = "prompt_learner.";
inline constexpr const char* projector_prefix = "VPT_image_trans.";
inline constexpr const char* projector_layer_prefix = "VPT_image_trans.conv1.";
///@}
/// What the names of the patches' own projector begin with in a bundle, in place of projector_prefix; without one,
/// patches go through the class token's projector.
inline constexpr const char* patch_head_prefix = "patch_head.";
/// PromptSRC's frozen image encoder, which its trainer saves with what it learned.
inline constexpr const char* frozen_twin_prefix = "prompt_learner.ZS_image_encoder.";

/// Of layer `layer` of PromptKD's projector (Linears 0, 3, 6; BatchNorms 1, 4): its `part`, weight or bias.
inline std::string projector_name(Index layer, const char* part) {
    return projector_layer_prefix + std::to_string(layer) + "." + part;
}

namespace detail {

/// Of the prompt of block `block` of an encoder, given by its prefix.
inline std::string deep_name(const std::string& encoder, Index block) {
    return encoder + "transformer.resblocks." + std::to_string(block) + ".VPT_shallow";
}

}  // namespace detail

/// Whether a parameter of a prompt learner has this name in a checkpoint that holds the learner alone, without its
/// prefix.
inline bool is_bare_learner_name(std::string_view name) {
    return name == "ctx" || name == "token_prefix" || name == "token_suffix" || name.starts_with("meta_net.");
}

/// Whether a name of a published checkpoint is that of something learned (as opposed to frozen encoders and fixed
/// tokens).
inline bool is_learned_name(std::string_view name) {
    if (name.starts_with(prompt_learner_prefix))
        return !name.starts_with("prompt_learner.token_") && !name.starts_with(frozen_twin_prefix);
    if (name.starts_with(image_encoder_prefix) || name.starts_with(text_encoder_prefix))
        return name == visual_prompt_name || name.ends_with(".VPT_shallow");
    return name.starts_with(projector_prefix);
}

/// Number of vectors and depth of the prompts that a file holds for one branch; {0, 0} where it holds none.
struct PromptDesign {
    Index tokens = 0, depth = 0;  ///< vectors of a block, prompted blocks
};

namespace detail {

/// The depth that the metadata of a prompts file gives for a branch: of the published trainers' design, or of the
/// settings that this library writes. 0 where nothing tells.
inline Index recorded_depth(const TensorMap& map, const char* key) {
    const auto design = map.metadata.find("design");
    if (design == map.metadata.end()) return 0;
    const auto json = nlohmann::json::parse(design->second, nullptr, false);
    return json.is_object() && json.contains(key) && json.at(key).is_number_integer() ? json.at(key).get<Index>() : 0;
}

/// Throws Error naming a tensor that a branch lacks: one in front of others, or up to the recorded depth.
inline void require_complete(const TensorMap& map, const std::string& shallow, const std::string& encoder,
                             Index recorded) {
    Index deepest = 0;
    const std::string first = deep_name(encoder, 0);
    const std::size_t number = first.find('0');
    for (auto it = map.tensors.lower_bound(encoder); it != map.tensors.end() && it->first.starts_with(encoder); ++it)
        if (it->first.ends_with(first.substr(number + 1)))
            deepest = std::max(deepest, static_cast<Index>(std::atoll(it->first.c_str() + number)));
    const bool any = deepest > 0 || map.contains(shallow);
    const Index depth = std::max(deepest + (any ? 1 : 0), recorded);
    require(depth == 0 || map.contains(shallow), map.source, ": incomplete prompts: tensor '", shallow, "' is missing");
    for (Index block = 1; block < depth; ++block)
        require(map.contains(deep_name(encoder, block)), map.source, ": incomplete prompts: tensor '",
                deep_name(encoder, block), "' is missing");
}

}  // namespace detail

/// Of the branch whose first prompts are called `shallow`, the deeper ones below `encoder`. Throws Error for another
/// shape, and naming the tensor where one in front of others, or of the depth that the file records, is missing.
inline PromptDesign prompt_design(const TensorMap& map, const std::string& shallow, const std::string& encoder) {
    const bool visual = shallow == visual_prompt_name;
    detail::require_complete(map, shallow, encoder,
                             detail::recorded_depth(map, visual ? "vision_depth" : "language_depth"));
    if (!map.contains(shallow)) return {};
    const Shape& shape = map.at(shallow).shape;
    require(shape.size() == 2, map.source, ": '", shallow, "' has shape ", to_string(shape),
            ", expected (vectors, width)");
    PromptDesign design{shape[0], 1};
    while (map.contains(detail::deep_name(encoder, design.depth))) ++design.depth;
    return design;
}

/// Of the image branch.
inline PromptDesign visual_prompt_design(const TensorMap& map) {
    return prompt_design(map, visual_prompt_name, image_encoder_prefix);
}
/// Of the text branch.
inline PromptDesign text_prompt_design(const TensorMap& map) {
    return prompt_design(map, context_name, text_encoder_prefix);
}

}  // namespace promptkd
