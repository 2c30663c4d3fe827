// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/image_tower.hpp>
#include <promptkd/clip/text_branch.hpp>
#include <promptkd/learner/info.hpp>
#include <promptkd/learner/learner.hpp>
#include <promptkd/learner/texts.hpp>
#include <promptkd/loss/symmetric_distillation.hpp>
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

/// What the probabilities of a step's images are compared with: their labels, or what a teacher says of them (KDPL).
template <class T>
struct LearnerTargets {
    const std::int32_t* labels = nullptr;  ///< (batch), in device memory
    const T* teacher = nullptr;            ///< logits (batch, classes) in device memory; null: the labels count

    /// Those of the images from number `first` on, of so many classes.
    LearnerTargets from(Index first, Index classes) const {
        return {labels ? labels + first : nullptr, teacher ? teacher + first * classes : nullptr};
    }
};

/// Cross-entropy with the labels, or the symmetric divergence from the teacher.
template <Device D, class T>
void learner_loss(const Workspace<D>& w, ConstMatrix<T> logits, const LearnerTargets<T>& targets, Matrix<T> d_logits,
                  T* loss, const CrossEntropyOptions& options = {}) {
    if (!targets.teacher) return cross_entropy_loss(w, logits, targets.labels, d_logits, loss, options);
    const ConstMatrix<T> teacher(targets.teacher, logits.rows, logits.columns);
    symmetric_distillation_loss(w, teacher, logits, d_logits, loss, options);
}

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

    /// Adds the gradients of one micro-batch of device images (batch, 3, r, r) and what they are compared with.
    virtual void accumulate(const T* images, const LearnerTargets<T>& targets, Index batch) = 0;
    /// The same with labels (batch).
    void accumulate(const T* images, const std::int32_t* labels, Index batch) {
        accumulate(images, LearnerTargets<T>{labels, nullptr}, batch);
    }
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

/// One step as a learner's regularization sees it, in device memory.
template <class T>
struct LearnerStep {
    Matrix<const T> images;      ///< (batch, 3·r·r)
    double logit_scale = 1;      ///< exp(s)
    Matrix<const T> u, w;        ///< normalised image features (batch, embed) and class features (classes, embed)
    Matrix<const T> logits;      ///< exp(s)·u·wᵀ (batch, classes)
    Matrix<T> d_logits, du, dw;  ///< what it adds gradients to, in the same shapes
    T* loss = nullptr;           ///< what it adds its loss to
};

/// What a learner adds to the cross-entropy: terms of the logits first, then terms of the normalised features.
template <Device D>
class Regularization {
public:
    using T = typename D::Scalar;
    virtual ~Regularization() = default;
    /// Adds its terms of the logits to loss and d_logits.
    virtual void add_logit_terms(const Workspace<D>&, const LearnerStep<T>&) {}
    /// Adds its terms of the features to loss, du and dw.
    virtual void add_feature_terms(const Workspace<D>&, const LearnerStep<T>&) {}
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
          text_(device, learner.own_text() ? *learner.own_text() : model.text(), texts.tokens, texts.layout,
                {learner.deep_text_prompts(), options.class_chunk, options.savings}),
          regularization_(std::move(regularization)),
          table_(
              model.vision().place_prompts(device, learner.visual() ? learner.visual()->tokens : 0, options.max_batch)),
          arena_(device),
          text_features_(device, text_.classes() * model.text().embed()),
          image_features_(device, options.max_batch * model.vision().embed()) {
        arena_.plan([&] {
            accumulate(nullptr, LearnerTargets<T>(), options.max_batch);
            begin_evaluation();
            logits(nullptr, options.max_batch, nullptr);
        });
        steps_ = 0;
        if (!trains_text()) class_features();  // constant: computed once
    }

    PromptTrainer(D&, const ClipModel<D>&&, PromptLearner<D>&, const ContextTexts&, const TrainerOptions<D>&,
                  std::unique_ptr<Regularization<D>> = nullptr) = delete;

    using Base::accumulate;

    void accumulate(const T* images, const LearnerTargets<T>& targets, Index batch) override {
        this->check_batch(batch);
        arena_.reset();
        learner_.set_training(static_cast<std::uint32_t>(steps_++));
        learner_.make_prompts();
        const Workspace<D> w = workspace();
        const Features f = forward(w, pixels(images, batch));
        const WorkspaceScope scope(w);
        const Matrix<T> logits = scratch<T>(w, batch, text_.classes());
        LearnerStep<T> s;
        s.images = pixels(images, batch);
        s.logit_scale = learner_.logit_factor(model_);
        s.u = f.u;
        s.w = class_matrix();
        s.logits = logits;
        s.d_logits = scratch<T>(w, batch, text_.classes());
        s.du = scratch<T>(w, batch, embed());
        s.dw = scratch<T>(w, text_.classes(), embed());
        s.loss = this->device_loss();
        cosine_logits(device_, s.u, s.w, s.logit_scale, logits);
        learner_loss(w, s.logits, targets, s.d_logits, s.loss);
        if (regularization_) regularization_->add_logit_terms(w, s);
        cosine_logits_backward(device_, s.d_logits, s.w, s.logit_scale, s.du);
        cosine_logits_backward_vectors(device_, s.d_logits, s.u, s.logit_scale, s.dw);
        if (regularization_) regularization_->add_feature_terms(w, s);
        this->share_loss(batch);
        backward(w, s, f);
        learner_.backward_prompts();
    }

