// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/patch_passes.hpp>
#include <promptkd/distill/student.hpp>
#include <promptkd/loss/distillation.hpp>
#include <promptkd/op/cosine.hpp>

#include <vector>

namespace promptkd {

/// What the patches of a batch are taught, in device memory.
template <class T>
struct PatchTargets {
    const T* logits = nullptr;  ///< (batch·cells, classes): the teacher's, of the region that a patch belongs to
    const T* shares = nullptr;  ///< (batch·cells): weights of the patches, with a sum of 1
};

/// Loss and gradients of a student's patches: Σ share·τ²·KL(σ(q_t/τ) ‖ σ(q_s/τ)) with q_s = exp(s_s)·u_s·Wᵀ, u_s the
/// normalised features of its patches behind the projector, whose BatchNorm takes the patches of the batch together.
template <Device D>
class DenseDistiller {
public:
    using T = typename D::Scalar;

    /// With the teacher's class vectors (classes, e_t) of length 1. `student` must outlive it. Throws Error when they
    /// do not fit the student, which must be a vision transformer.
    DenseDistiller(Student<D>& student, const std::vector<T>& class_vectors, const DenseOptions& options,
                   double temperature)
        : student_(&student),
          temperature_(temperature),
          passes_(student.device(), student.encoder(), student.prompts(), options, student.max_batch()),
          vectors_(student.device(), class_vectors),
          loss_(student.device(), 1),
          arena_(student.device()) {
        classes_ = vectors_.size() / student.config().embed;
        require(classes_ > 0 && classes_ * student.config().embed == vectors_.size(),
                "class vectors: ", vectors_.size(), " values are not rows of ", student.config().embed);
    }

    /// Patches of images of a size.
    GridSize grid(const PixelSize& size) const { return passes_.grid(size); }

    /// Adds the gradients of device images (batch, 3, height, width) to the student's parameters.
    void accumulate(const T* images, const PixelSize& size, const PatchTargets<T>& targets, Index batch) {
        const PatchPass<T> pass = passes_.pass(size, batch);
        const Index rows = batch * pass.grid.cells();
        if (logits_.size() < rows * classes_) logits_ = Buffer<D, T>(student_->device(), rows * classes_);
        if (!(size == planned_) || batch > planned_batch_) {
            arena_.plan([&] { step(pass, nullptr, {}, batch); });
            planned_ = size;
            planned_batch_ = batch;
        }
        arena_.reset();
        step(pass, images, targets, batch);
        student_->patch_projector().count_batch();
    }

    /// The loss of the last step.
    double loss() const { return static_cast<double>(loss_.to_host().front()); }
    /// The same in device memory.
    T* loss_on_device() { return loss_.data(); }
    /// The student's logits (batch·cells, classes) in the last step.
    const Buffer<D, T>& logits() const { return logits_; }

private:
    void step(const PatchPass<T>& pass, const T* images, const PatchTargets<T>& targets, Index batch) {
        D& device = student_->device();
        const Workspace<D> w{device, arena_};
        const WorkspaceScope scope(w, Keep::no);
        const Index rows = batch * pass.grid.cells(), embed = student_->config().embed;
        const Matrix<const T> pixels(images, batch, pass.grid.image_values());
        VisionTape<D> vision;
        typename Projector<D>::Tape projector;
        const Matrix<T> encoded = keep<T>(w, rows, student_->model().vision().embed()), unit = keep<T>(w, rows, embed);
        T* const inverse = keep<T>(w, rows);
        student_->encoder().forward_patches(w, pixels, pass, encoded, &vision);
        student_->patch_projector().forward_training(w, encoded, unit, projector);
        normalize_forward(device, unit, unit, inverse);
        const Matrix<T> logits = logits_.matrix(rows, classes_), d_logits = scratch<T>(w, rows, classes_);
        const Matrix<const T> vectors = vectors_.matrix(classes_, embed);
        cosine_logits(device, unit, vectors, student_->logit_scale(), logits);
        shared_distillation_loss(w, Matrix<const T>(targets.logits, rows, classes_), logits, targets.shares, d_logits,
                                 {loss_.data(), temperature_});
        const Matrix<T> d_unit = scratch<T>(w, rows, embed);
        cosine_logits_backward(device, d_logits, vectors, student_->logit_scale(), d_unit);
        normalize_backward(device, unit, inverse, d_unit);
        const Matrix<T> d_encoded = scratch<T>(w, encoded.rows, encoded.columns);
        student_->patch_projector().backward(w, d_unit, d_encoded, projector);
        student_->encoder().backward_patches(w, d_encoded, pass, vision);
    }

    Student<D>* student_;
    double temperature_;
    PatchPasses<D> passes_;
    Index classes_ = 0;
    Buffer<D, T> vectors_, loss_, logits_;
    Arena<D> arena_;
    PixelSize planned_;
    Index planned_batch_ = 0;
};

}  // namespace promptkd
