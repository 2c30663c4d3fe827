// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/hidden_layer.hpp>

#include <vector>

namespace promptkd {

/// Pass 2 of a closed-form fit: N, Σφφᵀ, Σφtᵀ, Σφ and Σt, in double. Additive like FeatureMoments.
struct RidgeMoments {
    Index width = 0;                  ///< h
    Index outputs = 0;                ///< e_t
    Index images = 0;                 ///< N
    std::vector<double> gram;         ///< Σφφᵀ (h, h)
    std::vector<double> cross;        ///< Σφtᵀ (h, e_t)
    std::vector<double> hidden_sum;   ///< Σφ (h)
    std::vector<double> teacher_sum;  ///< Σt (e_t)

    /// Adds the images of another part. Throws Error when the sizes differ.
    void merge(const RidgeMoments& other) {
        detail::merge_sums(width == other.width && outputs == other.outputs, "normal equations",
                           {{&gram, &other.gram},
                            {&cross, &other.cross},
                            {&hidden_sum, &other.hidden_sum},
                            {&teacher_sum, &other.teacher_sum}});
        images += other.images;
    }
};

/// Gathers RidgeMoments from blocks in device memory.
template <Device D>
class RidgeSums {
public:
    using T = typename D::Scalar;

    /// For h hidden features and teacher features of e_t values.
    RidgeSums(D& device, Index width, Index outputs)
        : device_(device),
          width_(width),
          outputs_(outputs),
          gram_(device, width, width),
          cross_(device, width, outputs),
          hidden_sum_(device, width),
          teacher_sum_(device, outputs) {
        device.zero(hidden_sum_.data(), static_cast<std::size_t>(width) * sizeof(double));
        device.zero(teacher_sum_.data(), static_cast<std::size_t>(outputs) * sizeof(double));
    }

    /// phi (n, h), t (n, e_t)
    void add(const T* phi, const T* t, Index n) {
        gram_.add_square(phi, n);
        cross_.add(phi, t, n);
        add_wide_column_sums(device_, phi, hidden_sum_.data(), n, width_);
        add_wide_column_sums(device_, t, teacher_sum_.data(), n, outputs_);
        images_ += n;
    }

    /// The sums so far, on the host.
    RidgeMoments result() const {
        return {width_,
                outputs_,
                images_,
                gram_.to_host(true),
                cross_.to_host(false),
                hidden_sum_.to_host(),
                teacher_sum_.to_host()};
    }

private:
    D& device_;
    Index width_, outputs_, images_ = 0;
    detail::CrossProducts<D> gram_, cross_;
    Buffer<D, double> hidden_sum_, teacher_sum_;
};

/// The centred normal equations in the eigenvectors of their matrix: G = Σ(φ−f)(φ−f)ᵀ = Q·Λ·Qᵀ and C₀ = QᵀM with M =
/// Σ(φ−f)(t−t̄)ᵀ, so that the ridge solution of every λ is B = Q(Λ+λ)⁻¹C₀, c = t̄ − fB. Centring leaves the intercept
/// without a penalty.
struct RidgeBasis {
    Index width = 0;                   ///< h
    Index outputs = 0;                 ///< e_t
    Index images = 0;                  ///< N
    std::vector<double> eigenvectors;  ///< Q (h, h)
    std::vector<double> eigenvalues;   ///< Λ (h), clamped at ≥ 0
    std::vector<double> projected;     ///< C₀ (h, e_t)
    std::vector<double> hidden_mean;   ///< f (h)
    std::vector<double> teacher_mean;  ///< t̄ (e_t)
    double scale = 0;                  ///< r = trace(G)/h: λ = ρ·r
};

/// Throws Error when the hidden features are constant: nothing can be fitted to them.
inline RidgeBasis ridge_basis(RidgeMoments sums, Cpu<double>& host) {
    const Index h = sums.width, e = sums.outputs;
    const double n = static_cast<double>(sums.images);
    RidgeBasis basis{h, e, sums.images, {}, {}, {}, sums.hidden_sum, sums.teacher_sum, 0};
    for (double& value : basis.hidden_mean) value /= n;
    for (double& value : basis.teacher_mean) value /= n;
    std::vector<double> gram = std::move(sums.gram);
    std::vector<double> cross = std::move(sums.cross);
    double trace = 0;
    for (Index i = 0; i < h; ++i) {
        const double f = n * basis.hidden_mean[static_cast<std::size_t>(i)];
        for (Index j = 0; j < h; ++j)
            gram[static_cast<std::size_t>(i * h + j)] -= f * basis.hidden_mean[static_cast<std::size_t>(j)];
        for (Index j = 0; j < e; ++j)
            cross[static_cast<std::size_t>(i * e + j)] -= f * basis.teacher_mean[static_cast<std::size_t>(j)];
        trace += gram[static_cast<std::size_t>(i * h + i)];
    }
    basis.scale = trace / static_cast<double>(h);
    require(basis.scale > 0, "closed form: the student's features of all ", sums.images,
            " images are equal; nothing can be fitted to them");
    SymmetricEigen eigen = symmetric_eigen(gram, h);
    basis.eigenvalues = std::move(eigen.values);
    for (double& value : basis.eigenvalues) value = std::max(0.0, value);
    basis.eigenvectors = std::move(eigen.vectors);
    basis.projected = detail::HostProduct{h, e, h, true, false}(host, basis.eigenvectors, cross);
    return basis;
}

/// The second layer of a closed-form projector: U = φB + c.
struct OutputLayer {
    Index inputs = 0, outputs = 0;  ///< h, e_t
    std::vector<double> weight;     ///< B (h, e_t)
    std::vector<double> bias;       ///< c (e_t)
};

namespace detail {

/// (Λ+λ)⁻¹·X for X (h, columns).
inline std::vector<double> shrunk(const RidgeBasis& basis, double lambda, std::vector<double> x) {
    const std::size_t columns = x.size() / basis.eigenvalues.size();
    for (std::size_t i = 0; i < basis.eigenvalues.size(); ++i) {
        const double inverse = 1 / (basis.eigenvalues[i] + lambda);
        for (std::size_t j = 0; j < columns; ++j) x[i * columns + j] *= inverse;
    }
    return x;
}

/// c −= fB: the intercept that belongs to a weight.
inline void subtract_mean_output(const RidgeBasis& basis, const std::vector<double>& weight,
                                 std::vector<double>& bias) {
    for (Index i = 0; i < basis.width; ++i)
        for (Index j = 0; j < basis.outputs; ++j)
            bias[static_cast<std::size_t>(j)] -= basis.hidden_mean[static_cast<std::size_t>(i)] *
                                                 weight[static_cast<std::size_t>(i * basis.outputs + j)];
}

}  // namespace detail

/// B = Q(Λ+λ)⁻¹C₀, c = t̄ − fB
inline OutputLayer ridge_solution(const RidgeBasis& basis, double lambda, Cpu<double>& host) {
    OutputLayer layer{basis.width, basis.outputs, {}, basis.teacher_mean};
    layer.weight = detail::HostProduct{basis.width, basis.outputs, basis.width}(
        host, basis.eigenvectors, detail::shrunk(basis, lambda, basis.projected));
    detail::subtract_mean_output(basis, layer.weight, layer.bias);
    return layer;
}

}  // namespace promptkd
