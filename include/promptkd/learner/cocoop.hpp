// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/learner/trainer.hpp>
#include <promptkd/nn/linear.hpp>
#include <promptkd/op/broadcast.hpp>
#include <promptkd/op/elementwise.hpp>

namespace promptkd {

/// CoCoOp (Zhou et al., CVPR 2022): CoOp's generic context plus a meta-net π = Linear(e → e/16), ReLU, Linear(→ d_t) of
/// the normalised image feature that is added to every context vector. Parameters `prompt_learner.{ctx,
/// meta_net.linear1.*, meta_net.linear2.*}`.
template <Device D>
class CoCoOp : public PromptLearner<D> {
public:
    using T = typename D::Scalar;

    /// `vectors` context vectors. Throws Error unless there is at least one.
    CoCoOp(D& device, const ClipModel<D>& model, Index vectors)
        : PromptLearner<D>(device), vectors_(vectors), hidden_(std::max<Index>(1, model.text().embed() / 16)) {
        require(vectors > 0, "CoCoOp needs at least one context vector");
        const Index embed = model.text().embed();
        const Index width = model.text().config().width;
        this->context_ = &this->params_.add(context_name, {vectors, width});
        first_ = add_linear("prompt_learner.meta_net.linear1", hidden_, embed);
        second_ = add_linear("prompt_learner.meta_net.linear2", width, hidden_);
        this->params_.bind();
    }

    void initialize(std::uint64_t seed, const std::vector<T>& context) override {
        initialize_normal(this->params_, context_name, seed);
        for (const char* layer : {"prompt_learner.meta_net.linear1", "prompt_learner.meta_net.linear2"})
            initialize_linear(this->params_, layer, seed);
        this->set_context(context);
    }

    /// Context vectors of a prompt.
    Index vectors() const { return vectors_; }
    /// Width of the meta-network's hidden layer.
    Index hidden() const { return hidden_; }

    /// shift (batch, d_t) = π(u), u (batch, e); `active` (batch, hidden) is kept for backward.
    void shift(D& device, const T* u, T* active, T* shift, Index batch) const {
        linear_forward(device, first_, u, active, batch);
        relu_forward(device, static_cast<const T*>(active), active, batch * hidden_);
        linear_forward(device, second_, static_cast<const T*>(active), shift, batch);
    }

    /// Adds the meta-net's gradients from d_shift (batch, d_t); d_active is scratch (batch, hidden).
    void shift_backward(D& device, const T* u, const T* active, const T* d_shift, T* d_active, Index batch) const {
        linear_backward(device, second_, active, d_shift, d_active, batch);
        relu_backward(device, active, d_active, batch * hidden_);
        linear_backward(device, first_, u, static_cast<const T*>(d_active), static_cast<T*>(nullptr), batch);
    }

private:
    TrainableLinear<T> add_linear(const std::string& name, Index out, Index in) {
        return {&this->params_.add(name + ".weight", {out, in}), &this->params_.add(name + ".bias", {out})};
    }

    Index vectors_, hidden_;
    TrainableLinear<T> first_, second_;
};

/// Trains CoCoOp: the text branch runs once for each image, with that image's context; its activations are kept for one
/// image at a time.
template <Device D>
class ConditionalTrainer final : public LearnerTrainer<D> {
    using Base = LearnerTrainer<D>;
    using Base::device_;

public:
    using T = typename D::Scalar;

    /// `texts` are the class prompts with the places of the context. All references must outlive the trainer.
    ConditionalTrainer(D& device, const ClipModel<D>& model, CoCoOp<D>& learner, const ContextTexts& texts,
                       const TrainerOptions<D>& options)
        : Base(device, learner, options),
          model_(model),
          learner_(learner),
          text_(device, model.text(), texts.tokens, texts.layout, 0, options.class_chunk, options.savings),
          images_(device, model, nullptr, options.max_batch),
          arena_(device) {
        {
            PlanningScope<D> planning(device);
            accumulate(nullptr, nullptr, options.max_batch);
            logits(nullptr, options.max_batch, nullptr);
        }
        arena_.bind();
    }

    void accumulate(const T* images, const std::int32_t* labels, Index batch) override {
        this->check_batch(batch);
        const Index embed = model_.text().embed();
        const Index width = model_.text().config().width;
        arena_.reset();
        typename Arena<D>::Scope scope(arena_);
        const T* u = images_.encode(images, batch);
        T* active = arena_.template scratch<T>(batch * learner_.hidden());
        T* shift = arena_.template scratch<T>(batch * width);
        T* d_shift = arena_.template scratch<T>(batch * width);
        learner_.shift(device_, u, active, shift, batch);
        device_.zero(d_shift, static_cast<std::size_t>(batch * width) * sizeof(T));
        for (Index i = 0; i < batch; ++i)
            one_image({u + i * embed, labels ? labels + i : nullptr, shift + i * width, d_shift + i * width, batch, i});
        this->share_loss(batch);
        learner_.shift_backward(device_, u, static_cast<const T*>(active), static_cast<const T*>(d_shift),
                                active_gradient(batch), batch);
    }

