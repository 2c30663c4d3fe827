// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/model.hpp>
#include <promptkd/clip/prompts.hpp>

namespace promptkd {

/// The text encoder over all class prompts of a learner. With `chunk` > 0 the classes run in groups: the forward pass
/// keeps nothing and the backward pass recomputes each group, so that memory is that of one group (class-specific
/// contexts with many classes).
template <Device D>
class TextBranch {
public:
    using T = typename D::Scalar;

    TextBranch(D& device, const TextTransformer<D>& text, const TokenRows& tokens, const ContextLayout& layout,
               Index deep_prompts, Index chunk = 0, TextSavings savings = {})
        : device_(&device), text_(&text), classes_(tokens.count) {
        const Index group = chunk > 0 ? std::min(chunk, classes_) : classes_;
        for (Index first = 0; first < classes_; first += group) {
            const Index n = std::min(group, classes_ - first);
            ContextLayout part = layout;
            if (layout.vectors > 0)
                part.positions.assign(
                    layout.positions.begin() + static_cast<std::ptrdiff_t>(first * layout.vectors),
                    layout.positions.begin() + static_cast<std::ptrdiff_t>((first + n) * layout.vectors));
            const Index offset = layout.class_specific ? first * layout.vectors * text.config().width : 0;
            chunks_.push_back(
                {first, offset, text.prepare(device, tokens.slice(first, n), part, deep_prompts, savings)});
        }
    }

    Index classes() const { return classes_; }

    /// features (classes, embed), un-normalised. `context` and `prompts` as in TextTransformer::forward; `train` keeps
    /// what backward needs.
    void forward(Arena<D>& arena, const T* context, const PromptLayers<T>* prompts, T* features, bool train) {
        const bool keep = train && chunks_.size() == 1;
        for (const Chunk& c : chunks_)
            text_->forward(*device_, arena, c.batch, context ? context + c.context_offset : nullptr, prompts,
                           features + c.first * text_->embed(), keep ? &tape_ : nullptr);
    }

    /// Adds to d_context and to the gradients of the deep prompts what d_features (classes, embed) implies.
    void backward(Arena<D>& arena, const T* d_features, const T* context, T* d_context,
                  const PromptLayers<T>* prompts) {
        for (const Chunk& c : chunks_) {
            typename Arena<D>::Scope scope(arena, chunks_.size() > 1);
            if (chunks_.size() > 1) {
                T* again = arena.template scratch<T>(c.batch.count() * text_->embed());
                text_->forward(*device_, arena, c.batch, context ? context + c.context_offset : nullptr, prompts, again,
                               &tape_);
            }
            text_->backward(*device_, arena, c.batch, d_features + c.first * text_->embed(),
                            d_context ? d_context + c.context_offset : nullptr, prompts, tape_);
        }
    }

private:
    struct Chunk {
        Index first, context_offset;
        TextBatch<D> batch;
    };

    D* device_;
    const TextTransformer<D>* text_;
    Index classes_;
    std::vector<Chunk> chunks_;
    TextTape<D> tape_;
};

}  // namespace promptkd
