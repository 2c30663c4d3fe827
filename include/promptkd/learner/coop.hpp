// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/learner/trainer.hpp>

namespace promptkd {

/// CoOp (Zhou et al., IJCV 2022): learnable context vectors, shared by all classes or of its own for each.
/// Parameter `prompt_learner.ctx` (n, d_t) or (classes, n, d_t).
template <Device D>
class CoOp : public PromptLearner<D> {
public:
    /// `vectors` context vectors, of its own for each of `class_specific_classes` (0: shared). Throws Error unless
    /// there is at least one vector.
    CoOp(D& device, const ClipModel<D>& model, Index vectors, Index class_specific_classes = 0)
        : PromptLearner<D>(device) {
        require(vectors > 0, "CoOp needs at least one context vector");
        const Index width = model.text().config().width;
        this->context_ =
            &this->params_.add(context_name, class_specific_classes > 0 ? Shape{class_specific_classes, vectors, width}
                                                                        : Shape{vectors, width});
        this->params_.bind();
    }
};

/// Its line in the registry. Published: 200 epochs for 16 and 8 shots, 100 for 4 and 2, 50 for one (section 4.1).
struct CoOpMethod : PlainMethod {
    /// See LearnerInfo.
    static Recipe published(Index shots) { return {0.002, shots >= 8 ? 200 : shots >= 2 ? 100 : 50, 32, 0, 4, 1, {}}; }

    /// See LearnerInfo.
    static bool recognises(const TensorMap& map) {
        return detail::has_learner_tensor(map, "ctx") && !map.contains(visual_prompt_name);
    }

    /// The registry's entry.
    static LearnerInfo info() {
        LearnerInfo info;
        info.name = "coop";
        info.title = "CoOp";
        info.paper = "Zhou et al., Learning to Prompt for Vision-Language Models, IJCV 2022";
        info.summary = "context vectors before the class name";
        info.takes_position = true;
        info.takes_class_specific = true;
        info.published = &published;
        info.recognises = &recognises;
        info.fixed_prompts = &detail::prompts_as_they_are;
        return info;
    }

    /// See make_learner().
    template <Device D>
    static std::unique_ptr<PromptLearner<D>> make(D& device, const ClipModel<D>& model, const Recipe& recipe,
                                                  Index class_specific_classes) {
        return std::make_unique<CoOp<D>>(device, model, recipe.text, class_specific_classes);
    }
};

}  // namespace promptkd
