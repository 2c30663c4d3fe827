// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>
#include <promptkd/device/cpu.hpp>
#include <promptkd/device/cpu/symmetric_eigen.hpp>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace promptkd {

/// What a closed-form fit reads of each distillation image i: x_i (e_s), the student encoder's raw features, and t_i
/// (e_t), the teacher's normalised features. Rows may come from memory, from a file, or be encoded on the way.
template <class T>
class DistillationFeatures {
public:
    virtual ~DistillationFeatures() = default;
    /// N
    virtual Index images() const = 0;
    /// e_s
    virtual Index student_width() const = 0;
    /// e_t
    virtual Index teacher_width() const = 0;
    /// Rows [first, first + n) on the host: x (n, e_s) and t (n, e_t); either may be null.
    virtual void read(Index first, Index n, T* x, T* t) const = 0;
    /// How many numbers rows may have: more than there are where images could not be read.
    virtual Index numbered() const { return images(); }
    /// The rows of these numbers, ascending, that there are.
    virtual std::vector<Index> rows_of(const std::vector<Index>& numbers) const { return numbers; }
};

/// Features in host memory.
template <class T>
class FeaturesInMemory final : public DistillationFeatures<T> {
public:
    /// `student` (N, e_s) raw, `teacher` (N, e_t) normalised. Throws Error when the numbers of rows differ.
    FeaturesInMemory(std::vector<T> student, Index student_width, std::vector<T> teacher, Index teacher_width)
        : student_(std::move(student)),
          teacher_(std::move(teacher)),
          student_width_(student_width),
          teacher_width_(teacher_width),
          images_(static_cast<Index>(student_.size()) / student_width) {
        require(images_ * student_width == static_cast<Index>(student_.size()) &&
                    images_ * teacher_width == static_cast<Index>(teacher_.size()),
                "features: ", student_.size(), " values in rows of ", student_width, " of the student, ",
                teacher_.size(), " values in rows of ", teacher_width, " of the teacher");
    }

    Index images() const override { return images_; }
    Index student_width() const override { return student_width_; }
    Index teacher_width() const override { return teacher_width_; }

    void read(Index first, Index n, T* x, T* t) const override {
        if (x) std::copy_n(student_.data() + first * student_width_, n * student_width_, x);
        if (t) std::copy_n(teacher_.data() + first * teacher_width_, n * teacher_width_, t);
    }

private:
    std::vector<T> student_, teacher_;
    Index student_width_, teacher_width_, images_;
};

namespace detail {

/// c (m, n) = a·b in double on the host; `a_transposed`, `b_transposed`: the stored matrices are the factors'
/// transposes.
struct HostProduct {
    Index m = 0, n = 0, k = 0;
    bool a_transposed = false, b_transposed = false;

    std::vector<double> operator()(Cpu<double>& host, const std::vector<double>& a,
                                   const std::vector<double>& b) const {
        std::vector<double> c(static_cast<std::size_t>(m * n));
        Gemm g;
        g.m = m;
        g.n = n;
        g.k = k;
        g.a = a_transposed ? transposed(a.data(), m) : operand(a.data(), k);
        g.b = b_transposed ? transposed(b.data(), k) : operand(b.data(), n);
        g.c = c.data();
        g.c_type = DType::f64;
        g.ldc = n;
        host.gemm(g);
        return c;
    }
};

/// scale·n(x)·vectorsᵀ (n, K) of raw features x (n, e) and normalised vectors (K, e).
inline std::vector<double> scaled_cosines(Cpu<double>& host, std::vector<double> x, const std::vector<double>& vectors,
                                          Index classes, double scale) {
    const Index width = static_cast<Index>(vectors.size()) / classes, n = static_cast<Index>(x.size()) / width;
    for (Index i = 0; i < n; ++i) {
        double* row = x.data() + i * width;
        double square = 0;
        for (Index j = 0; j < width; ++j) square += row[j] * row[j];
        const double factor = scale / std::sqrt(square);
        for (Index j = 0; j < width; ++j) row[j] *= factor;
    }
    return HostProduct{n, classes, width, false, true}(host, x, vectors);
}

}  // namespace detail

/// Features that stand for a teacher of which only the logits q = s·t·Wᵀ are known, or the logits of several teachers:
/// T_i = n(W⁺q_i) with the least norm that gives the logits back; the scale that goes with them is the mean of ‖W⁺q_i‖.
class LogitFeatures {
public:
    /// For class vectors W (K, e_t). Throws Error when the sizes do not fit.
    LogitFeatures(Cpu<double>& host, std::vector<double> class_vectors, Index classes)
        : host_(host),
          vectors_(std::move(class_vectors)),
          classes_(classes),
          width_(static_cast<Index>(vectors_.size()) / classes) {
        require(width_ * classes == static_cast<Index>(vectors_.size()), "class vectors: ", vectors_.size(),
                " values for ", classes, " classes");
        // W⁺ = Wᵀ(WWᵀ)⁺, the pseudo-inverse of the small symmetric matrix by its eigenvalues.
        const SymmetricEigen eigen = symmetric_eigen(
            detail::HostProduct{classes, classes, width_, false, true}(host, vectors_, vectors_), classes);
        const double smallest = 1e-12 * eigen.values.back() * static_cast<double>(classes);
        std::vector<double> scaled = eigen.vectors;
        for (Index i = 0; i < classes; ++i)
            for (Index j = 0; j < classes; ++j) {
                const double value = eigen.values[static_cast<std::size_t>(j)];
                scaled[static_cast<std::size_t>(i * classes + j)] *= value > smallest ? 1 / value : 0;
            }
        inverse_ = detail::HostProduct{classes, classes, classes, false, true}(host, scaled, eigen.vectors);
    }

    /// e_t
    Index width() const { return width_; }
    /// ‖W⁺q‖ of the images that were last added.
    const std::vector<double>& norms() const { return norms_; }

    /// T (n, e_t), normalised, of the logits (n, K) of further images. Throws Error for an image whose logits say
    /// nothing (all in the null space of W) or are not finite.
    std::vector<double> add(const std::vector<double>& logits) {
        const Index n = static_cast<Index>(logits.size()) / classes_;
        require(n * classes_ == static_cast<Index>(logits.size()), "logits: ", logits.size(), " values for ", classes_,
                " classes");
        const std::vector<double> weights = detail::HostProduct{n, classes_, classes_}(host_, logits, inverse_);
        std::vector<double> features = detail::HostProduct{n, width_, classes_}(host_, weights, vectors_);
        norms_.clear();
        for (Index i = 0; i < n; ++i) {
            double* row = features.data() + i * width_;
            double square = 0;
            for (Index j = 0; j < width_; ++j) square += row[j] * row[j];
            require(square > 0 && std::isfinite(square), "image ", images_,
                    ": its teacher logits are no logits of these classes");
            const double norm = std::sqrt(square);
            for (Index j = 0; j < width_; ++j) row[j] /= norm;
            norms_.push_back(norm);
            ++images_;
        }
        return features;
    }

private:
    Cpu<double>& host_;
    std::vector<double> vectors_, inverse_;  // W (K, e_t), (WWᵀ)⁺ (K, K)
    std::vector<double> norms_;
    Index classes_, width_, images_ = 0;
};

}  // namespace promptkd
