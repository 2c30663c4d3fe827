// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/learner/ivlp.hpp>
#include <promptkd/learner/promptsrc_templates.hpp>
#include <promptkd/loss/distillation.hpp>
#include <promptkd/loss/feature_distance.hpp>
#include <promptkd/op/elementwise.hpp>

#include <cmath>
#include <optional>

/// PromptSRC (Khattak et al., Self-regulating Prompts, ICCV 2023): IVLP's prompts, kept close to the frozen model, with
/// the loss of a batch
///
///     L = CE(p, y) + λ_text·mean|w − w₀| + λ_image·mean|u − u₀| + λ_logit·KL(p₀ ‖ p)          (section 3.2; 25, 10, 1)
///
/// u, w: normalised image and class features with prompts, p = softmax(exp(s)·u·wᵀ); u₀, w₀, p₀ =
/// softmax(exp(s)·u₀·w₀ᵀ): those of the frozen model, w₀ averaged over 60 texts of each class before it is normalised
/// (section 3.4). The result of a training is the Gaussian-weighted mean of the prompts after each epoch (section 3.3).

namespace promptkd {

/// g_t ∝ exp(−(t − mean)²/(2·deviation²)), t = 1…epochs, Σ g = 1 (PromptSRC, section 3.3; deviation is the standard
/// deviation).
inline std::vector<double> gaussian_weights(Index epochs, double mean, double deviation) {
    require(epochs > 0 && deviation > 0, "Gaussian aggregation needs at least one epoch and a positive deviation");
    std::vector<double> weights;
    double total = 0;
    for (Index t = 1; t <= epochs; ++t) {
        const double z = (static_cast<double>(t) - mean) / deviation;
        total += weights.emplace_back(std::exp(-0.5 * z * z));
    }
    require(total > 0, "Gaussian aggregation: the mean ", mean, " is too far from the ", epochs,
            " epochs; every weight is 0");
    for (double& w : weights) w /= total;
    return weights;
}

/// PromptSRC's Gaussian prompt aggregation: the weighted sum of the prompts after every epoch.
template <Device D>
class PromptAggregation {
public:
    using T = typename D::Scalar;

    /// Of `params`, which outlive this, with the weight of each epoch.
    PromptAggregation(ParamSet<D>& params, std::vector<double> weights)
        : params_(&params), weights_(std::move(weights)), total_(params.device(), params.size()) {
        params.device().zero(total_.data(), static_cast<std::size_t>(params.size()) * sizeof(T));
    }

    /// Adds the present prompts with the weight of `epoch` (from 0), after its last update.
    void add(Index epoch) {
        add_scaled(params_->device(), weights_.at(static_cast<std::size_t>(epoch)),
                   static_cast<const T*>(params_->values()), total_.data(), params_->size());
    }

    /// Replaces the prompts by the aggregated ones, after the last epoch.
    void apply() {
        params_->device().copy(params_->values(), total_.data(), static_cast<std::size_t>(params_->size()) * sizeof(T));
    }

    /// State for a checkpoint.
    void save(TensorMap& map) const { map.tensors["aggregation"] = make_tensor(total_.to_host(), {total_.size()}); }
    /// What save() wrote. Throws Error when it does not fit.
    void load(const TensorMap& map) {
        const std::vector<T> values = map.at("aggregation", {total_.size()}).template to<T>();
        params_->device().upload(total_.data(), values.data(), values.size() * sizeof(T));
        params_->device().synchronize();
    }
    /// The weight of each epoch.
    const std::vector<double>& weights() const { return weights_; }

private:
    ParamSet<D>* params_;
    std::vector<double> weights_;
    Buffer<D, T> total_;
};

/// What PromptSRC's training adds to cross-entropy and to the last prompts.
template <class T>
struct PromptSrcTerms {
    std::vector<T> frozen_text;                                    ///< w₀ (classes, embed), normalised
    double text_weight = 25, image_weight = 10, logit_weight = 1;  ///< of the three terms; the published values
    std::vector<double> epoch_weights;                             ///< of the aggregation; empty: the last prompts stay
};

/// λ_logit·KL(p₀ ‖ p) + λ_text·mean|w − w₀| + λ_image·mean|u − u₀| (section 3.2).
template <Device D>
class SelfRegulation final : public Regularization<D> {
public:
    using T = typename D::Scalar;

    /// Throws Error unless there is a frozen feature for each of `classes`.
    SelfRegulation(D& device, const ClipModel<D>& model, const PromptSrcTerms<T>& terms, Index classes, Index max_batch)
        : device_(device),
          terms_(terms),
          frozen_text_(device, terms.frozen_text),
          frozen_images_(device, model, nullptr, max_batch),
          frozen_logits_(device, max_batch * classes) {
        const Index embed = model.vision().embed();
        require(static_cast<Index>(terms.frozen_text.size()) == classes * embed,
                "self-regulation: ", terms.frozen_text.size(), " frozen text values for ", classes, " classes of ",
                embed);
    }

    /// See Regularization.
    void add_logit_terms(const Workspace<D>& w, const LearnerStep<T>& s) override {
        frozen_u_ = {frozen_images_.encode(s.images.data, s.images.rows), s.u.rows, s.u.columns};
        const Matrix<T> logits = frozen_logits_.matrix(s.logits.rows, s.logits.columns);
        cosine_logits(device_, frozen_u_, frozen_text_.matrix(s.w.rows, s.w.columns), s.logit_scale, logits);
        distillation_loss(w, logits, s.logits, s.d_logits, s.loss, {1.0, terms_.logit_weight, Accumulate::yes});
    }

