// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/image_tower.hpp>
#include <promptkd/loss/distillation.hpp>
#include <promptkd/loss/feature_distance.hpp>
#include <promptkd/op/cosine.hpp>
#include <promptkd/optim/loss_scale.hpp>
#include <promptkd/optim/optimizer.hpp>

#include <string>
#include <vector>

namespace promptkd {

/// What the student imitates: the teacher's logits by KL divergence (published), or its normalised features by mean
/// absolute (l1) or mean squared (mse) difference (the paper's ablation).
enum class KdLoss { logits, l1, mse };

/// What of the frozen student the prompted one is kept close to.
enum class StayCloseTo { features, logits };

/// "logits", "l1" or "mse". Throws Error for any other.
inline KdLoss parse_kd_loss(const std::string& name) {
    if (name == "logits") return KdLoss::logits;
    if (name == "l1") return KdLoss::l1;
    if (name == "mse") return KdLoss::mse;
    fail("unknown distillation loss '", name, "'; known: logits, l1, mse");
}

/// "features" or "logits". Throws Error for any other.
inline StayCloseTo parse_stay_close(const std::string& name) {
    if (name == "features") return StayCloseTo::features;
    if (name == "logits") return StayCloseTo::logits;
    fail("cannot stay close to '", name, "'; known: features, logits");
}

/// Settings of PromptKD's second stage; the defaults are the published ones.
struct DistillationConfig {
    KdLoss kd = KdLoss::logits;
    double temperature = 1;
    double kd_weight = 1000;
    double stay_close = 0;  ///< weight of the regularisation towards the frozen student; 0: none (published)
    StayCloseTo stay_close_to = StayCloseTo::features;
    OptimizerConfig optimizer;
    LossScaleConfig loss_scale;  ///< on a device that stores activations in fp16
};

/// The loss of a distillation, and its gradient with respect to the student's features:
///   kd_weight·τ²·KL(σ(q_t/τ) ‖ σ(q_s/τ)), q_s = exp(s_s)·u_s·Wᵀ, or kd_weight·mean|u_s − u_t| or ·mean(u_s − u_t)²;
///   with stay_close λ > 0 also λ·mean|v − v₀|, where v are the student encoder's own normalised features and v₀ those
///   of the same encoder without prompts, or λ·KL(σ(exp(s_s)·v₀·W₀ᵀ) ‖ σ(q_s)), W₀ being the student's own text
///   features: its zero-shot prediction.
template <Device D>
class DistillationObjective {
public:
    using T = typename D::Scalar;

    /// `class_vectors` W (classes, embed) and `own_vectors` W₀ (classes, e_s; needed to stay close to logits alone) are
    /// normalised and on the host. Throws Error when the sizes do not fit.
    DistillationObjective(D& device, const ClipModel<D>& student, Index embed, const std::vector<T>& class_vectors,
                          const std::vector<T>& own_vectors, const DistillationConfig& config, Index max_batch)
        : device_(device),
          config_(config),
          embed_(embed),
          classes_(static_cast<Index>(class_vectors.size()) / embed),
          own_embed_(student.vision().embed()),
          logit_scale_(student.logit_scale()),
          vectors_(device, class_vectors) {
        require(classes_ > 0 && static_cast<Index>(class_vectors.size()) == classes_ * embed,
                "class vectors: ", class_vectors.size(), " values are not rows of ", embed);
        if (config.stay_close <= 0) return;
        frozen_ = std::make_unique<FrozenImageTower<D>>(device, student, nullptr, max_batch);
        if (config.stay_close_to == StayCloseTo::features) return;
        require(static_cast<Index>(own_vectors.size()) == classes_ * own_embed_,
                "to stay close to its own logits the student needs its text features of the ", classes_, " classes, (",
                classes_, ", ", own_embed_, ") values; ", own_vectors.size(), " are given");
        own_vectors_ = Buffer<D, T>(device, own_vectors);
        frozen_logits_ = Buffer<D, T>(device, max_batch * classes_);
    }

    Index classes() const { return classes_; }
    Index embed() const { return embed_; }
    const T* vectors() const { return vectors_.data(); }
    /// Values of a target row: the teacher's logits, or its features.
    Index target_size() const { return config_.kd == KdLoss::logits ? classes_ : embed_; }
    /// Whether the loss also depends on the encoder's features in front of the projector.
    bool reads_encoded() const { return frozen_ && config_.stay_close_to == StayCloseTo::features; }

