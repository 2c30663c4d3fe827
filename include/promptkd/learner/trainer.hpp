// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/image_tower.hpp>
#include <promptkd/clip/text_branch.hpp>
#include <promptkd/learner/learner.hpp>
#include <promptkd/loss/cross_entropy.hpp>
#include <promptkd/loss/distillation.hpp>
#include <promptkd/loss/feature_distance.hpp>
#include <promptkd/op/cosine.hpp>
#include <promptkd/op/norm.hpp>
#include <promptkd/optim/scaled_optimizer.hpp>

#include <memory>
#include <optional>

namespace promptkd {

/// PromptSRC's self-regulation; without it a learner trains on cross-entropy alone.
template <class T>
struct SelfRegulation {
    std::vector<T> frozen_text;  ///< w_frozen (classes, embed), normalised; empty: no regularisation
    double text_weight = 25, image_weight = 10, logit_weight = 1;
};

/// What every learner's trainer has, and what a training loop needs of it: gradients of a batch, the update, the loss,
/// and logits for evaluation. A device that stores activations in fp16 gets a LossScale.
template <Device D>
class LearnerTrainer {
public:
    using T = typename D::Scalar;

    /// Device and learner must outlive the trainer.
    LearnerTrainer(D& device, PromptLearner<D>& learner, const OptimizerConfig& optimizer)
        : device_(device),
          trained_(learner),
          optimizer_(device, learner.params(), optimizer, LossScaleConfig{initial_scale}),
          loss_(device, 1) {}
    virtual ~LearnerTrainer() = default;

    /// Gradients of one micro-batch of device images (batch, 3, r, r) and labels (batch), added to what is there unless
    /// `first`. Then update().
    virtual void accumulate(const T* images, const std::int32_t* labels, Index batch, bool first) = 0;
    /// Makes the class vectors of the present prompts ready for logits().
    virtual void begin_evaluation() = 0;
    /// logits (batch, classes) of device images with the present prompts.
    virtual void logits(const T* images, Index batch, T* out) = 0;
    virtual Index classes() const = 0;

    /// The optimizer's step, with learning rate `rate`, with what accumulate() has gathered.
    void update(double rate) { optimizer_.step(rate); }

    /// One step with learning rate `rate`.
    void step(const T* images, const std::int32_t* labels, Index batch, double rate) {
        accumulate(images, labels, batch, true);
        update(rate);
    }

    /// The last micro-batch's loss (waits for the device).
    double loss() {
        T value = 0;
        device_.download(&value, loss_.data(), sizeof value);
        return static_cast<double>(value);
    }

    PromptLearner<D>& learner() { return trained_; }
    /// Empty unless activations are stored in fp16.
    const std::optional<LossScale<D>>& loss_scale() const { return optimizer_.loss_scale(); }
    /// State of optimizer and loss scale, for a checkpoint that resumes bit for bit.
    void save(TensorMap& state) const { optimizer_.save(state); }
    void load(const TensorMap& state) { optimizer_.load(state); }

protected:
    /// The loss scale, on a gradient's way into the encoders.
    void scale_gradient(T* gradient, Index n) { optimizer_.scale(gradient, n); }
    T* device_loss() { return loss_.data(); }

    D& device_;

private:
    static constexpr double initial_scale = 1024;  // about PromptKD's weight of 1000

    PromptLearner<D>& trained_;
    ScaledOptimizer<D> optimizer_;
    Buffer<D, T> loss_;
};

/// Trains any prompt learner that has one text branch for all images (CoOp, VPT, IVLP, MaPLe, PromptSRC): both
/// encoders, cross-entropy over cosine logits, PromptSRC's self-regulation where asked for, and the update. Nothing is
/// allocated after the constructor.
template <Device D>
class PromptTrainer final : public LearnerTrainer<D> {
    using Base = LearnerTrainer<D>;
    using Base::device_;
    using Base::scale_gradient;

public:
    using T = typename D::Scalar;

