// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/learner/trainer.hpp>

namespace promptkd {

/// Sizes of independent prompts in the two branches; 0 vectors: none.
struct IndependentPrompts {
    Index visual = 4, visual_depth = 9;  ///< vectors and prompted blocks of the image branch
    Index text = 4, text_depth = 9;      ///< vectors and prompted blocks of the text branch
};

/// Independent vision-language prompts (IVLP; Khattak et al., CVPR 2023 and ICCV 2023): deep prompts of their own in
/// each branch. Parameters `prompt_learner.ctx`, `image_encoder.VPT` and
/// `{image,text}_encoder.transformer.resblocks.{i}.VPT_shallow`.
template <Device D>
class Ivlp : public PromptLearner<D> {
public:
    /// Throws Error when a depth does not fit the model.
    Ivlp(D& device, const ClipModel<D>& model, const IndependentPrompts& sizes) : PromptLearner<D>(device) {
        require(sizes.visual > 0 || sizes.text > 0, "independent prompts need at least one vector in one branch");
        if (sizes.visual > 0) require_depth("visual", sizes.visual_depth, model.vision().layers());
        this->visual_ = add_visual_prompts(this->params_, sizes.visual, sizes.visual_depth, model.vision().width());
        if (sizes.text > 0) {
            require_depth("text", sizes.text_depth, model.text().config().layers);
            this->text_ = add_text_prompts(this->params_, sizes.text, sizes.text_depth, model.text().config().width);
            this->context_ = this->text_.layers.at(0);
        }
        this->params_.bind();
    }
};

/// Its line in the registry.
struct IvlpMethod : PlainMethod {
    /// See LearnerInfo.
    static Recipe published(Index) { return {0.005, 20, 8, 4, 4, 9, {}}; }

    /// See LearnerInfo.
    static bool recognises(const TensorMap& map) {
        return map.contains(visual_prompt_name) && detail::has_learner_tensor(map, "ctx");
    }

    /// The registry's entry.
    static LearnerInfo info() {
        LearnerInfo info;
        info.name = "ivlp";
        info.title = "IVLP";
        info.paper = "Khattak et al., MaPLe: Multi-modal Prompt Learning, CVPR 2023 (the baseline without coupling)";
        info.summary = "deep prompts of their own in each branch";
        info.published = &published;
        info.recognises = &recognises;
        info.fixed_prompts = &detail::prompts_as_they_are;
        return info;
    }

    /// See make_learner().
    template <Device D>
    static std::unique_ptr<PromptLearner<D>> make(D& device, const ClipModel<D>& model, const Recipe& r, Index) {
        return std::make_unique<Ivlp<D>>(
            device, model, IndependentPrompts{r.visual, r.depth, r.text, r.text_depth > 0 ? r.text_depth : r.depth});
    }
};

}  // namespace promptkd