    void begin_evaluation() override {}

    void logits(const T* images, Index batch, T* out) override {
        const Index embed = model_.text().embed();
        const Index width = model_.text().config().width;
        const Index classes = text_.classes();
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

    /// An image of a batch: its normalised feature, label, context shift, and where the shift's gradient goes.
    struct OneImage {
        const T* u;
        const std::int32_t* label;
        const T* shift;
        T* d_shift;
        Index batch, number;
    };

    /// Loss and gradients of one image: forward and backward through its own text branch.
    void one_image(const OneImage& image) {
        typename Arena<D>::Scope scope(arena_, true);
        const Index embed = model_.text().embed();
        const Index width = model_.text().config().width;
        const Index classes = text_.classes();
        const Index n = learner_.vectors();
        T* w = arena_.template keep<T>(classes * embed);
        T* inverse = arena_.template keep<T>(classes);
        T* context = arena_.template scratch<T>(n * width);
        T* d_context = arena_.template scratch<T>(n * width);
        T* logits = arena_.template scratch<T>(classes);
        T* d_logits = arena_.template scratch<T>(classes);
        T* dw = arena_.template scratch<T>(classes * embed);
        T* row_loss = arena_.template scratch<T>(1);
        add_row(device_, static_cast<const T*>(learner_.context()->value), image.shift, context, n, width);
        text_.forward(arena_, context, nullptr, w, true);
        normalize_forward(device_, static_cast<const T*>(w), w, inverse, classes, embed);
        cosine_logits(device_, image.u, static_cast<const T*>(w), logits, 1, classes, embed, model_.logit_scale());
        cross_entropy_loss(device_, static_cast<const T*>(logits), image.label, d_logits, row_loss, this->device_loss(),
                           1, classes, image.batch, image.number > 0);
        cosine_logits_backward_vectors(device_, static_cast<const T*>(d_logits), image.u, dw, 1, classes, embed,
                                       model_.logit_scale());
        this->scale_gradient(dw, classes * embed, image.batch);
        normalize_backward(device_, static_cast<const T*>(w), static_cast<const T*>(inverse), dw, classes, embed);
        device_.zero(d_context, static_cast<std::size_t>(n * width) * sizeof(T));
        text_.backward(arena_, dw, context, d_context, nullptr);
        add_scaled(device_, 1, static_cast<const T*>(d_context), learner_.context()->grad, n * width);
        add_column_sums(device_, static_cast<const T*>(d_context), image.d_shift, n, width);
    }

    const ClipModel<D>& model_;
    CoCoOp<D>& learner_;
    TextBranch<D> text_;
    FrozenImageTower<D> images_;
    Arena<D> arena_;
};

/// Its line in the registry.
struct CoCoOpMethod : PlainMethod {
    /// See LearnerInfo.
    static Recipe published(Index) { return {0.002, 10, 1, 0, 4, 1, {}}; }

    /// See LearnerInfo.
    static bool recognises(const TensorMap& map) {
        return detail::holds_any(map, "prompt_learner.meta_net.") || detail::holds_any(map, "meta_net.");
    }

    /// The registry's entry.
    static LearnerInfo info() {
        LearnerInfo info;
        info.name = "cocoop";
        info.title = "CoCoOp";
        info.paper = "Zhou et al., Conditional Prompt Learning for Vision-Language Models, CVPR 2022";
        info.summary = "context vectors, shifted for each image by a small network of its feature";
        info.published = &published;
        info.recognises = &recognises;
        return info;
    }

    /// See make_learner().
    template <Device D>
    static std::unique_ptr<PromptLearner<D>> make(D& device, const ClipModel<D>& model, const Recipe& recipe, Index) {
        return std::make_unique<CoCoOp<D>>(device, model, recipe.text);
    }

    /// `learner` is what make() made.
    template <Device D>
    static std::unique_ptr<LearnerTrainer<D>> make_trainer(D& device, const ClipModel<D>& model,
                                                           PromptLearner<D>& learner,
                                                           const LearnerTexts<typename D::Scalar>& texts, const Recipe&,
                                                           const TrainerOptions<D>& options) {
        return std::make_unique<ConditionalTrainer<D>>(device, model, static_cast<CoCoOp<D>&>(learner), texts.prompts,
                                                       options);
    }
};

}  // namespace promptkd