    void begin_evaluation() override { class_features(); }

    void logits(const T* images, Index batch, T* out) override {
        encode(images, batch, image_features_.data());
        cosine_logits(device_, image_features_.matrix(batch, embed()), class_matrix(), learner_.logit_factor(model_),
                      Matrix<T>(out, batch, text_.classes()));
    }

    /// Normalised class vectors (classes, embed) of the present prompts, in device memory; call before encode().
    Matrix<const T> class_features() {
        arena_.reset();
        learner_.set_training(std::nullopt);
        learner_.make_prompts();
        text_.forward(arena_, text_prompts(), class_matrix(), Keep::no);
        normalize_forward(device_, class_matrix(), class_matrix());
        return class_matrix();
    }

    /// Normalised image features (batch, embed) with the present prompts, into `features`.
    void encode(const T* images, Index batch, T* features) {
        arena_.reset();
        learner_.set_training(std::nullopt);
        learner_.make_prompts();
        const Matrix<T> u(features, batch, embed());
        encode_images(workspace(), pixels(images, batch), u, nullptr);
        normalize_forward(device_, u, u);
    }

    Index classes() const override { return text_.classes(); }

    void save(TensorMap& state) const override {
        Base::save(state);
        if (learner_.own_vision()) state.tensors["steps"] = make_tensor(std::vector<std::int64_t>{steps_}, {});
    }
    void load(const TensorMap& state) override {
        Base::load(state);
        if (learner_.own_vision()) steps_ = state.at("steps").to<std::int64_t>().at(0);
    }
    /// Bytes of activations and temporaries of one step.
    std::size_t arena_bytes() const { return arena_.peak(); }

private:
    /// Normalised image features, and the reciprocal lengths of both branches' features.
    struct Features {
        Matrix<T> u;
        T *inverse_u = nullptr, *inverse_w = nullptr;
    };

    Index embed() const { return model_.vision().embed(); }
    Workspace<D> workspace() { return {device_, arena_}; }
    Matrix<const T> pixels(const T* images, Index batch) const {
        const Index resolution = model_.vision().resolution();
        return {images, batch, 3 * resolution * resolution};
    }
    Matrix<T> class_matrix() { return text_features_.matrix(text_.classes(), embed()); }
    TextPrompts<T> text_prompts() const {
        return {learner_.context() ? learner_.context()->value : nullptr, learner_.text()};
    }
    PlacedPrompts<T> visual_prompts(Index batch) const { return {learner_.visual(), table_.view(batch)}; }

    Features forward(const Workspace<D>& w, Matrix<const T> images) {
        Features f;
        f.u = keep<T>(w, images.rows, embed());
        f.inverse_u = keep<T>(w, images.rows);
        f.inverse_w = keep<T>(w, text_.classes());
        if (trains_text()) {
            text_.forward(arena_, text_prompts(), class_matrix(), Keep::yes);
            normalize_forward(device_, class_matrix(), class_matrix(), f.inverse_w);
        }
        encode_images(w, images, f.u, trains_images() ? &vision_tape_ : nullptr);
        normalize_forward(device_, f.u, f.u, f.inverse_u);
        return f;
    }

    void backward(const Workspace<D>& w, const LearnerStep<T>& s, const Features& f) {
        const Index batch = s.u.rows;
        if (trains_images()) {
            this->scale_gradient(s.du.data, s.du.count(), batch);
            normalize_backward(device_, s.u, f.inverse_u, s.du);
            if (const VisionTransformer<D>* own = learner_.own_vision())
                own->backward(w, s.du, visual_prompts(batch), vision_tape_);
            else
                model_.vision().backward(w, s.du, visual_prompts(batch), vision_tape_);
        }
        if (trains_text()) {
            this->scale_gradient(s.dw.data, s.dw.count(), batch);
            normalize_backward(device_, s.w, f.inverse_w, s.dw);
            text_.backward(arena_, s.dw, text_prompts(), learner_.context() ? learner_.context()->grad : nullptr);
        }
    }

    /// Whether something behind the images, or the texts, is learned.
    bool trains_images() const { return learner_.visual() || learner_.own_vision(); }
    bool trains_text() const { return learner_.context() || learner_.own_text(); }

    /// Un-normalised features of images; `tape` null: inference.
    void encode_images(const Workspace<D>& w, Matrix<const T> images, Matrix<T> features, VisionTape<D>* tape) const {
        if (const VisionTransformer<D>* own = learner_.own_vision())
            own->forward(w, images, visual_prompts(images.rows), features, tape);
        else
            model_.vision().forward(w, images, visual_prompts(images.rows), features, tape);
    }

    const ClipModel<D>& model_;
    PromptLearner<D>& learner_;
    TextBranch<D> text_;
    std::unique_ptr<Regularization<D>> regularization_;
    PlacementTable<D> table_;
    Arena<D> arena_;
    Buffer<D, T> text_features_, image_features_;
    VisionTape<D> vision_tape_;
    std::int64_t steps_ = 0;  ///< micro-batches so far
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
