// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/lora.hpp>
#include <promptkd/learner/trainer.hpp>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>

namespace promptkd {

/// CLIP-LoRA (Zanella and Ben Ayed, Low-Rank Few-Shot Adaptation of Vision-Language Models, CVPRW 2024): W + B·A/√r at
/// queries, keys and values of every block of both towers, with dropout of what goes into A; cross-entropy with the
/// logit factor 100 and the data set's own text. Parameters `lora.{block}.attn.in_proj.{A,B}` of the image tower,
/// `text_lora.…` of the text tower; queries, keys and values have an A each.
template <Device D>
class ClipLora : public PromptLearner<D> {
public:
    using T = typename D::Scalar;

    /// Of `rank`; inputs are dropped with probability `dropout` in training. Throws Error for a model whose image tower
    /// is no transformer, and a rank that does not fit.
    ClipLora(D& device, const ClipModel<D>& model, Index rank, double dropout)
        : PromptLearner<D>(device), vision_(transformer_of(model)), text_(model.text()), dropout_(dropout) {
        LoraConfig config;
        config.rank = rank;
        config.scale = 1 / std::sqrt(static_cast<double>(rank));
        config.maps = {BlockMap::attention_in};
        config.separate_parts = true;
        image_updates_ = std::make_unique<LoraWeights<D>>(this->params_, vision_.transformer(), config);
        text_updates_ = std::make_unique<LoraWeights<D>>(this->params_, text_.transformer(), config, text_lora_prefix);
        this->params_.bind();
        image_updates_->adopt(vision_.transformer());
        text_updates_->adopt(text_.transformer());
    }

    void initialize(std::uint64_t seed, const std::vector<T>&) override {
        seed_ = seed;
        image_updates_->initialize_uniform(this->params_, seed);
        text_updates_->initialize_uniform(this->params_, seed);
    }

    void set_training(std::optional<std::uint32_t> step) override {
        const InputDropout dropout{step ? dropout_ : 0.0, seed_, 0, step.value_or(0)};
        image_updates_->set_dropout(vision_.transformer(), dropout);
        text_updates_->set_dropout(text_.transformer(), dropout);
    }

    const VisionTransformer<D>* own_vision() const override { return &vision_; }
    const TextTransformer<D>* own_text() const override { return &text_; }
    double logit_factor(const ClipModel<D>&) const override { return 100; }

private:
    static const VisionTransformer<D>& transformer_of(const ClipModel<D>& model) {
        require(model.vision().is_transformer(), model.source(),
                ": CLIP-LoRA updates the blocks of a vision transformer, which a ModifiedResNet has not");
        return model.vision().transformer();
    }

    VisionTransformer<D> vision_;
    TextTransformer<D> text_;
    double dropout_;
    std::uint64_t seed_ = 0;
    std::unique_ptr<LoraWeights<D>> image_updates_, text_updates_;
};

/// Its line in the registry. Published: rank 2, dropout 0.25, AdamW 2e-4 with weight decay 1e-2, cosine to 1e-6 by
/// step, 500 steps a shot, batches of 32.
struct ClipLoraMethod : PlainMethod {
    /// See LearnerInfo.
    static Recipe published(Index) { return {0.0002, 0, 32, 0, 0, 1, {}}; }

    /// See LearnerInfo.
    static bool recognises(const TensorMap& map) {
        return std::any_of(map.tensors.begin(), map.tensors.end(),
                           [](const auto& entry) { return entry.first.rfind(text_lora_prefix, 0) == 0; });
    }

    /// See LearnerInfo.
    static void complete(TrainingLoopConfig& loop, OptimizerConfig& rule, Index shots) {
        rule.kind = OptimizerKind::adamw;
        rule.adam.weight_decay = 1e-2;
        loop.schedule.schedule = Schedule::cosine_by_step;
        loop.schedule.warmup = Warmup::none;
        loop.schedule.last_lr = 1e-6;
        loop.max_steps = 500 * std::max<Index>(1, shots);
    }

    /// The registry's entry.
    static LearnerInfo info() {
        LearnerInfo info;
        info.name = "clip-lora";
        info.title = "CLIP-LoRA";
        info.paper = "Zanella and Ben Ayed, Low-Rank Few-Shot Adaptation of Vision-Language Models, CVPRW 2024";
        info.summary = "low-rank updates of queries, keys and values in every block of both encoders";
        info.options = {{"lora-rank", 2, "rank of the updates", true}, {"lora-dropout", 0.25, "of their inputs"}};
        info.takes_template = true;
        info.published = &published;
        info.complete = &complete;
        info.recognises = &recognises;
        info.fixed_prompts = &detail::prompts_as_they_are;
        return info;
    }

    /// See make_learner().
    template <Device D>
    static std::unique_ptr<PromptLearner<D>> make(D& device, const ClipModel<D>& model, const Recipe& recipe, Index) {
        const double rank = recipe.option("lora-rank", 2), dropout = recipe.option("lora-dropout", 0.25);
        require(rank == std::floor(rank), "CLIP-LoRA: the rank ", rank, " is no whole number");
        require(dropout >= 0 && dropout < 1, "CLIP-LoRA: a dropout of ", dropout,
                ", expected 0 or more and less than 1");
        return std::make_unique<ClipLora<D>>(device, model, static_cast<Index>(rank), dropout);
    }
};

}  // namespace promptkd
