// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/subset.hpp>
#include <promptkd/loss/distillation.hpp>

#include <vector>

namespace promptkd {

/// Pass 4 of a closed-form fit: Σφgᵀ and Σg, where g_i = −∂KL(p_i ‖ σ(s_t·n(U_i)·Wᵀ))/∂U_i at the ridge solution.
/// Additive like FeatureMoments.
struct StepMoments {
    Index width = 0, outputs = 0;      ///< h, e_t
    std::vector<double> cross;         ///< Σφgᵀ (h, e_t)
    std::vector<double> gradient_sum;  ///< Σg (e_t)

    /// Adds the images of another part. Throws Error when the sizes differ.
    void merge(const StepMoments& other) {
        detail::merge_sums(width == other.width && outputs == other.outputs, "gradients",
                           {{&cross, &other.cross}, {&gradient_sum, &other.gradient_sum}});
    }
};

/// Gathers StepMoments from blocks in device memory:
///   u = n(U), U = φB + c; g = s_t·(p − σ(s_t·u·Wᵀ))·W, then g ← (g − u(u·g))/‖U‖.
template <Device D>
class StepSums {
public:
    using T = typename D::Scalar;

    /// For blocks of up to `block` images at the ridge solution `layer`. Every one of `ranks` adds the same blocks.
    StepSums(D& device, const OutputLayer& layer, const ClassGeometry& geometry, Index block,
             const Ranks<D>& ranks = {})
        : device_(device),
          inputs_(layer.inputs),
          outputs_(layer.outputs),
          classes_(geometry.classes),
          scale_(geometry.teacher_scale),
          weight_(device, std::vector<T>(layer.weight.begin(), layer.weight.end())),
          bias_(device, std::vector<T>(layer.bias.begin(), layer.bias.end())),
          vectors_(device, std::vector<T>(geometry.class_vectors.begin(), geometry.class_vectors.end())),
          u_(device, block * layer.outputs),
          gradient_(device, block * layer.outputs),
          inverse_(device, block),
          loss_(device, 1),
          cross_(device, layer.inputs, layer.outputs, ranks),
          sum_(device, layer.outputs),
          arena_(device) {
        device.zero(sum_.data(), static_cast<std::size_t>(outputs_) * sizeof(double));
        arena_.plan([&] { add_gradient(nullptr, block); });
    }

    /// phi (n, h), t (n, e_t)
    void add(const T* phi, const T* t, Index n) {
        forward(phi, n);
        arena_.reset();
        add_gradient(t, n);
        cross_.add(phi, gradient_.data(), n);
        add_wide_column_sums(device_, static_cast<const T*>(gradient_.data()), sum_.data(), n, outputs_);
    }

    /// The sums so far, on the host.
    StepMoments result() const { return {inputs_, outputs_, cross_.to_host(false), sum_.to_host()}; }

private:
    /// u = n(φB + c) and 1/‖φB + c‖
    void forward(const T* phi, Index n) {
        const Matrix<T> u = u_.matrix(n, outputs_);
        Gemm g = matrix_product(operand(phi, inputs_), operand(weight_.data(), outputs_), inputs_, u);
        g.bias = bias_.data();
        device_.gemm(g);
        normalize_forward(device_, u, u, inverse_.data());
    }

    /// gradient = −∂KL/∂U of each image: the loss's weight n·K makes its gradient that of the single images' KLs.
    void add_gradient(const T* t, Index n) {
        const Workspace<D> w{device_, arena_};
        const WorkspaceScope scope(w);
        const Matrix<T> teacher = scratch<T>(w, n, classes_), student = scratch<T>(w, n, classes_);
        const Matrix<T> d_logits = scratch<T>(w, n, classes_), gradient = gradient_.matrix(n, outputs_);
        const Matrix<const T> vectors = vectors_.matrix(classes_, outputs_);
        cosine_logits(device_, Matrix<const T>(t, n, outputs_), vectors, scale_, teacher);
        cosine_logits(device_, u_.matrix(n, outputs_), vectors, scale_, student);
        distillation_loss(w, teacher, student, d_logits, loss_.data(), {1.0, static_cast<double>(n * classes_)});
        cosine_logits_backward(device_, d_logits, vectors, -scale_, gradient);
        normalize_backward(device_, u_.matrix(n, outputs_), inverse_.data(), gradient);
    }

    D& device_;
    Index inputs_, outputs_, classes_;
    double scale_;
    const Buffer<D, T> weight_, bias_, vectors_;
    Buffer<D, T> u_, gradient_, inverse_, loss_;
    detail::CrossProducts<D> cross_;
    Buffer<D, double> sum_;
    Arena<D> arena_;
};

namespace detail {

/// Σ_k −p_k·log σ(s·(u_k + η·v_k)/‖U + ηH‖) of each row, with u = U·Wᵀ, v = H·Wᵀ.
struct LineCrossEntropy {
    const double *p, *u, *v, *norms;  // norms (n, 3): U·U, U·H, H·H
    double* out;
    Index classes;
    double eta, scale;

