// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/image_tower.hpp>
#include <promptkd/distill/student.hpp>
#include <promptkd/loss/distillation.hpp>
#include <promptkd/loss/feature_distance.hpp>
#include <promptkd/op/cosine.hpp>
#include <promptkd/optim/loss_scale.hpp>
#include <promptkd/optim/optimizer.hpp>

#include <memory>
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
    KdLoss kd = KdLoss::logits;  ///< what is imitated
    double temperature = 1;      ///< τ
    double kd_weight = 1000;     ///< weight of the loss
    double stay_close = 0;       ///< weight of the regularisation towards the frozen student; 0: none (published)
    StayCloseTo stay_close_to = StayCloseTo::features;  ///< what is kept close, with stay_close > 0
    OptimizerConfig optimizer;                          ///< update rule
    LossScaleConfig loss_scale;                         ///< on a device that stores activations in fp16
};

/// What a student's features are compared with, normalised, on the host.
template <class T>
struct ClassVectors {
    std::vector<T> shared;  ///< W (classes, e_t): the teacher's text features
    std::vector<T> own;     ///< W₀ (classes, e_s): the student's own, needed to stay close to its own logits alone
};

/// One batch of n images as an objective sees it, in device memory.
template <class T>
struct StudentBatch {
    Matrix<const T> images;   ///< (n, 3·r·r)
    Matrix<const T> target;   ///< (n, target_size()): the teacher's
    Matrix<const T> unit;     ///< (n, e_t): the student's normalised features u_s
    Matrix<const T> encoded;  ///< (n, e_s): its encoder's features in front of the projector, as they are
};

/// Where an objective writes, in device memory.
template <class T>
struct StudentGradients {
    Matrix<T> d_unit;     ///< (n, e_t): with respect to u_s
    Matrix<T> d_encoded;  ///< (n, e_s): with respect to `encoded`; no data unless reads_encoded()
    T* loss = nullptr;    ///< one number
};

/// What a Distiller minimises.
///   target_size(): values of a target's row.
///   reads_encoded(): whether the loss also depends on the encoder's features in front of the projector.
///   evaluate(workspace, batch, out): writes loss and gradients; temporaries come from the workspace.
template <class O, class D>
concept Objective = Device<D> &&
    requires(O& o, const O& c, const Workspace<D>& w, const StudentBatch<typename D::Scalar>& batch,
             const StudentGradients<typename D::Scalar>& out) {
    { c.target_size() } -> std::convertible_to<Index>;
    { c.reads_encoded() } -> std::convertible_to<bool>;
    o.evaluate(w, batch, out);
};

/// PromptKD's objective (sections 3.3 and 4.4):
///   kd_weight·τ²·KL(σ(q_t/τ) ‖ σ(q_s/τ)), q_s = exp(s_s)·u_s·Wᵀ, or kd_weight·mean|u_s − u_t| or ·mean(u_s − u_t)²;
///   with stay_close λ > 0 also λ·mean|v − v₀|, where v are the student encoder's own normalised features and v₀ those
///   of the same encoder without prompts, or λ·KL(σ(exp(s_s)·v₀·W₀ᵀ) ‖ σ(q_s)): its zero-shot prediction.
template <Device D>
class DistillationObjective {
public:
    using T = typename D::Scalar;

    /// For batches of at most `max_batch` images. Throws Error when the class vectors do not fit the student.
    DistillationObjective(Student<D>& student, const ClassVectors<T>& vectors, const DistillationConfig& config,
                          Index max_batch)
        : device_(student.device()),
          config_(config),
          embed_(student.config().embed),
          classes_(static_cast<Index>(vectors.shared.size()) / embed_),
          own_embed_(student.model().vision().embed()),
          logit_scale_(student.logit_scale()),
          vectors_(device_, vectors.shared) {
        require(classes_ > 0 && static_cast<Index>(vectors.shared.size()) == classes_ * embed_,
                "class vectors: ", vectors.shared.size(), " values are not rows of ", embed_);
        if (config.stay_close <= 0) return;
        frozen_ = std::make_unique<FrozenImageTower<D>>(device_, student.model(), nullptr, max_batch);
        if (config.stay_close_to == StayCloseTo::features) return;
        require(static_cast<Index>(vectors.own.size()) == classes_ * own_embed_,
                "to stay close to its own logits the student needs its text features of the ", classes_, " classes, (",
                classes_, ", ", own_embed_, ") values; ", vectors.own.size(), " are given");
        own_vectors_ = Buffer<D, T>(device_, vectors.own);
        frozen_logits_ = Buffer<D, T>(device_, max_batch * classes_);
    }

