// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/learner/trainer.hpp>

namespace promptkd {

/// VPT (Jia et al., Visual Prompt Tuning, ECCV 2022; in CLIP as in the MaPLe paper): learnable tokens behind the
/// image's patches, others of their own in each of the first `depth` blocks; the texts stay as they are. Parameters
/// `image_encoder.VPT` and `image_encoder.transformer.resblocks.{i}.VPT_shallow`.
template <Device D>
class Vpt : public PromptLearner<D> {
public:
    /// `depth` counts the input's tokens. Throws Error for no tokens, and for more depth than the encoder has blocks.
    Vpt(D& device, const ClipModel<D>& model, Index tokens, Index depth) : PromptLearner<D>(device) {
        require(tokens > 0 && depth > 0, "VPT needs at least one prompt vector and a depth of at least 1");
        require_depth("visual", depth, model.vision().layers());
        this->visual_ = add_visual_prompts(this->params_, tokens, depth, model.vision().width());
        this->params_.bind();
    }
};

/// Its line in the registry.
struct VptMethod : PlainMethod {
    /// See LearnerInfo.
    static Recipe published(Index) { return {0.0025, 5, 4, 8, 0, 12, {}}; }

    /// See LearnerInfo.
    static bool recognises(const TensorMap& map) {
        return map.contains(visual_prompt_name) && !detail::has_learner_tensor(map, "ctx");
    }

    /// The registry's entry.
    static LearnerInfo info() {
        LearnerInfo info;
        info.name = "vpt";
        info.title = "VPT";
        info.paper = "Jia et al., Visual Prompt Tuning, ECCV 2022";
        info.summary = "prompt tokens in the blocks of the image encoder";
        info.published = &published;
        info.recognises = &recognises;
        info.fixed_prompts = &detail::prompts_as_they_are;
        return info;
    }

    /// See make_learner().
    template <Device D>
    static std::unique_ptr<PromptLearner<D>> make(D& device, const ClipModel<D>& model, const Recipe& recipe, Index) {
        return std::make_unique<Vpt<D>>(device, model, recipe.visual, recipe.depth);
    }
};

}  // namespace promptkd