    /// See Regularization.
    void add_feature_terms(const Workspace<D>& w, const LearnerStep<T>& s) override {
        const Matrix<const T> frozen_w = frozen_text_.matrix(s.w.rows, s.w.columns);
        add_absolute_difference_loss(w, s.w, frozen_w, terms_.text_weight, s.dw, s.loss);
        add_absolute_difference_loss(w, s.u, frozen_u_, terms_.image_weight, s.du, s.loss);
    }

private:
    D& device_;
    PromptSrcTerms<T> terms_;
    Buffer<D, T> frozen_text_;
    FrozenImageTower<D> frozen_images_;
    Buffer<D, T> frozen_logits_;
    Matrix<const T> frozen_u_;
};

/// Trains IVLP's prompts by PromptSRC.
template <Device D>
class PromptSrcTrainer final : public PromptTrainer<D> {
    using Base = PromptTrainer<D>;

public:
    using T = typename D::Scalar;

    /// `texts`: see PromptTrainer. Throws Error where `terms` do not fit.
    PromptSrcTrainer(D& device, const ClipModel<D>& model, PromptLearner<D>& learner, const ContextTexts& texts,
                     const PromptSrcTerms<T>& terms, const TrainerOptions<D>& options)
        : Base(device, model, learner, texts, options,
               std::make_unique<SelfRegulation<D>>(device, model, terms, texts.tokens.count, options.max_batch)) {
        if (!terms.epoch_weights.empty()) aggregation_.emplace(learner.params(), terms.epoch_weights);
    }

    /// Adds the epoch's prompts to the aggregate.
    void end_epoch(Index epoch) override {
        if (aggregation_) aggregation_->add(epoch);
    }
    /// The aggregated prompts take the place of the last ones.
    void finish() override {
        if (aggregation_) aggregation_->apply();
    }
    void save(TensorMap& state) const override {
        Base::save(state);
        if (aggregation_) aggregation_->save(state);
    }
    /// See Trainer.
    void load(const TensorMap& state) override {
        Base::load(state);
        if (aggregation_) aggregation_->load(state);
    }

private:
    std::optional<PromptAggregation<D>> aggregation_;
};

/// Its line in the registry. Its checkpoints hold IVLP's prompts and, as published, the frozen image encoder.
struct PromptSrcMethod {
    /// See LearnerInfo.
    static Recipe published(Index) { return {0.0025, 20, 4, 4, 4, 9, {}}; }

    /// See LearnerInfo.
    static bool recognises(const TensorMap& map) {
        return IvlpMethod::recognises(map) && detail::holds_any(map, frozen_twin_prefix);
    }

    /// The registry's entry.
    static LearnerInfo info() {
        LearnerInfo info;
        info.name = "promptsrc";
        info.title = "PromptSRC";
        info.paper =
            "Khattak et al., Self-regulating Prompts: Foundational Model Adaptation without Forgetting, ICCV 2023";
        info.summary = "deep prompts in each branch, kept close to the frozen model and averaged over the epochs";
        info.options = {{"text-weight", 25, "weight of the text feature loss", false, "25"},
                        {"image-weight", 10, "weight of the image feature loss", false, "10"},
                        {"gaussian-mean", 15, "epoch with the largest weight", false, ""},
                        {"gaussian-deviation", 1, "its standard deviation in epochs", true, ""}};
        info.published = &published;
        info.recognises = &recognises;
        info.fixed_prompts = &detail::prompts_as_they_are;
        return info;
    }

    /// See make_learner().
    template <Device D>
    static std::unique_ptr<PromptLearner<D>> make(D& device, const ClipModel<D>& model, const Recipe& recipe, Index) {
        return IvlpMethod::make(device, model, recipe, 0);
    }

    /// w₀: averaged over 60 texts of each class, then normalised.
    template <Device D>
    static std::vector<typename D::Scalar> frozen_features(const FrozenClip<D>& clip,
                                                           const std::vector<std::string>& names,
                                                           const ContextOptions&) {
        return frozen_class_features(clip, names, promptsrc_templates);
    }

    /// See make_trainer().
    template <Device D>
    static std::unique_ptr<LearnerTrainer<D>> make_trainer(D& device, const ClipModel<D>& model,
                                                           PromptLearner<D>& learner,
                                                           const LearnerTexts<typename D::Scalar>& texts,
                                                           const Recipe& recipe, const TrainerOptions<D>& options) {
        if (texts.frozen.empty()) return PlainMethod::make_trainer(device, model, learner, texts, recipe, options);
        PromptSrcTerms<typename D::Scalar> terms;
        terms.frozen_text = texts.frozen;
        terms.text_weight = recipe.option("text-weight", terms.text_weight);
        terms.image_weight = recipe.option("image-weight", terms.image_weight);
        const double deviation = recipe.option("gaussian-deviation");
        if (deviation > 0)
            terms.epoch_weights = gaussian_weights(recipe.epochs, recipe.option("gaussian-mean"), deviation);
        return std::make_unique<PromptSrcTrainer<D>>(device, model, learner, texts.prompts, terms, options);
    }
};

}  // namespace promptkd
