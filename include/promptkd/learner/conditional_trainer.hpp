// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/learner/cocoop.hpp>
#include <promptkd/learner/trainer.hpp>
#include <promptkd/op/broadcast.hpp>

namespace promptkd {

/// Trains CoCoOp: the text branch runs once for each image, with that image's context; its activations are kept for one
/// image at a time.
template <Device D>
class ConditionalTrainer final : public LearnerTrainer<D> {
    using Base = LearnerTrainer<D>;
    using Base::device_;

public:
    using T = typename D::Scalar;

    ConditionalTrainer(D& device, const ClipModel<D>& model, CoCoOp<D>& learner, const TokenRows& tokens,
                       const ContextLayout& layout, const OptimizerConfig& optimizer, Index max_batch,
                       Index class_chunk = 0, TextSavings savings = {})
        : Base(device, learner, optimizer),
          model_(model),
          learner_(learner),
          text_(device, model.text(), tokens, layout, 0, class_chunk, savings),
          images_(device, model, nullptr, max_batch),
          arena_(device) {
        {
            PlanningScope<D> planning(device);
            this->step(nullptr, nullptr, max_batch, 0);
            logits(nullptr, max_batch, nullptr);
        }
        arena_.bind();
    }

    void accumulate(const T* images, const std::int32_t* labels, Index batch, bool first) override {
        const Index embed = model_.text().embed(), width = model_.text().config().width;
        arena_.reset();
        if (first) learner_.params().clear_gradients();
        typename Arena<D>::Scope scope(arena_);
        const T* u = images_.encode(images, batch);
        T* active = arena_.template scratch<T>(batch * learner_.hidden());
        T* shift = arena_.template scratch<T>(batch * width);
        T* d_shift = arena_.template scratch<T>(batch * width);
        learner_.shift(device_, u, active, shift, batch);
        device_.zero(d_shift, static_cast<std::size_t>(batch * width) * sizeof(T));
        for (Index i = 0; i < batch; ++i)
            one_image(u + i * embed, labels ? labels + i : nullptr, shift + i * width, d_shift + i * width, batch,
                      i > 0);
        learner_.shift_backward(device_, u, static_cast<const T*>(active), static_cast<const T*>(d_shift),
                                active_gradient(batch), batch);
    }

    void begin_evaluation() override {}

    void logits(const T* images, Index batch, T* out) override {
        const Index embed = model_.text().embed(), width = model_.text().config().width, classes = text_.classes();
        arena_.reset();
        typename Arena<D>::Scope scope(arena_);
        const T* u = images_.encode(images, batch);
        T* active = arena_.template scratch<T>(batch * learner_.hidden());
        T* shift = arena_.template scratch<T>(batch * width);
        T* context = arena_.template scratch<T>(learner_.vectors() * width);
        T* w = arena_.template scratch<T>(classes * embed);
        learner_.shift(device_, u, active, shift, batch);
        for (Index i = 0; i < batch; ++i) {
            add_row(device_, static_cast<const T*>(learner_.context()->value), static_cast<const T*>(shift + i * width),
                    context, learner_.vectors(), width);
            text_.forward(arena_, context, nullptr, w, false);
            normalize_forward(device_, static_cast<const T*>(w), w, static_cast<T*>(nullptr), classes, embed);
            cosine_logits(device_, u + i * embed, static_cast<const T*>(w), out ? out + i * classes : nullptr, 1,
                          classes, embed, model_.logit_scale());
        }
    }

    Index classes() const override { return text_.classes(); }

private:
    T* active_gradient(Index batch) { return arena_.template scratch<T>(batch * learner_.hidden()); }

    /// Loss and gradients of image `i` of a batch: forward and backward through its own text branch.
    void one_image(const T* u, const std::int32_t* label, const T* shift, T* d_shift, Index batch, bool add) {
        typename Arena<D>::Scope scope(arena_, true);
        const Index embed = model_.text().embed(), width = model_.text().config().width, classes = text_.classes(),
                    n = learner_.vectors();
        T* w = arena_.template keep<T>(classes * embed);
        T* inverse = arena_.template keep<T>(classes);
        T* context = arena_.template scratch<T>(n * width);
        T* d_context = arena_.template scratch<T>(n * width);
        T* logits = arena_.template scratch<T>(classes);
        T* d_logits = arena_.template scratch<T>(classes);
        T* dw = arena_.template scratch<T>(classes * embed);
        T* row_loss = arena_.template scratch<T>(1);
        add_row(device_, static_cast<const T*>(learner_.context()->value), shift, context, n, width);
        text_.forward(arena_, context, nullptr, w, true);
        normalize_forward(device_, static_cast<const T*>(w), w, inverse, classes, embed);
        cosine_logits(device_, u, static_cast<const T*>(w), logits, 1, classes, embed, model_.logit_scale());
        cross_entropy_loss(device_, static_cast<const T*>(logits), label, d_logits, row_loss, this->device_loss(), 1,
                           classes, batch, add);
        cosine_logits_backward_vectors(device_, static_cast<const T*>(d_logits), u, dw, 1, classes, embed,
                                       model_.logit_scale());
        this->scale_gradient(dw, classes * embed);
        normalize_backward(device_, static_cast<const T*>(w), static_cast<const T*>(inverse), dw, classes, embed);
        device_.zero(d_context, static_cast<std::size_t>(n * width) * sizeof(T));
        text_.backward(arena_, dw, context, d_context, nullptr);
        add_scaled(device_, 1, static_cast<const T*>(d_context), learner_.context()->grad, n * width);
        add_column_sums(device_, static_cast<const T*>(d_context), d_shift, n, width);
    }

    const ClipModel<D>& model_;
    CoCoOp<D>& learner_;
    TextBranch<D> text_;
    FrozenImageTower<D> images_;
    Arena<D> arena_;
};

}  // namespace promptkd
