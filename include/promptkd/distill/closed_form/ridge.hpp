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

    /// For h hidden features and teacher features of e_t values. Every one of `ranks` adds the same blocks.
    RidgeSums(D& device, Index width, Index outputs, const Ranks<D>& ranks = {})
        : device_(device),
          width_(width),
          outputs_(outputs),
          gram_(device, width, width, ranks),
          cross_(device, width, outputs, ranks, 1),
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

/// The centred normal equations in a basis where their matrix is tridiagonal: G = Σ(φ−f)(φ−f)ᵀ = H·T·Hᵀ and C₀ = HᵀM
/// with M = Σ(φ−f)(t−t̄)ᵀ, so that the ridge solution of every λ is B = H(T+λ)⁻¹C₀, c = t̄ − fB. Centring leaves the
/// intercept without a penalty. (Eigenvectors in the place of H would do the same for five times the work.) Of few
/// images, N ≤ h/4, G has at most N − 1 directions in which it is not zero, and H spans those alone.
struct RidgeBasis {
    Index width = 0;                   ///< h
    Index rank = 0;                    ///< r: columns of H; h, or little more than N
    Index outputs = 0;                 ///< e_t
    Index images = 0;                  ///< N
    std::vector<double> vectors;       ///< H (h, r), orthonormal columns
    std::vector<double> diagonal;      ///< of T (r)
    std::vector<double> off_diagonal;  ///< of T (r − 1)
    std::vector<double> projected;     ///< C₀ (r, e_t)
    std::vector<double> hidden_mean;   ///< f (h)
    std::vector<double> teacher_mean;  ///< t̄ (e_t)
    double scale = 0;                  ///< r = trace(G)/h: λ = ρ·r
};

namespace detail {

/// How many columns a basis of the range of Σφφᵀ, centred, needs: N − 1 and some more, since the products of the sums
/// are rounded; h where that would save nothing.
inline Index range_columns(Index width, Index images) {
    constexpr Index more = 8;
    return 4 * images <= width ? std::min(width, images + more) : width;
}

/// Orthonormal columns (h, r) that span the range of G (h, h) of a rank below r: those of G·Ω, Ω random (Halko,
/// Martinsson & Tropp, SIAM Review 2011, algorithm 4.1).
inline std::vector<double> range_basis(const std::vector<double>& gram, Index h, Index r, Cpu<double>& host) {
    RandomStream random(static_cast<std::uint64_t>(h), static_cast<std::uint64_t>(r));
    std::vector<double> omega(static_cast<std::size_t>(h * r));
    for (double& value : omega) value = random.normal();
    return orthonormal_columns(HostProduct{h, r, h}(host, gram, omega), h, r);
}

/// H and T of G = H·T·Hᵀ: of G itself, or with fewer columns than h of QᵀGQ, H = Q·H', Q of range_basis().
inline void decompose_gram(RidgeBasis& basis, std::vector<double> gram, Cpu<double>& host) {
    const Index h = basis.width, r = basis.rank;
    std::vector<double> range;
    if (r < h) {
        range = range_basis(gram, h, r, host);
        gram = HostProduct{r, r, h, true, false}(host, range, HostProduct{h, r, h}(host, gram, range));
    }
    SymmetricTridiagonal form = symmetric_tridiagonal(std::move(gram), r);
    basis.vectors = r < h ? HostProduct{h, r, r}(host, range, form.vectors) : std::move(form.vectors);
    basis.diagonal = std::move(form.diagonal);
    basis.off_diagonal = std::move(form.off_diagonal);
}

/// ridge_basis() with a given number of columns of H, up to h.
inline RidgeBasis ridge_basis_of_rank(RidgeMoments sums, Index rank, Cpu<double>& host) {
    const Index h = sums.width, e = sums.outputs;
    const double n = static_cast<double>(sums.images);
    RidgeBasis basis{h, rank, e, sums.images, {}, {}, {}, {}, sums.hidden_sum, sums.teacher_sum, 0};
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
    decompose_gram(basis, std::move(gram), host);
    basis.projected = HostProduct{basis.rank, e, h, true, false}(host, basis.vectors, cross);
    return basis;
}

}  // namespace detail

/// Throws Error when the hidden features are constant: nothing can be fitted to them.
inline RidgeBasis ridge_basis(RidgeMoments sums, Cpu<double>& host) {
    const Index rank = detail::range_columns(sums.width, sums.images);
    return detail::ridge_basis_of_rank(std::move(sums), rank, host);
}

/// The second layer of a closed-form projector: U = φB + c.
struct OutputLayer {
    Index inputs = 0, outputs = 0;  ///< h, e_t
    std::vector<double> weight;     ///< B (h, e_t)
    std::vector<double> bias;       ///< c (e_t)
};

namespace detail {

/// T + λ = L·D·Lᵀ with L of ones on and `lower` below the diagonal.
struct ShiftedFactors {
    std::vector<double> pivots;  ///< D (r)
    std::vector<double> lower;   ///< below the diagonal of L (r − 1)

    /// Throws Error when rounding has left T + λ without a positive pivot: λ is too small for these features.
    ShiftedFactors(const RidgeBasis& basis, double lambda) : pivots(basis.diagonal), lower(basis.off_diagonal) {
        for (std::size_t j = 0; j < pivots.size(); ++j) {
            pivots[j] += lambda;
            if (j > 0) {
                lower[j - 1] = basis.off_diagonal[j - 1] / pivots[j - 1];
                pivots[j] -= lower[j - 1] * basis.off_diagonal[j - 1];
            }
            require(pivots[j] > 0,
                    "closed form: the normal equations are not positive definite; a feature is far too "
                    "large or not finite");
        }
    }
};

/// (T+λ)⁻¹·X for X (r, columns).
inline std::vector<double> shrunk(const RidgeBasis& basis, double lambda, std::vector<double> x) {
    const ShiftedFactors factors(basis, lambda);
    const std::size_t r = factors.pivots.size(), columns = x.size() / r;
    for (std::size_t i = 1; i < r; ++i)
        for (std::size_t j = 0; j < columns; ++j) x[i * columns + j] -= factors.lower[i - 1] * x[(i - 1) * columns + j];
    for (std::size_t i = 0; i < r; ++i)
        for (std::size_t j = 0; j < columns; ++j) x[i * columns + j] /= factors.pivots[i];
    for (std::size_t i = r - 1; i > 0; --i)
        for (std::size_t j = 0; j < columns; ++j) x[(i - 1) * columns + j] -= factors.lower[i - 1] * x[i * columns + j];
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

/// B = H(T+λ)⁻¹C₀, c = t̄ − fB
inline OutputLayer ridge_solution(const RidgeBasis& basis, double lambda, Cpu<double>& host) {
    OutputLayer layer{basis.width, basis.outputs, {}, basis.teacher_mean};
    layer.weight = detail::HostProduct{basis.width, basis.outputs, basis.rank}(
        host, basis.vectors, detail::shrunk(basis, lambda, basis.projected));
    detail::subtract_mean_output(basis, layer.weight, layer.bias);
    return layer;
}

}  // namespace promptkd
