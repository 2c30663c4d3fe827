// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/learner/learner.hpp>

namespace promptkd {

/// Sizes of independent prompts in the two branches; 0 vectors: none.
struct IndependentPrompts {
    Index visual = 4, visual_depth = 9;
    Index text = 4, text_depth = 9;
};

/// Independent vision-language prompts (IVLP, of the MaPLe and PromptSRC papers): deep prompts of their own in each
/// branch. With visual prompts alone it is VPT; with PromptSRC's losses and aggregation it is PromptSRC.
template <Device D>
class Ivlp : public PromptLearner<D> {
public:
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

}  // namespace promptkd