    template <class Team>
    void operator()(Team& team, Index row) const {
        const double *target = p + row * classes, *a = u + row * classes, *b = v + row * classes;
        const double* square = norms + row * 3;
        const double step = eta;
        const double s = scale / std::sqrt(square[0] + 2 * step * square[1] + step * step * square[2]);
        const double top =
            team.max(classes, [=](const auto& lane) { return lane.value((lane.load(a) + lane.load(b) * step) * s); });
        const double total = team.sum(classes, [=](const auto& lane) {
            using std::exp;
            const LaneValue<decltype(lane)> e =
                exp(lane.value((lane.load(a) + lane.load(b) * step) * s - lane.fill(top)));
            return e;
        });
        const double dot = team.sum(classes, [=](const auto& lane) {
            return lane.value(lane.load(target) * (lane.load(a) + lane.load(b) * step) * s);
        });
        out[row] = top + std::log(total) - dot;
    }
};

}  // namespace detail

/// One step along the KL's gradient with the ridge's factorisation as the metric, B += η·ΔB, c += η·Δc.
struct KlStep {
    double eta = 0;              ///< half of the η with the smallest training KL: the half is the regularisation
    std::vector<double> weight;  ///< ΔB (h, e_t)
    std::vector<double> bias;    ///< Δc (e_t)
};

/// ΔB = H(T+λ)⁻¹HᵀD with D = Σφgᵀ − N·f·ḡᵀ, Δc = ḡ − fΔB; η* minimises the mean KL on the subset over η =
/// 10^(−6 + j/8), j = 0 … 64; η = η*/2.
template <Device D>
KlStep kl_step(const ChoiceSubset<D>& subset, const RidgeBasis& basis, double lambda, const StepMoments& sums,
               Cpu<double>& host) {
    const Index h = basis.width, r = basis.rank, e = basis.outputs;
    const double n = static_cast<double>(basis.images);
    KlStep step;
    step.bias = sums.gradient_sum;
    for (double& value : step.bias) value /= n;
    std::vector<double> d = sums.cross;
    for (Index i = 0; i < h; ++i)
        for (Index j = 0; j < e; ++j)
            d[static_cast<std::size_t>(i * e + j)] -=
                n * basis.hidden_mean[static_cast<std::size_t>(i)] * step.bias[static_cast<std::size_t>(j)];
    const std::vector<double> projected =
        detail::shrunk(basis, lambda, detail::HostProduct{r, e, h, true, false}(host, basis.vectors, d));
    const auto u = subset.predict(detail::shrunk(basis, lambda, basis.projected), basis.teacher_mean);
    const auto direction = subset.predict(projected, step.bias);
    step.weight = detail::HostProduct{h, e, r}(host, basis.vectors, projected);
    detail::subtract_mean_output(basis, step.weight, step.bias);
    step.eta = best_step(subset, u, direction, host) / 2;
    return step;
}

/// η* of kl_step() along U + ηH.
template <Device D, class Rows>
double best_step(const ChoiceSubset<D>& subset, const Rows& u, const Rows& direction, Cpu<double>& host) {
    const Index n = subset.images(), e = subset.teacher_width(), classes = subset.geometry().classes;
    const auto a = u.to_host(), b = direction.to_host();
    std::vector<double> norms(static_cast<std::size_t>(3 * n));
    for (Index i = 0; i < n; ++i)
        for (Index j = 0; j < e; ++j) {
            const double x = static_cast<double>(a[static_cast<std::size_t>(i * e + j)]);
            const double y = static_cast<double>(b[static_cast<std::size_t>(i * e + j)]);
            double* square = norms.data() + 3 * i;
            square[0] += x * x;
            square[1] += x * y;
            square[2] += y * y;
        }
    const std::vector<double> cosines = subset.products(u), slopes = subset.products(direction);
    std::vector<double> loss(static_cast<std::size_t>(n));
    double best = 0, best_loss = 0;
    for (int j = 0; j <= 64; ++j) {
        const double eta = std::pow(10.0, -6 + j / 8.0);
        host.rows(n, 6 * classes,
                  detail::LineCrossEntropy{subset.probabilities().data(), cosines.data(), slopes.data(), norms.data(),
                                           loss.data(), classes, eta, subset.geometry().teacher_scale});
        const double mean = detail::mean_of(loss);
        if (j > 0 && mean >= best_loss) continue;
        best = eta;
        best_loss = mean;
    }
    return best;
}

}  // namespace promptkd
