// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/loader.hpp>
#include <promptkd/distill/closed_form/host_rows.hpp>
#include <promptkd/distill/closed_form/ridge.hpp>
#include <promptkd/op/broadcast.hpp>
#include <promptkd/op/cosine.hpp>
#include <promptkd/op/norm.hpp>

#include <vector>

namespace promptkd {

/// The class vectors and logit scales that a closed-form fit compares features with.
struct ClassGeometry {
    Index classes = 0;                  ///< K
    std::vector<double> class_vectors;  ///< W (K, e_t), normalised
    double teacher_scale = 1;           ///< s_t = exp(logit_scale) of the teacher
    std::vector<double> student_text;   ///< V (K, e_s), normalised: the student's own text features
    double student_scale = 1;           ///< s_s
};

/// The images that λ, the step, the temperature and the weight are chosen on: at most 5,000, drawn by a seed. The fit
/// itself always uses all images.
inline std::vector<Index> choice_subset(Index images, Index most, std::uint64_t seed) {
    if (images <= most) return in_order(images);
    std::vector<Index> chosen = shuffled(images, seed, 0);
    chosen.resize(static_cast<std::size_t>(most));
    std::sort(chosen.begin(), chosen.end());
    return chosen;
}

/// The subset's rows on a device, prepared for leave-one-out predictions: A = (φ − f)H (n, r), T (n, e_t), and on the
/// host the teacher's probabilities p = σ(s_t·T·Wᵀ) and the student's features.
template <Device D>
class ChoiceSubset {
public:
    using T = typename D::Scalar;

    /// Reads the rows of `images`. Device, host and geometry must outlive this.
    ChoiceSubset(D& device, Cpu<double>& host, const DistillationFeatures<T>& features,
                 const std::vector<Index>& images, const ClassGeometry& geometry)
        : device_(device),
          host_(host),
          geometry_(geometry),
          n_(static_cast<Index>(images.size())),
          student_width_(features.student_width()),
          teacher_width_(features.teacher_width()) {
        std::vector<T> x(static_cast<std::size_t>(n_ * student_width_));
        std::vector<T> t(static_cast<std::size_t>(n_ * teacher_width_));
        for (Index i = 0; i < n_; ++i)
            features.read(images[static_cast<std::size_t>(i)], 1, x.data() + i * student_width_,
                          t.data() + i * teacher_width_);
        student_ = Buffer<D, T>(device, x);
        teacher_ = Buffer<D, T>(device, t);
        student_host_.assign(x.begin(), x.end());
        std::vector<T> vectors;
        for (const double value : geometry.class_vectors) vectors.push_back(static_cast<T>(value));
        vectors_ = Buffer<D, T>(device, vectors);
        logits_ = Buffer<D, T>(device, n_ * geometry.classes);
        probabilities_ = softmax_rows(host, logits_of(teacher_), geometry.classes, geometry.teacher_scale);
        entropy_ = entropy_rows(probabilities_, geometry.classes);
    }

    /// n
    Index images() const { return n_; }
    /// Class vectors and scales.
    const ClassGeometry& geometry() const { return geometry_; }
    /// p (n, K)
    const std::vector<double>& probabilities() const { return probabilities_; }
    /// Raw student features (n, e_s)
    const std::vector<double>& student() const { return student_host_; }

    /// Computes A = (φ − f)H for a basis; call before what needs it.
    void project(const HiddenFeatures<D>& hidden, const RidgeBasis& basis) {
        const Index h = basis.width;
        Buffer<D, T> phi(device_, n_ * h);
        hidden.forward(student_.matrix(n_, student_width_), phi.matrix(n_, h));
        std::vector<T> negative_mean;
        for (const double value : basis.hidden_mean) negative_mean.push_back(static_cast<T>(-value));
        const Buffer<D, T> shift(device_, negative_mean);
        add_row(device_, phi.matrix(n_, h), shift.data(), phi.matrix(n_, h));
        projected_ = multiply(phi, h, std::vector<T>(basis.vectors.begin(), basis.vectors.end()), basis.rank);
    }