    /// `texts` are the class prompts; their layout says where the learner's context stands. All references must outlive
    /// the trainer.
    PromptTrainer(D& device, const ClipModel<D>& model, PromptLearner<D>& learner, const TokenRows& tokens,
                  const ContextLayout& layout, const OptimizerConfig& optimizer, const SelfRegulation<T>& regulation,
                  Index max_batch, Index class_chunk = 0, TextSavings savings = {})
        : Base(device, learner, optimizer),
          model_(model),
          learner_(learner),
          text_(device, model.text(), tokens, layout, learner.deep_text_prompts(), class_chunk, savings),
          regulation_(regulation),
          max_batch_(max_batch),
          table_(model.vision().place_prompts(device, learner.visual() ? learner.visual()->tokens : 0, max_batch)),
          arena_(device),
          text_features_(device, text_.classes() * model.text().embed()),
          image_features_(device, max_batch * model.vision().embed()) {
        const Index embed = model.vision().embed();
        if (regulated()) {
            require(static_cast<Index>(regulation.frozen_text.size()) == text_.classes() * embed,
                    "self-regulation: ", regulation.frozen_text.size(), " frozen text values for ", text_.classes(),
                    " classes of ", embed);
            frozen_text_ = Buffer<D, T>(device, regulation.frozen_text);
            frozen_images_ = std::make_unique<FrozenImageTower<D>>(device, model, nullptr, max_batch);
            frozen_logits_ = Buffer<D, T>(device, max_batch * text_.classes());
        }
        {
            PlanningScope<D> planning(device);
            this->step(nullptr, nullptr, max_batch, 0);
            begin_evaluation();
            logits(nullptr, max_batch, nullptr);
        }
        arena_.bind();
        if (!learner.context()) class_features();  // constant: computed once
    }

    void accumulate(const T* images, const std::int32_t* labels, Index batch, bool first) override {
        require(batch <= max_batch_, "a batch of ", batch, " images, but ", max_batch_, " were planned");
        const Index embed = model_.vision().embed(), classes = text_.classes();
        arena_.reset();
        if (first) learner_.params().clear_gradients();
        learner_.make_prompts();
        Step s;
        s.u = arena_.template keep<T>(batch * embed);
        s.inverse_u = arena_.template keep<T>(batch);
        s.inverse_w = arena_.template keep<T>(classes);
        forward(images, batch, s);
        typename Arena<D>::Scope scope(arena_);
        T* logits = arena_.template scratch<T>(batch * classes);
        T* d_logits = arena_.template scratch<T>(batch * classes);
        T* row_loss = arena_.template scratch<T>(std::max(batch, classes));
        T* du = arena_.template scratch<T>(batch * embed);
        T* dw = arena_.template scratch<T>(classes * embed);
        logits_of(s.u, text_features_.data(), logits, batch);
        cross_entropy_loss(device_, static_cast<const T*>(logits), labels, d_logits, row_loss, this->device_loss(),
                           batch, classes);
        if (regulated()) regulate_logits(images, batch, logits, d_logits, row_loss);
        cosine_logits_backward(device_, static_cast<const T*>(d_logits), static_cast<const T*>(text_features_.data()),
                               du, batch, classes, embed, model_.logit_scale());
        cosine_logits_backward_vectors(device_, static_cast<const T*>(d_logits), static_cast<const T*>(s.u), dw, batch,
                                       classes, embed, model_.logit_scale());
        if (regulated()) regulate_features(batch, s, du, dw, row_loss);
        backward(batch, s, du, dw);
        learner_.backward_prompts();
    }

    void begin_evaluation() override { class_features(); }

    void logits(const T* images, Index batch, T* out) override {
        encode(images, batch, image_features_.data());
        logits_of(image_features_.data(), text_features_.data(), out, batch);
    }

    /// Normalised class vectors (classes, embed) of the present prompts, in device memory; call before encode().
    const T* class_features() {
        arena_.reset();
        learner_.make_prompts();
        text_.forward(arena_, context(), learner_.text(), text_features_.data(), false);
        normalize_forward(device_, static_cast<const T*>(text_features_.data()), text_features_.data(),
                          static_cast<T*>(nullptr), text_.classes(), model_.text().embed());
        return text_features_.data();
    }

