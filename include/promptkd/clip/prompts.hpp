// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/prompt_names.hpp>
#include <promptkd/nn/initialize.hpp>
#include <promptkd/nn/prompts.hpp>

namespace promptkd {

namespace detail {

template <Device D>
PromptLayers<typename D::Scalar> register_prompts(ParamSet<D>& params, const std::string& shallow,
                                                  const std::string& encoder, Index tokens, Index depth, Index width) {
    PromptLayers<typename D::Scalar> prompts;
    if (tokens <= 0 || depth <= 0) return prompts;
    constexpr Index most = 10000;  // attention over so many positions is hopeless already
    require(tokens <= most, tokens, " prompt vectors in a block: at most ", most, " are possible");
    prompts.tokens = tokens;
    prompts.layers.push_back(&params.add(shallow, {tokens, width}));
    for (Index i = 1; i < depth; ++i) prompts.layers.push_back(&params.add(deep_name(encoder, i), {tokens, width}));
    return prompts;
}

}  // namespace detail

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

/// Throws Error unless prompts of `depth` fit an encoder of `layers` blocks (0: a ModifiedResNet).
inline void require_depth(const char* branch, Index depth, Index layers) {
    require(layers > 0, branch, " prompts need transformer blocks, which a ModifiedResNet has not");
    require(depth <= layers, branch, " prompts of depth ", depth, " do not fit an encoder of ", layers,
            " blocks; use a depth of at most ", layers);
}

}  // namespace promptkd
