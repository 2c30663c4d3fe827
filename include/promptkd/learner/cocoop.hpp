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
    void shift(D& device, Matrix<const T> u, Matrix<T> active, Matrix<T> shift) const {
        linear_forward(device, first_.layer(), u, active);
        relu_forward(device, active, active);
        linear_forward(device, second_.layer(), active, shift);
    }

    /// Adds the meta-net's gradients from d_shift (batch, d_t); d_active is scratch (batch, hidden).
    void shift_backward(D& device, Matrix<const T> u, Matrix<const T> active, Matrix<const T> d_shift,
                        Matrix<T> d_active) const {
        add_linear_gradients(device, second_.layer(), active, d_shift);
        linear_backward(device, second_.layer(), d_shift, d_active);
        relu_backward(device, active, d_active);
        add_linear_gradients(device, first_.layer(), u, d_active);
    }

private:
    LinearParams<T> add_linear(const std::string& name, Index out, Index in) {
        return {&this->params_.add(name + ".weight", {out, in}), &this->params_.add(name + ".bias", {out})};
    }

    Index vectors_, hidden_;
    LinearParams<T> first_, second_;
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
          text_(device, model.text(), texts.tokens, texts.layout, {0, options.class_chunk, options.savings}),
          images_(device, model, nullptr, options.max_batch),
          arena_(device) {
        arena_.plan([&] {
            accumulate(nullptr, LearnerTargets<T>(), options.max_batch);
            logits(nullptr, options.max_batch, nullptr);
        });
    }

    using Base::accumulate;

    void accumulate(const T* images, const LearnerTargets<T>& targets, Index batch) override {
        this->check_batch(batch);
        arena_.reset();
        const Workspace<D> w{device_, arena_};
        const WorkspaceScope scope(w);
        const Matrix<const T> u = encode(images, batch);
        const Matrix<T> active = scratch<T>(w, batch, learner_.hidden());
        const Matrix<T> shift = scratch<T>(w, batch, width());
        const Matrix<T> d_shift = scratch<T>(w, batch, width());
        learner_.shift(device_, u, active, shift);
        zero(device_, d_shift);
        for (Index i = 0; i < batch; ++i)
            one_image(w, {u.row_range(i, 1), targets.from(i, text_.classes()), shift.row(i), d_shift.row(i), batch, i});
        this->share_loss(batch);
        learner_.shift_backward(device_, u, active, d_shift, scratch<T>(w, batch, learner_.hidden()));
    }

    void begin_evaluation() override {}

    void logits(const T* images, Index batch, T* out) override {
        arena_.reset();
        const Workspace<D> w{device_, arena_};
        const WorkspaceScope scope(w);
        const Matrix<const T> u = encode(images, batch);
        const Matrix<T> shift = scratch<T>(w, batch, width());
        const Matrix<T> context = scratch<T>(w, learner_.vectors(), width());
        const Matrix<T> features = scratch<T>(w, text_.classes(), embed());
        const Matrix<T> logits(out, batch, text_.classes());
        learner_.shift(device_, u, scratch<T>(w, batch, learner_.hidden()), shift);
        for (Index i = 0; i < batch; ++i) {
            add_row(device_, context_values(), shift.row(i), context);
            text_.forward(arena_, {context.data, nullptr}, features, Keep::no);
            normalize_forward(device_, features, features);
            cosine_logits(device_, u.row_range(i, 1), features, model_.logit_scale(), logits.row_range(i, 1));
        }
    }

    Index classes() const override { return text_.classes(); }

private:
    /// An image of a batch: its normalised feature, target, context shift, and where the shift's gradient goes.
    struct OneImage {
        Matrix<const T> u;
        LearnerTargets<T> target;
        const T* shift;
        T* d_shift;
        Index batch, number;
    };

    Index embed() const { return model_.text().embed(); }
    Index width() const { return model_.text().config().width; }
    Matrix<const T> encode(const T* images, Index batch) { return {images_.encode(images, batch), batch, embed()}; }
    Matrix<const T> context_values() const { return {learner_.context()->value, learner_.vectors(), width()}; }

    /// Loss and gradients of one image: forward and backward through its own text branch.
    void one_image(const Workspace<D>& w, const OneImage& image) {
        const WorkspaceScope scope(w, Keep::no);
        const Index classes = text_.classes();
        const Matrix<T> features = keep<T>(w, classes, embed());
        T* inverse = keep<T>(w, classes);
        const Matrix<T> context = scratch<T>(w, learner_.vectors(), width());
        const Matrix<T> d_context = scratch<T>(w, learner_.vectors(), width());
        const Matrix<T> logits = scratch<T>(w, 1, classes);
        const Matrix<T> d_logits = scratch<T>(w, 1, classes);
        const Matrix<T> d_features = scratch<T>(w, classes, embed());
        const TextPrompts<T> prompts{context.data, nullptr};
        add_row(device_, context_values(), image.shift, context);
        text_.forward(arena_, prompts, features, Keep::yes);
        normalize_forward(device_, features, features, inverse);
        cosine_logits(device_, image.u, features, model_.logit_scale(), logits);
        learner_loss(w, logits, image.target, d_logits, this->device_loss(),
                     {image.batch, image.number > 0 ? Accumulate::yes : Accumulate::no});
        cosine_logits_backward_vectors(device_, d_logits, image.u, model_.logit_scale(), d_features);
        this->scale_gradient(d_features.data, d_features.count(), image.batch);
        normalize_backward(device_, features, inverse, d_features);
        zero(device_, d_context);
        text_.backward(arena_, d_features, prompts, d_context.data);
        add_scaled(device_, 1, d_context.data, learner_.context()->grad, d_context.count());
        add_column_sums(device_, d_context, image.d_shift);
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