    /// Writes the loss of `batch` images to *loss, its gradient to d_unit (batch, embed) and, where reads_encoded(),
    /// to d_encoded (batch, e_s). `target` (batch, target_size()) is the teacher's; `unit` the student's normalised
    /// features, `encoded` its encoder's raw ones.
    void evaluate(Arena<D>& arena, const T* images, const T* target, Index batch, const T* unit, const T* encoded,
                  T* d_unit, T* d_encoded, T* loss) {
        typename Arena<D>::Scope scope(arena);
        T* row_loss = arena.template scratch<T>(batch);
        device_.zero(loss, sizeof(T));
        const T* frozen = frozen_ ? frozen_->encode(images, batch) : nullptr;
        const bool own_logits = frozen_ && config_.stay_close_to == StayCloseTo::logits;
        if (config_.kd == KdLoss::logits || own_logits)
            add_logit_losses(arena, target, frozen, batch, unit, d_unit, row_loss, loss);
        else
            device_.zero(d_unit, static_cast<std::size_t>(batch * embed_) * sizeof(T));
        if (config_.kd == KdLoss::l1)
            add_absolute_difference_loss(device_, unit, target, d_unit, row_loss, loss, batch, embed_,
                                         config_.kd_weight);
        if (config_.kd == KdLoss::mse)
            add_squared_difference_loss(device_, unit, target, d_unit, row_loss, loss, batch, embed_,
                                        config_.kd_weight);
        if (reads_encoded()) stay_close(arena, frozen, batch, encoded, d_encoded, row_loss, loss);
    }

private:
    /// The terms that go through the student's logits, whose gradient becomes d_unit.
    void add_logit_losses(Arena<D>& arena, const T* target, const T* frozen, Index batch, const T* unit, T* d_unit,
                          T* row_loss, T* loss) {
        typename Arena<D>::Scope scope(arena);
        T* logits = arena.template scratch<T>(batch * classes_);
        T* d_logits = arena.template scratch<T>(batch * classes_);
        const T* vectors = vectors_.data();
        cosine_logits(device_, unit, vectors, logits, batch, classes_, embed_, logit_scale_);
        const bool kd = config_.kd == KdLoss::logits;
        if (kd)
            distillation_loss(device_, target, static_cast<const T*>(logits), d_logits, row_loss, loss, batch, classes_,
                              config_.temperature, config_.kd_weight);
        if (frozen && config_.stay_close_to == StayCloseTo::logits) {
            cosine_logits(device_, frozen, static_cast<const T*>(own_vectors_.data()), frozen_logits_.data(), batch,
                          classes_, own_embed_, logit_scale_);
            distillation_loss(device_, static_cast<const T*>(frozen_logits_.data()), static_cast<const T*>(logits),
                              d_logits, row_loss, loss, batch, classes_, 1.0, config_.stay_close, kd);
        }
        cosine_logits_backward(device_, static_cast<const T*>(d_logits), vectors, d_unit, batch, classes_, embed_,
                               logit_scale_);
    }

    void stay_close(Arena<D>& arena, const T* frozen, Index batch, const T* encoded, T* d_encoded, T* row_loss,
                    T* loss) {
        typename Arena<D>::Scope scope(arena);
        T* own = arena.template scratch<T>(batch * own_embed_);
        T* inverse = arena.template scratch<T>(batch);
        normalize_forward(device_, encoded, own, inverse, batch, own_embed_);
        device_.zero(d_encoded, static_cast<std::size_t>(batch * own_embed_) * sizeof(T));
        add_absolute_difference_loss(device_, static_cast<const T*>(own), frozen, d_encoded, row_loss, loss, batch,
                                     own_embed_, config_.stay_close);
        normalize_backward(device_, static_cast<const T*>(own), static_cast<const T*>(inverse), d_encoded, batch,
                           own_embed_);
    }

    D& device_;
    DistillationConfig config_;
    Index embed_, classes_, own_embed_;
    double logit_scale_;
    Buffer<D, T> vectors_, own_vectors_, frozen_logits_;
    std::unique_ptr<FrozenImageTower<D>> frozen_;
};

}  // namespace promptkd
