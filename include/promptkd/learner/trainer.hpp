// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/image_tower.hpp>
#include <promptkd/clip/text_branch.hpp>
#include <promptkd/learner/info.hpp>
#include <promptkd/learner/learner.hpp>
#include <promptkd/learner/texts.hpp>
#include <promptkd/loss/cross_entropy.hpp>
#include <promptkd/op/cosine.hpp>
#include <promptkd/op/norm.hpp>
#include <promptkd/train/trainer.hpp>

#include <memory>

namespace promptkd {

/// How a learner's trainer works.
template <Device D>
struct TrainerOptions {
    OptimizerConfig optimizer;  ///< update rule
    Index max_batch = 1;        ///< images of a micro-batch, or of an evaluation's batch
    Index class_chunk = 0;      ///< classes whose activations are in memory at once; 0: all
    TextSavings savings;        ///< what of the text branch is not computed twice
    DataParallel<D> parallel;   ///< the other ranks of the step
};

/// What every learner's trainer is: a Trainer (train/trainer.hpp) that learns from labels, and logits for evaluation. A
/// device that stores activations in fp16 gets a LossScale.
template <Device D>
class LearnerTrainer : public TrainerBase<D> {
public:
    using T = typename D::Scalar;
    /// Labels; see Trainer.
    using Supervision = std::int32_t;

    /// Device and learner must outlive the trainer.
    LearnerTrainer(D& device, PromptLearner<D>& learner, const TrainerOptions<D>& options)
        : TrainerBase<D>(device, learner.params(), options.optimizer, initial_scale(), options.parallel),
          trained_(learner),
          max_batch_(options.max_batch) {}
    virtual ~LearnerTrainer() = default;

    /// Adds the gradients of one micro-batch of device images (batch, 3, r, r) and labels (batch).
    virtual void accumulate(const T* images, const std::int32_t* labels, Index batch) = 0;
    /// Makes the class vectors of the present prompts ready for logits().
    virtual void begin_evaluation() = 0;
    /// logits (batch, classes) of device images with the present prompts.
    virtual void logits(const T* images, Index batch, T* out) = 0;
    /// Number of classes N.
    virtual Index classes() const = 0;

    /// See Trainer.
    virtual void end_epoch(Index) {}
    /// See Trainer.
    virtual void finish() {}
    /// Parameters, optimizer, loss scale: a checkpoint that resumes bit for bit.
    virtual void save(TensorMap& state) const {
        trained_.params().save(state);
        this->optimizer().save(state);
    }
    /// See Trainer.
    virtual void load(const TensorMap& state) {
        trained_.params().load_all(state);
        this->optimizer().load(state);
    }

    /// One step with learning rate `rate`.
    void step(const T* images, const std::int32_t* labels, Index batch, double rate) {
        this->params().clear_gradients();
        accumulate(images, labels, batch);
        this->update(rate);
    }

    /// A recorded step was queued again. Throws Error for an optimizer that cannot be repeated.
    void replayed() { this->optimizer().replayed(); }
    /// What is trained.
    PromptLearner<D>& learner() { return trained_; }

protected:
    /// Throws Error for more images than were planned.
    void check_batch(Index batch) const {
        require(batch <= max_batch_, "a batch of ", batch, " images, but ", max_batch_, " were planned");
    }

private:
    static LossScaleConfig initial_scale() {
        LossScaleConfig config;
        config.initial = 1024;  // about PromptKD's weight of 1000
        return config;
    }

    PromptLearner<D>& trained_;
    Index max_batch_;
};

/// One step as a learner's regularization sees it, in device memory. Rows: u and du (batch, embed), w and dw (classes,
/// embed), logits and d_logits (batch, classes).
template <class T>
struct LearnerStep {
    const T* images = nullptr;                            ///< the step's images
    Index batch = 0, classes = 0, embed = 0;              ///< B, N and e
    double logit_scale = 1;                               ///< exp(s)
    const T *u = nullptr, *w = nullptr;                   ///< normalised image and class features
    const T* logits = nullptr;                            ///< exp(s)·u·wᵀ
    T *d_logits = nullptr, *du = nullptr, *dw = nullptr;  ///< what it adds gradients to
    T* row_loss = nullptr;                                ///< scratch, max(batch, classes)
    T* loss = nullptr;                                    ///< what it adds its loss to
};

/// What a learner adds to the cross-entropy: terms of the logits first, then terms of the normalised features.
template <Device D>
class Regularization {
public:
    using T = typename D::Scalar;
    virtual ~Regularization() = default;
    /// Adds its terms of the logits to loss and d_logits.
    virtual void add_logit_terms(const LearnerStep<T>&) {}
    /// Adds its terms of the features to loss, du and dw.
    virtual void add_feature_terms(const LearnerStep<T>&) {}
};

/// Trains a prompt learner that has one text branch for all images: both encoders, cross-entropy over cosine logits,
/// its regularization where it has one, and the update. Nothing is allocated after the constructor.
template <Device D>
class PromptTrainer : public LearnerTrainer<D> {
    using Base = LearnerTrainer<D>;
    using Base::device_;

public:
    using T = typename D::Scalar;

