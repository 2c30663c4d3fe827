// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/image_tower.hpp>
#include <promptkd/distill/closed_form/mixture.hpp>
#include <promptkd/distill/student.hpp>
#include <promptkd/op/copy.hpp>

#include <memory>
#include <utility>
#include <vector>

namespace promptkd {

/// What a mixture reads of an image, in one row (e_t + e_s): the student's normalised features u, and the raw features
/// x of its encoder. One pass of the encoder gives both, two where u is made with visual prompts and x without. A
/// FeatureEncoder (evaluate/evaluate.hpp).
template <Device D>
class MixtureEncoder {
public:
    using T = typename D::Scalar;

    /// For up to `batch` images. Device and student must outlive this. Throws Error when the student's encoder does not
    /// make the features that the mixture reads.
    MixtureEncoder(D& device, Student<D>& student, const Mixture& mixture, Index batch)
        : device_(device),
          student_(student),
          e_t_(student.config().embed),
          e_s_(student.model().vision().embed()),
          features_(device, batch * e_t_),
          encoded_(device, batch * e_s_),
          rows_(device, batch * (e_t_ + e_s_)),
          arena_(device) {
        require(mixture.width == e_s_, student.model().source(), ": the ", mixture.guard ? "guard" : "mixture",
                " reads features of ", mixture.width, " values, but this student's encoder makes ", e_s_,
                "; they belong to different students");
        if (mixture.features == MixtureFeatures::plain && student.config().prompts > 0)
            plain_ = std::make_unique<FrozenImageTower<D>>(device, student.model(), nullptr, batch);
        arena_.plan([&] { forward(nullptr, batch); });
    }

    /// What the images go through.
    const Preprocessing& preprocessing() const { return student_.model().preprocessing(); }
    /// e_t + e_s
    Index embed() const { return e_t_ + e_s_; }

    /// Rows (n, e_t + e_s) of device images, valid until the next call.
    const T* encode(const T* images, Index n) {
        arena_.reset();
        forward(images, n);
        const Matrix<const T> encoded = plain_ ? Matrix<const T>(plain_->encode_raw(images, n), n, e_s_)
                                               : Matrix<const T>(encoded_.data(), n, e_s_);
        const Matrix<T> rows = rows_.matrix(n, e_t_ + e_s_);
        copy_rows(device_, features_.matrix(n, e_t_), rows.column_range(0, e_t_));
        copy_rows(device_, encoded, rows.column_range(e_t_, e_s_));
        return rows.data;
    }

private:
    void forward(const T* images, Index n) {
        student_.forward_inference(Workspace<D>{device_, arena_}, student_.pixels(images, n), features_.matrix(n, e_t_),
                                   encoded_.matrix(n, e_s_));
    }

    D& device_;
    Student<D>& student_;
    Index e_t_, e_s_;
    Buffer<D, T> features_, encoded_, rows_;
    Arena<D> arena_;
    std::unique_ptr<FrozenImageTower<D>> plain_;
};

/// Probabilities from the rows of a MixtureEncoder: p_kd = σ(s·u·Wᵀ) with the mixture's distilled scale, and the
/// mixture.
class MixedStudent {
public:
    /// For class vectors W (K, e_t). Throws Error when they do not fit the mixture.
    MixedStudent(Mixture mixture, std::vector<double> class_vectors)
        : mixture_(std::move(mixture)),
          vectors_(std::move(class_vectors)),
          e_t_(static_cast<Index>(vectors_.size()) / mixture_.classes) {
        require(e_t_ * mixture_.classes == static_cast<Index>(vectors_.size()), "a mixture of ", mixture_.classes,
                " classes and class vectors of ", vectors_.size(), " values");
    }

    /// How it is mixed.
    const Mixture& mixture() const { return mixture_; }

    /// Of rows (n, e_t + e_s).
    template <class T>
    MixturePrediction predict(const T* rows, Index n) {
        const Index e_s = mixture_.width;
        std::vector<double> u(static_cast<std::size_t>(n * e_t_));
        std::vector<double> x(static_cast<std::size_t>(n * e_s));
        for (Index i = 0; i < n; ++i) {
            const T* row = rows + i * (e_t_ + e_s);
            std::copy_n(row, e_t_, u.data() + i * e_t_);
            std::copy_n(row + e_t_, e_s, x.data() + i * e_s);
        }
        const std::vector<double> cosines =
            detail::HostProduct{n, mixture_.classes, e_t_, false, true}(host_, u, vectors_);
        return mixture_.predict(host_, softmax_rows(host_, cosines, mixture_.classes, mixture_.distilled_scale), x);
    }

private:
    Cpu<double> host_{1};
    Mixture mixture_;
    std::vector<double> vectors_;
    Index e_t_;
};

}  // namespace promptkd