    /// Number of classes N.
    Index classes() const { return classes_; }
    /// The teacher's logits, or its features.
    Index target_size() const { return config_.kd == KdLoss::logits ? classes_ : embed_; }
    /// Whether the loss depends on the encoder's own features too.
    bool reads_encoded() const { return frozen_ && config_.stay_close_to == StayCloseTo::features; }

    /// Loss and gradients of a batch.
    void evaluate(const Workspace<D>& w, const StudentBatch<T>& in, const StudentGradients<T>& out) {
        device_.zero(out.loss, sizeof(T));
        Matrix<const T> frozen;
        if (frozen_) frozen = {frozen_->encode(in.images.data, in.images.rows), in.images.rows, own_embed_};
        const bool own_logits = frozen_ && config_.stay_close_to == StayCloseTo::logits;
        if (config_.kd == KdLoss::logits || own_logits)
            add_logit_losses(w, in, frozen, out);
        else
            zero(device_, out.d_unit);
        if (config_.kd == KdLoss::l1)
            add_absolute_difference_loss(w, in.unit, in.target, config_.kd_weight, out.d_unit, out.loss);
        if (config_.kd == KdLoss::mse)
            add_squared_difference_loss(w, in.unit, in.target, config_.kd_weight, out.d_unit, out.loss);
        if (reads_encoded()) stay_close(w, in, frozen, out);
    }

private:
    /// The terms that go through the student's logits, whose gradient becomes d_unit.
    void add_logit_losses(const Workspace<D>& w, const StudentBatch<T>& in, Matrix<const T> frozen,
                          const StudentGradients<T>& out) {
        const WorkspaceScope scope(w);
        const Index n = in.unit.rows;
        const Matrix<T> logits = scratch<T>(w, n, classes_);
        const Matrix<T> d_logits = scratch<T>(w, n, classes_);
        const Matrix<const T> vectors = vectors_.matrix(classes_, embed_);
        cosine_logits(device_, in.unit, vectors, logit_scale_, logits);
        const bool kd = config_.kd == KdLoss::logits;
        if (kd)
            distillation_loss(w, in.target, logits, d_logits, out.loss,
                              {config_.temperature, config_.kd_weight, Accumulate::no});
        if (frozen_ && config_.stay_close_to == StayCloseTo::logits) {
            const Matrix<T> zero_shot = frozen_logits_.matrix(n, classes_);
            cosine_logits(device_, frozen, own_vectors_.matrix(classes_, own_embed_), logit_scale_, zero_shot);
            distillation_loss(w, zero_shot, logits, d_logits, out.loss,
                              {1.0, config_.stay_close, kd ? Accumulate::yes : Accumulate::no});
        }
        cosine_logits_backward(device_, d_logits, vectors, logit_scale_, out.d_unit);
    }

    void stay_close(const Workspace<D>& w, const StudentBatch<T>& in, Matrix<const T> frozen,
                    const StudentGradients<T>& out) {
        const WorkspaceScope scope(w);
        const Matrix<T> own = scratch<T>(w, in.encoded.rows, own_embed_);
        T* inverse = scratch<T>(w, in.encoded.rows);
        normalize_forward(device_, in.encoded, own, inverse);
        zero(device_, out.d_encoded);
        add_absolute_difference_loss(w, own, frozen, config_.stay_close, out.d_encoded, out.loss);
        normalize_backward(device_, own, inverse, out.d_encoded);
    }

    D& device_;
    DistillationConfig config_;
    Index embed_, classes_, own_embed_;
    double logit_scale_;
    Buffer<D, T> vectors_, own_vectors_, frozen_logits_;
    std::unique_ptr<FrozenImageTower<D>> frozen_;
};

}  // namespace promptkd