    /// Normalised image features (batch, embed) with the present prompts, into `features`.
    void encode(const T* images, Index batch, T* features) {
        arena_.reset();
        learner_.make_prompts();
        model_.vision().forward(device_, arena_, images, batch, learner_.visual(), table_.view(batch), features,
                                nullptr);
        normalize_forward(device_, static_cast<const T*>(features), features, static_cast<T*>(nullptr), batch,
                          model_.vision().embed());
    }

    /// logits (batch, classes) = exp(s)·u·wᵀ from the last class_features() and features in device memory.
    void logits_of(const T* u, const T* w, T* logits, Index batch) {
        cosine_logits(device_, u, w, logits, batch, text_.classes(), model_.vision().embed(), model_.logit_scale());
    }

    Index classes() const override { return text_.classes(); }
    std::size_t arena_bytes() const { return arena_.peak(); }

private:
    struct Step {
        T *u = nullptr, *inverse_u = nullptr, *inverse_w = nullptr;
    };

    bool regulated() const { return !regulation_.frozen_text.empty(); }
    const T* context() const { return learner_.context() ? learner_.context()->value : nullptr; }

    void forward(const T* images, Index batch, const Step& s) {
        const Index embed = model_.vision().embed();
        if (learner_.context()) {
            text_.forward(arena_, context(), learner_.text(), text_features_.data(), true);
            normalize_forward(device_, static_cast<const T*>(text_features_.data()), text_features_.data(), s.inverse_w,
                              text_.classes(), embed);
        }
        model_.vision().forward(device_, arena_, images, batch, learner_.visual(), table_.view(batch), s.u,
                                learner_.visual() ? &vision_tape_ : nullptr);
        normalize_forward(device_, static_cast<const T*>(s.u), s.u, s.inverse_u, batch, embed);
    }

    /// KL(p_frozen ‖ p) with the zero-shot model's logits.
    void regulate_logits(const T* images, Index batch, const T* logits, T* d_logits, T* row_loss) {
        frozen_u_ = frozen_images_->encode(images, batch);
        logits_of(frozen_u_, frozen_text_.data(), frozen_logits_.data(), batch);
        distillation_loss(device_, static_cast<const T*>(frozen_logits_.data()), logits, d_logits, row_loss,
                          this->device_loss(), batch, text_.classes(), 1.0, regulation_.logit_weight, true);
    }

    void regulate_features(Index batch, const Step& s, T* du, T* dw, T* row_loss) {
        const Index embed = model_.vision().embed();
        add_absolute_difference_loss(device_, static_cast<const T*>(text_features_.data()),
                                     static_cast<const T*>(frozen_text_.data()), dw, row_loss, this->device_loss(),
                                     text_.classes(), embed, regulation_.text_weight);
        add_absolute_difference_loss(device_, static_cast<const T*>(s.u), frozen_u_, du, row_loss, this->device_loss(),
                                     batch, embed, regulation_.image_weight);
    }

    void backward(Index batch, const Step& s, T* du, T* dw) {
        const Index embed = model_.vision().embed();
        if (learner_.visual()) {
            scale_gradient(du, batch * embed);
            normalize_backward(device_, static_cast<const T*>(s.u), static_cast<const T*>(s.inverse_u), du, batch,
                               embed);
            model_.vision().backward(device_, arena_, du, *learner_.visual(), table_.view(batch), vision_tape_);
        }
        if (learner_.context()) {
            scale_gradient(dw, text_.classes() * embed);
            normalize_backward(device_, static_cast<const T*>(text_features_.data()),
                               static_cast<const T*>(s.inverse_w), dw, text_.classes(), embed);
            text_.backward(arena_, dw, context(), learner_.context()->grad, learner_.text());
        }
    }

    const ClipModel<D>& model_;
    PromptLearner<D>& learner_;
    TextBranch<D> text_;
    SelfRegulation<T> regulation_;
    Index max_batch_;
    PlacementTable<D> table_;
    Arena<D> arena_;
    Buffer<D, T> text_features_, image_features_, frozen_text_, frozen_logits_;
    std::unique_ptr<FrozenImageTower<D>> frozen_images_;
    const T* frozen_u_ = nullptr;
    VisionTape<D> vision_tape_;
};

}  // namespace promptkd