    /// ℓ_i = A_i(T+λ)⁻¹A_iᵀ + 1/N: how much image i pulls its own prediction towards its target.
    std::vector<double> leverages(const RidgeBasis& basis, double lambda) const {
        const std::vector<T> a = projected_.to_host();
        const detail::ShiftedFactors factors(basis, lambda);
        std::vector<double> out(static_cast<std::size_t>(n_));
        const auto r = static_cast<std::size_t>(basis.rank);
        host_.host_parts(n_, [&](Index first, Index count) {
            for (Index i = first; i < first + count; ++i) {
                const T* row = a.data() + static_cast<std::size_t>(i) * r;
                double z = 0, sum = 0;  // z = L⁻¹A_iᵀ, element by element
                for (std::size_t j = 0; j < r; ++j) {
                    z = static_cast<double>(row[j]) - (j > 0 ? factors.lower[j - 1] * z : 0);
                    sum += z * z / factors.pivots[j];
                }
                out[static_cast<std::size_t>(i)] = sum + 1 / static_cast<double>(basis.images);
            }
        });
        return out;
    }

    /// U = A·weight + bias (n, e_t), weight (r, e_t) in the basis H.
    Buffer<D, T> predict(const std::vector<double>& weight, const std::vector<double>& bias) const {
        const Index h = static_cast<Index>(weight.size()) / teacher_width_;
        Buffer<D, T> u = multiply(projected_, h, std::vector<T>(weight.begin(), weight.end()), teacher_width_);
        const Buffer<D, T> row(device_, std::vector<T>(bias.begin(), bias.end()));
        add_row(device_, u.matrix(n_, teacher_width_), row.data(), u.matrix(n_, teacher_width_));
        return u;
    }

    /// Ũ_i = T_i − (T_i − U_i)/max(1 − ℓ_i, 1e-9): what the ridge regression without image i predicts for it, exactly
    /// (Allen 1974).
    Buffer<D, T> leave_one_out(const RidgeBasis& basis, double lambda) const {
        const std::vector<T> u = predict(detail::shrunk(basis, lambda, basis.projected), basis.teacher_mean).to_host();
        const std::vector<T> t = teacher_.to_host();
        const std::vector<double> leverage = leverages(basis, lambda);
        std::vector<T> out(u.size());
        const auto width = static_cast<std::size_t>(teacher_width_);
        for (std::size_t i = 0; i < out.size(); ++i) {
            const double target = static_cast<double>(t[i]);
            const double left = std::max(1 - leverage[i / width], 1e-9);
            out[i] = static_cast<T>(target - (target - static_cast<double>(u[i])) / left);
        }
        return Buffer<D, T>(device_, out);
    }

    /// n(U)·Wᵀ (n, K) on the host: cosines with the class vectors.
    std::vector<double> cosines(const Buffer<D, T>& u) const {
        Buffer<D, T> unit(device_, u.size());
        normalize_forward(device_, u.matrix(n_, teacher_width_), unit.matrix(n_, teacher_width_));
        return logits_of(unit);
    }

    /// U·Wᵀ (n, K) on the host.
    std::vector<double> products(const Buffer<D, T>& u) const { return logits_of(u); }

    /// mean KL(p ‖ σ(s_t·n(U)·Wᵀ))
    double divergence(const Buffer<D, T>& u) const {
        const std::vector<double> loss =
            cross_entropy_rows(host_, probabilities_, cosines(u), geometry_.classes, geometry_.teacher_scale);
        return detail::mean_of(loss) - detail::mean_of(entropy_);
    }

    /// z = n(x)·Vᵀ·s_s (n, K) on the host: the zero-shot student's logits.
    std::vector<double> zero_shot_logits() const {
        return detail::scaled_cosines(host_, student_host_, geometry_.student_text, geometry_.classes,
                                      geometry_.student_scale);
    }

    /// e_t
    Index teacher_width() const { return teacher_width_; }

private:
    /// x·y on the device: x (n, k), y (k, columns) from the host.
    Buffer<D, T> multiply(const Buffer<D, T>& x, Index k, const std::vector<T>& y, Index columns) const {
        const Buffer<D, T> right(device_, y);
        Buffer<D, T> out(device_, n_ * columns);
        device_.gemm(matrix_product(operand(x.data(), k), operand(right.data(), columns), k, out.matrix(n_, columns)));
        device_.synchronize();
        return out;
    }

    std::vector<double> logits_of(const Buffer<D, T>& u) const {
        cosine_logits(device_, u.matrix(n_, teacher_width_), vectors_.matrix(geometry_.classes, teacher_width_), 1.0,
                      logits_.matrix(n_, geometry_.classes));
        const std::vector<T> values = logits_.to_host();
        return std::vector<double>(values.begin(), values.end());
    }

    D& device_;
    Cpu<double>& host_;
    const ClassGeometry& geometry_;
    Index n_, student_width_, teacher_width_;
    Buffer<D, T> student_, teacher_, vectors_, projected_;
    mutable Buffer<D, T> logits_;
    std::vector<double> student_host_, probabilities_, entropy_;
};

}  // namespace promptkd
