// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/model.hpp>
#include <promptkd/clip/prompts.hpp>

namespace promptkd {

/// How a TextBranch lays out its texts.
struct TextBranchOptions {
    Index deep_prompts = 0;  ///< positions that are overwritten in the prompted blocks
    Index chunk = 0;         ///< classes of a group; 0: all at once
    TextSavings savings;     ///< what is not computed twice
};

/// The text encoder over all class prompts of a learner. With groups of `chunk` classes the forward pass keeps nothing
/// and the backward pass recomputes each group, so that memory is that of one group (class-specific contexts with many
/// classes).
template <Device D>
class TextBranch {
public:
    using T = typename D::Scalar;

    /// `layout` says where the learner's context stands in `tokens`. Device and encoder must outlive this.
    TextBranch(D& device, const TextTransformer<D>& text, const TokenRows& tokens, const ContextLayout& layout,
               const TextBranchOptions& options)
        : device_(&device), text_(&text), classes_(tokens.count) {
        const Index group = options.chunk > 0 ? std::min(options.chunk, classes_) : classes_;
        for (Index first = 0; first < classes_; first += group) {
            const Index n = std::min(group, classes_ - first);
            ContextLayout part = layout;
            if (layout.vectors > 0)
                part.positions.assign(
                    layout.positions.begin() + static_cast<std::ptrdiff_t>(first * layout.vectors),
                    layout.positions.begin() + static_cast<std::ptrdiff_t>((first + n) * layout.vectors));
            const Index offset = layout.class_specific ? first * layout.vectors * text.config().width : 0;
            chunks_.push_back(
                {first, offset,
                 text.prepare(device, tokens.slice(first, n), part, options.deep_prompts, options.savings)});
        }
    }

    /// Number of texts N.
    Index classes() const { return classes_; }

    /// features (classes, embed), un-normalised. Keep::yes keeps what backward() needs.
    void forward(Arena<D>& arena, const TextPrompts<T>& prompts, Matrix<T> features, Keep keep) {
        require_shape(features, classes_, text_->embed(), "text branch: the features");
        for (const Chunk& c : chunks_)
            text_->forward({*device_, arena}, c.batch, of(c, prompts), features.row_range(c.first, c.batch.count()),
                           keep == Keep::yes && chunks_.size() == 1 ? &tape_ : nullptr);
    }

    /// Adds to d_context and to the gradients of the deep prompts what d_features (classes, embed) implies. `prompts`
    /// as in forward().
    void backward(Arena<D>& arena, Matrix<const T> d_features, const TextPrompts<T>& prompts, T* d_context) {
        require_shape(d_features, classes_, text_->embed(), "text branch: the gradient of the features");
        const Workspace<D> w{*device_, arena};
        const bool recompute = chunks_.size() > 1;
        for (const Chunk& c : chunks_) {
            const WorkspaceScope scope(w, recompute ? Keep::no : Keep::yes);
            if (recompute)
                text_->forward(w, c.batch, of(c, prompts), scratch<T>(w, c.batch.count(), text_->embed()), &tape_);
            text_->backward(w, c.batch, d_features.row_range(c.first, c.batch.count()),
                            d_context ? d_context + c.context_offset : nullptr, prompts.deep, tape_);
        }
    }

private:
    struct Chunk {
        Index first, context_offset;
        TextBatch<D> batch;
    };

    /// `prompts` with the context of the chunk's classes.
    static TextPrompts<T> of(const Chunk& c, const TextPrompts<T>& prompts) {
        return {prompts.context ? prompts.context + c.context_offset : nullptr, prompts.deep};
    }

    D* device_;
    const TextTransformer<D>* text_;
    Index classes_;
    std::vector<Chunk> chunks_;
    TextTape<D> tape_;
};

}  // namespace promptkd
