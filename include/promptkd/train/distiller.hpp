// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/loss/distillation.hpp>
#include <promptkd/optim/sgd.hpp>
#include <promptkd/train/cosine.hpp>
#include <promptkd/train/image_tower.hpp>
#include <promptkd/train/student.hpp>

namespace promptkd {

/// Settings of PromptKD's second stage; the defaults are the published ones.
struct DistillationConfig {
    double temperature = 1;
    double kd_weight = 1000;
    SgdConfig sgd;
};

/// PromptKD's second stage, one step at a time: the teacher's logits of a batch of unlabelled images through the shared
/// class vectors, the student's, the distillation loss, the gradients of prompts and projector, the update. After the
/// constructor nothing is allocated.
template <Device D>
class Distiller {
public:
    using T = typename D::Scalar;

    /// `class_vectors` (classes, embed), normalised, on the host. Student and teacher must outlive the distiller;
    /// `teacher` may be null when every step brings stored logits. Throws Error when the sizes do not fit. `max_batch`
    /// images a step at most (0: as many as the student was planned for).
    Distiller(Student<D>& student, FrozenImageTower<D>* teacher, const std::vector<T>& class_vectors,
              const DistillationConfig& config, Index max_batch = 0)
        : device_(student.device()),
          student_(&student),
          teacher_(teacher),
          config_(config),
          optimizer_(student.params(), config.sgd),
          arena_(device_),
          classes_(static_cast<Index>(class_vectors.size()) / student.config().embed),
          vectors_(device_, class_vectors),
          max_batch_(max_batch > 0 ? max_batch : student.max_batch()),
          teacher_logits_(device_, max_batch_ * classes_),
          loss_(device_, 1) {
        const Index embed = student.config().embed;
        require(classes_ > 0 && static_cast<Index>(class_vectors.size()) == classes_ * embed,
                "class vectors: ", class_vectors.size(), " values are not rows of ", embed);
        require(!teacher || teacher->embed() == embed, "the teacher's features have ", teacher ? teacher->embed() : 0,
                " values, the class vectors ", embed);
        {
            PlanningScope<D> planning(device_);
            student_step(nullptr, teacher_logits_.data(), max_batch_, 0);
        }
        arena_.bind();
    }

    /// One training step on device images (batch, 3, resolution, resolution) with learning rate `rate`. The loss stays
    /// on the device until loss() reads it.
    void step(const T* images, Index batch, double rate) {
        require(teacher_ != nullptr, "this distiller has no teacher; give it stored logits");
        teacher_logits(images, batch);
        student_step(images, teacher_logits_.data(), batch, rate);
    }

    /// The same with given teacher logits (batch, classes) in device memory.
    void step_with_logits(const T* images, const T* logits, Index batch, double rate) {
        student_step(images, logits, batch, rate);
    }

    /// exp(s_t)·u_t·Wᵀ (batch, classes) of the live teacher, in device memory.
    const T* teacher_logits(const T* images, Index batch) {
        const T* features = teacher_->encode(images, batch);
        cosine_logits(device_, features, static_cast<const T*>(vectors_.data()), teacher_logits_.data(), batch,
                      classes_, student_->config().embed, teacher_->logit_scale());
        return teacher_logits_.data();
    }

    /// The last step's loss (waits for the device).
    double loss() {
        T value = 0;
        device_.download(&value, loss_.data(), sizeof value);
        return static_cast<double>(value);
    }

    Index classes() const { return classes_; }
    Sgd<D>& optimizer() { return optimizer_; }
    /// Bytes of activations and temporaries of one step of the student.
    std::size_t arena_bytes() const { return arena_.peak(); }
    /// Normalised features of the last step (batch, embed), in device memory.
    const T* student_features() const { return tape_.unit; }

private:
    void student_step(const T* images, const T* teacher_logits, Index batch, double rate) {
        require(batch <= max_batch_ && batch <= student_->max_batch(), "a batch of ", batch, " images, but ",
                max_batch_, " were planned");
        const Index embed = student_->config().embed;
        arena_.reset();
        student_->params().clear_gradients();
        const T* unit = student_->forward_training(arena_, images, batch, tape_);
        typename Arena<D>::Scope scope(arena_);
        T* logits = arena_.template scratch<T>(batch * classes_);
        T* d_logits = arena_.template scratch<T>(batch * classes_);
        T* row_loss = arena_.template scratch<T>(batch);
        T* d_unit = arena_.template scratch<T>(batch * embed);
        const T* vectors = vectors_.data();
        cosine_logits(device_, unit, vectors, logits, batch, classes_, embed, student_->logit_scale());
        distillation_loss(device_, teacher_logits, static_cast<const T*>(logits), d_logits, row_loss, loss_.data(),
                          batch, classes_, config_.temperature, config_.kd_weight);
        cosine_logits_backward(device_, static_cast<const T*>(d_logits), vectors, d_unit, batch, classes_, embed,
                               student_->logit_scale());
        student_->backward(arena_, d_unit, tape_);
        optimizer_.step(rate);
    }

    D& device_;
    Student<D>* student_;
    FrozenImageTower<D>* teacher_;
    DistillationConfig config_;
    Sgd<D> optimizer_;
    Arena<D> arena_;
    Index classes_;
    Buffer<D, T> vectors_;
    Index max_batch_;
    Buffer<D, T> teacher_logits_, loss_;
    typename Student<D>::Tape tape_;
};

}  // namespace promptkd
