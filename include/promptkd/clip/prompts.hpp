// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/nn/initialize.hpp>
#include <promptkd/nn/prompts.hpp>

namespace promptkd {

namespace detail {

inline std::string deep_name(const std::string& encoder, Index block) {
    return encoder + "transformer.resblocks." + std::to_string(block) + ".VPT_shallow";
}

template <Device D>
PromptLayers<typename D::Scalar> register_prompts(ParamSet<D>& params, const std::string& shallow,
                                                  const std::string& encoder, Index tokens, Index depth, Index width) {
    PromptLayers<typename D::Scalar> prompts;
    if (tokens <= 0 || depth <= 0) return prompts;
    prompts.tokens = tokens;
    prompts.layers.push_back(&params.add(shallow, {tokens, width}));
    for (Index i = 1; i < depth; ++i) prompts.layers.push_back(&params.add(deep_name(encoder, i), {tokens, width}));
    return prompts;
}

}  // namespace detail

/// Names of the published checkpoints.
inline constexpr const char* visual_prompt_name = "image_encoder.VPT";
inline constexpr const char* context_name = "prompt_learner.ctx";
inline constexpr const char* image_encoder_prefix = "image_encoder.";
inline constexpr const char* text_encoder_prefix = "text_encoder.";

/// Learnable visual prompts (VPT): `tokens` vectors of `width` at the end of the sequence, of their own in each of the
/// first `depth` blocks. Parameters `image_encoder.VPT` and `image_encoder.transformer.resblocks.{i}.VPT_shallow`.
template <Device D>
PromptLayers<typename D::Scalar> add_visual_prompts(ParamSet<D>& params, Index tokens, Index depth, Index width) {
    return detail::register_prompts(params, visual_prompt_name, image_encoder_prefix, tokens, depth, width);
}

/// Learnable text prompts (IVLP, PromptSRC): the context after SOT, and positions 1…tokens of the blocks below `depth`.
/// Parameters `prompt_learner.ctx` and `text_encoder.transformer.resblocks.{i}.VPT_shallow`.
template <Device D>
PromptLayers<typename D::Scalar> add_text_prompts(ParamSet<D>& params, Index tokens, Index depth, Index width) {
    return detail::register_prompts(params, context_name, text_encoder_prefix, tokens, depth, width);
}

/// Number of vectors and depth of the prompts that a file holds for one branch; {0, 0} where it holds none.
struct PromptDesign {
    Index tokens = 0, depth = 0;
};

inline PromptDesign prompt_design(const TensorMap& map, const std::string& shallow, const std::string& encoder) {
    if (!map.contains(shallow)) return {};
    const Shape& shape = map.at(shallow).shape;
    require(shape.size() == 2, map.source, ": '", shallow, "' has shape ", to_string(shape),
            ", expected (vectors, width)");
    PromptDesign design{shape[0], 1};
    while (map.contains(detail::deep_name(encoder, design.depth))) ++design.depth;
    return design;
}

inline PromptDesign visual_prompt_design(const TensorMap& map) {
    return prompt_design(map, visual_prompt_name, image_encoder_prefix);
}
inline PromptDesign text_prompt_design(const TensorMap& map) {
    return prompt_design(map, context_name, text_encoder_prefix);
}

/// Throws Error unless prompts of `depth` fit an encoder of `layers` blocks.
inline void require_depth(const char* branch, Index depth, Index layers) {
    require(depth <= layers, branch, " prompts of depth ", depth, " do not fit an encoder of ", layers,
            " blocks; use a depth of at most ", layers);
}

}  // namespace promptkd
