// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/model.hpp>
#include <promptkd/clip/prompts.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace promptkd {

/// The learnable part of a prompt learner, in the shape that every trainer uses: context vectors of the text branch,
/// deep prompts of either branch, and how they come from the parameters. What a learner lacks stays empty.
/// `learner/registry.hpp` lists the learners; each has a file of its own.
template <Device D>
class PromptLearner {
public:
    using T = typename D::Scalar;
    virtual ~PromptLearner() = default;

    /// Parameters → prompts, at the start of a step (MaPLe's visual prompts come from the text ones).
    virtual void make_prompts() {}
    /// Gradients of prompts → gradients of parameters, at the end of a step.
    virtual void backward_prompts() {}
    /// Initial values as a function of `seed`; `context` (vectors · d_t values) are the embeddings of the words the
    /// context starts from, empty for random ones.
    virtual void initialize(std::uint64_t seed, const std::vector<T>& context) {
        for (const std::string& name : params_.names()) initialize_normal(params_, name, seed);
        set_context(context);
    }

    /// In front of a training step, by its number, or of an evaluation (nothing): for what differs between them.
    virtual void set_training(std::optional<std::uint32_t> /*step*/) {}
    /// The image encoder, where it is not the model's but one with something learned inside; else null.
    virtual const VisionTransformer<D>* own_vision() const { return nullptr; }
    /// The text encoder likewise.
    virtual const TextTransformer<D>* own_text() const { return nullptr; }
    /// exp(s) of the logits.
    virtual double logit_factor(const ClipModel<D>& model) const { return model.logit_scale(); }

    /// What is learned.
    ParamSet<D>& params() { return params_; }
    /// What is learned.
    const ParamSet<D>& params() const { return params_; }
    /// Visual prompts, null without.
    const PromptLayers<T>* visual() const { return visual_.empty() ? nullptr : &visual_; }
    /// Deep text prompts; layers[0] is the context. Null without.
    const PromptLayers<T>* text() const { return text_.empty() ? nullptr : &text_; }
    /// The context vectors, null without.
    const Param<T>* context() const { return context_; }
    /// How many positions the deep text prompts overwrite; 0 without any.
    Index deep_text_prompts() const { return text_.depth() > 1 ? text_.tokens : 0; }

protected:
    /// Without parameters; a derived class adds its own and binds them.
    explicit PromptLearner(D& device) : params_(device) {}

    /// Puts the words' embeddings into the context, repeated for each class where it has contexts of their own.
    void set_context(const std::vector<T>& words) {
        if (!context_ || words.empty()) return;
        const Index sets = context_->count() / static_cast<Index>(words.size());
        require(sets * static_cast<Index>(words.size()) == context_->count(), "the context has ", context_->count(),
                " values, its initial words ", words.size());
        std::vector<T> values;
        for (Index i = 0; i < sets; ++i) values.insert(values.end(), words.begin(), words.end());
        params_.set(context_name, values);
    }

    ParamSet<D> params_;                 ///< all parameters
    PromptLayers<T> visual_, text_;      ///< where they enter the two branches
    const Param<T>* context_ = nullptr;  ///< the context vectors
};

}  // namespace promptkd