    /// `texts` are the class prompts; their layout says where the learner's context stands. `regularization` may be
    /// null. Device, model and learner must outlive the trainer.
    PromptTrainer(D& device, const ClipModel<D>& model, PromptLearner<D>& learner, const ContextTexts& texts,
                  const TrainerOptions<D>& options, std::unique_ptr<Regularization<D>> regularization = nullptr)
        : Base(device, learner, options),
          model_(model),
          learner_(learner),
          text_(device, model.text(), texts.tokens, texts.layout, learner.deep_text_prompts(), options.class_chunk,
                options.savings),
          regularization_(std::move(regularization)),
          table_(
              model.vision().place_prompts(device, learner.visual() ? learner.visual()->tokens : 0, options.max_batch)),
          arena_(device),
          text_features_(device, text_.classes() * model.text().embed()),
          image_features_(device, options.max_batch * model.vision().embed()) {
        {
            PlanningScope<D> planning(device);
            accumulate(nullptr, nullptr, options.max_batch);
            begin_evaluation();
            logits(nullptr, options.max_batch, nullptr);
        }
        arena_.bind();
        if (!learner.context()) class_features();  // constant: computed once
    }

    void accumulate(const T* images, const std::int32_t* labels, Index batch) override {
        this->check_batch(batch);
        arena_.reset();
        learner_.make_prompts();
        Features f = forward(images, batch);
        typename Arena<D>::Scope scope(arena_);
        LearnerStep<T> s = step_of(images, batch, f);
        T* logits = arena_.template scratch<T>(batch * s.classes);
        s.logits = logits;
        logits_of(f.u, text_features_.data(), logits, batch);
        cross_entropy_loss(device_, s.logits, labels, s.d_logits, s.row_loss, s.loss, batch, s.classes);
        if (regularization_) regularization_->add_logit_terms(s);
        const T* d_logits = s.d_logits;
        cosine_logits_backward(device_, d_logits, s.w, s.du, batch, s.classes, s.embed, s.logit_scale);
        cosine_logits_backward_vectors(device_, d_logits, s.u, s.dw, batch, s.classes, s.embed, s.logit_scale);
        if (regularization_) regularization_->add_feature_terms(s);
        this->share_loss(batch);
        backward(s, f);
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
    /// Bytes of activations and temporaries of one step.
    std::size_t arena_bytes() const { return arena_.peak(); }

private:
    /// Normalised image features, and the reciprocal lengths of both branches' features.
    struct Features {
        T *u = nullptr, *inverse_u = nullptr, *inverse_w = nullptr;
    };

    const T* context() const { return learner_.context() ? learner_.context()->value : nullptr; }

    Features forward(const T* images, Index batch) {
        const Index embed = model_.vision().embed();
        Features f;
        f.u = arena_.template keep<T>(batch * embed);
        f.inverse_u = arena_.template keep<T>(batch);
        f.inverse_w = arena_.template keep<T>(text_.classes());
        if (learner_.context()) {
            text_.forward(arena_, context(), learner_.text(), text_features_.data(), true);
            normalize_forward(device_, static_cast<const T*>(text_features_.data()), text_features_.data(), f.inverse_w,
                              text_.classes(), embed);
        }
        model_.vision().forward(device_, arena_, images, batch, learner_.visual(), table_.view(batch), f.u,
                                learner_.visual() ? &vision_tape_ : nullptr);
        normalize_forward(device_, static_cast<const T*>(f.u), f.u, f.inverse_u, batch, embed);
        return f;
    }

    /// The step's sizes and its temporaries, but for the logits.
    LearnerStep<T> step_of(const T* images, Index batch, const Features& f) {
        LearnerStep<T> s;
        s.images = images;
        s.batch = batch;
        s.classes = text_.classes();
        s.embed = model_.vision().embed();
        s.logit_scale = model_.logit_scale();
        s.u = f.u;
        s.w = text_features_.data();
        s.d_logits = arena_.template scratch<T>(batch * s.classes);
        s.du = arena_.template scratch<T>(batch * s.embed);
        s.dw = arena_.template scratch<T>(s.classes * s.embed);
        s.row_loss = arena_.template scratch<T>(std::max(batch, s.classes));
        s.loss = this->device_loss();
        return s;
    }

    void backward(const LearnerStep<T>& s, const Features& f) {
        if (learner_.visual()) {
            this->scale_gradient(s.du, s.batch * s.embed, s.batch);
            normalize_backward(device_, s.u, static_cast<const T*>(f.inverse_u), s.du, s.batch, s.embed);
            model_.vision().backward(device_, arena_, s.du, *learner_.visual(), table_.view(s.batch), vision_tape_);
        }
        if (learner_.context()) {
            this->scale_gradient(s.dw, s.classes * s.embed, s.batch);
            normalize_backward(device_, s.w, static_cast<const T*>(f.inverse_w), s.dw, s.classes, s.embed);
            text_.backward(arena_, s.dw, context(), learner_.context()->grad, learner_.text());
        }
    }

    const ClipModel<D>& model_;
    PromptLearner<D>& learner_;
    TextBranch<D> text_;
    std::unique_ptr<Regularization<D>> regularization_;
    PlacementTable<D> table_;
    Arena<D> arena_;
    Buffer<D, T> text_features_, image_features_;
    VisionTape<D> vision_tape_;
};

/// What the methods of learner/registry.hpp share: cross-entropy alone, no frozen features. A method hides what it does
/// otherwise.
struct PlainMethod {
    /// The frozen class features that its training keeps close to; empty for none.
    template <Device D>
    static std::vector<typename D::Scalar> frozen_features(const FrozenClip<D>&, const std::vector<std::string>&,
                                                           const ContextOptions&) {
        return {};
    }
    /// Cross-entropy alone; see make_trainer() in learner/registry.hpp.
    template <Device D>
    static std::unique_ptr<LearnerTrainer<D>> make_trainer(D& device, const ClipModel<D>& model,
                                                           PromptLearner<D>& learner,
                                                           const LearnerTexts<typename D::Scalar>& texts, const Recipe&,
                                                           const TrainerOptions<D>& options) {
        return std::make_unique<PromptTrainer<D>>(device, model, learner, texts.prompts, options);
    }
};

}  // namespace promptkd
