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

/// What a mixture reads of an image, in one row: the student's normalised features u (e_t), with a fitted student its
/// normalised features (e_t), and the raw features x (e_s) of the encoder. One pass of the encoder gives all of them,
/// two where u is made with visual prompts or an adapted encoder and x without. The second one is left out for a batch
/// in whose mixtures u does not count; its columns are 0 then. A FeatureEncoder (evaluate/evaluate.hpp).
template <Device D>
class MixtureEncoder {
public:
    using T = typename D::Scalar;

    /// For up to `batch` images. `plain` is the model without prompts and adaptation, where it is not student.model().
    /// Device, student and models must outlive this. Throws Error when the student's encoder does not make the features
    /// that the mixture reads.
    MixtureEncoder(D& device, const Student<D>& student, const Mixture& mixture, Index batch,
                   const ClipModel<D>* plain = nullptr)
        : device_(device),
          student_(student),
          mixture_(mixture),
          e_t_(student.config().embed),
          e_s_(student.model().vision().embed()),
          features_(device, batch * e_t_),
          encoded_(device, batch * e_s_),
          rows_(device, batch * embed()),
          arena_(device) {
        require(mixture.width == e_s_, student.model().source(), ": the ", mixture.guard ? "guard" : "mixture",
                " reads features of ", mixture.width, " values, but this student's encoder makes ", e_s_,
                "; they belong to different students");
        const bool two = plain || student.config().prompts > 0 || student.config().training != EncoderTraining::frozen;
        if (mixture.features == MixtureFeatures::plain && two)
            plain_ = std::make_unique<FrozenImageTower<D>>(device, plain ? *plain : student.model(), nullptr, batch);
        if (mixture.fitted) fitted_ = std::make_unique<FittedFeatures<D>>(device, *mixture.fitted, batch);
        arena_.plan([&] { forward(nullptr, batch); });
    }

    /// What the images go through.
    const Preprocessing& preprocessing() const { return student_.model().preprocessing(); }
    /// Values of a row.
    Index embed() const { return (mixture_.fitted ? 2 : 1) * e_t_ + e_s_; }

    /// Rows (n, embed()) of device images, valid until the next call.
    const T* encode(const T* images, Index n) {
        arena_.reset();
        const Matrix<T> rows = rows_.matrix(n, embed());
        Matrix<const T> encoded(encoded_.data(), n, e_s_);
        if (plain_) encoded = Matrix<const T>(plain_->encode_raw(images, n), n, e_s_);
        if (!plain_ || counts(encoded))
            forward(images, n);
        else
            zero(device_, features_.matrix(n, e_t_));
        copy_rows(device_, features_.matrix(n, e_t_), rows.column_range(0, e_t_));
        if (fitted_) copy_rows(device_, fitted_->forward(encoded), rows.column_range(e_t_, e_t_));
        copy_rows(device_, encoded, rows.column_range(embed() - e_s_, e_s_));
        return rows.data;
    }

    /// Passes of the adapted student so far.
    Index student_passes() const { return passes_; }

private:
    void forward(const T* images, Index n) {
        ++passes_;
        student_.forward_inference(Workspace<D>{device_, arena_}, student_.pixels(images, n), features_.matrix(n, e_t_),
                                   encoded_.matrix(n, e_s_));
    }

    /// Whether the student's features count for any image with these plain ones.
    bool counts(Matrix<const T> encoded) {
        if (!mixture_.fitted) return true;
        std::vector<T> x(static_cast<std::size_t>(encoded.count()));
        device_.download(x.data(), encoded.data, x.size() * sizeof(T));
        return mixture_.needs_student(host_, std::vector<double>(x.begin(), x.end()));
    }

    D& device_;
    const Student<D>& student_;
    Mixture mixture_;
    Cpu<double> host_{1};
    Index e_t_, e_s_, passes_ = 0;
    Buffer<D, T> features_, encoded_, rows_;
    Arena<D> arena_;
    std::unique_ptr<FrozenImageTower<D>> plain_;
    std::unique_ptr<FittedFeatures<D>> fitted_;
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

    /// Of rows of a MixtureEncoder, n of them.
    template <class T>
    MixturePrediction predict(const T* rows, Index n) {
        const Index e_s = mixture_.width, width = (mixture_.fitted ? 2 : 1) * e_t_ + e_s;
        const auto columns = [&](Index first, Index count) {
            std::vector<double> part(static_cast<std::size_t>(n * count));
            for (Index i = 0; i < n; ++i) std::copy_n(rows + i * width + first, count, part.data() + i * count);
            return part;
        };
        const auto probabilities = [&](const std::vector<double>& u, double scale) {
            const std::vector<double> cosines =
                detail::HostProduct{n, mixture_.classes, e_t_, false, true}(host_, u, vectors_);
            return softmax_rows(host_, cosines, mixture_.classes, scale);
        };
        std::vector<double> fitted;
        if (mixture_.fitted) fitted = probabilities(columns(e_t_, e_t_), mixture_.fitted->scale);
        return mixture_.predict(host_, probabilities(columns(0, e_t_), mixture_.distilled_scale),
                                columns(width - e_s, e_s), std::move(fitted));
    }

private:
    Cpu<double> host_{1};
    Mixture mixture_;
    std::vector<double> vectors_;
    Index e_t_;
};

}  // namespace promptkd
