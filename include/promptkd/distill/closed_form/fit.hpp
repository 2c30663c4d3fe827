// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/guard.hpp>
#include <promptkd/distill/closed_form/kl_step.hpp>

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace promptkd {

/// Settings of a closed-form fit.
struct ClosedFormSpec {
    Index width = 0;      ///< h; 0: min(4096, max(2048, 8·e_s))
    Index subset = 5000;  ///< images that λ, the step and the mixture are chosen on, at most
    Index block = 256;    ///< images whose products are computed in the device's type before they are summed in double
    std::uint64_t seed = 1;  ///< of the first layer and the subset
    bool kl_step = true;     ///< one half step along the KL's gradient after the ridge regression
    bool mix = true;         ///< weigh against the zero-shot student; else a = 1
    bool guard = true;       ///< fall back to the zero-shot student far from the distillation images
    std::optional<HiddenLayer>
        first;  ///< the first layer's weights instead of random ones; its statistics are set here
};

/// The default width of the hidden layer for features of e_s values.
inline Index default_hidden_width(Index student_width) {
    return std::min<Index>(4096, std::max<Index>(2048, 8 * student_width));
}

/// A student fitted in closed form: projector, mixture, guard, and how they were chosen.
struct ClosedFormFit {
    HiddenLayer hidden;               ///< R, b, μ and v
    OutputLayer ridge;                ///< B and c before the KL step
    OutputLayer output;               ///< B and c
    double lambda = 0;                ///< λ = ρ·trace(G)/h
    double rho = 0;                   ///< ρ
    double eta = 0;                   ///< of the KL step; 0: none
    std::vector<double> divergences;  ///< leave-one-out KL of each ρ = 10^(−4 + j/2), j = 0 … 12
    double temperature = 1;           ///< τ_z
    MixingWeight weight{1, 1};        ///< a and a_min
    std::optional<Guard> guard;       ///< where it was asked for
    Index images = 0;                 ///< N
    double student_divergence = 0;    ///< leave-one-out KL(p ‖ ·) on the subset: of the fitted student,
    double mixture_divergence = 0;    ///< of the mixture,
    double zero_shot_divergence = 0;  ///< and of the zero-shot student
};

/// Told what a fit does: stage, images done, images in all.
using FitProgress = std::function<void(const std::string&, Index, Index)>;

namespace detail {

/// Calls f(x, t, n) with blocks of features in device memory, in the order of the images.
template <Device D, class F>
void for_each_block(D& device, const DistillationFeatures<typename D::Scalar>& features, Index block, const F& f) {
    using T = typename D::Scalar;
    const Index e_s = features.student_width(), e_t = features.teacher_width();
    std::vector<T> x(static_cast<std::size_t>(block * e_s)), t(static_cast<std::size_t>(block * e_t));
    Buffer<D, T> device_x(device, block * e_s), device_t(device, block * e_t);
    for (Index first = 0; first < features.images(); first += block) {
        const Index n = std::min(block, features.images() - first);
        features.read(first, n, x.data(), t.data());
        device.upload(device_x.data(), x.data(), static_cast<std::size_t>(n * e_s) * sizeof(T));
        device.upload(device_t.data(), t.data(), static_cast<std::size_t>(n * e_t) * sizeof(T));
        f(static_cast<const T*>(device_x.data()), static_cast<const T*>(device_t.data()), n);
        device.synchronize();  // x and t are written again
    }
}

inline void check_geometry(const ClassGeometry& geometry, Index student_width, Index teacher_width, Index images) {
    require(images >= 2, "closed form: ", images, " distillation image; give at least 2");
    require(
        geometry.classes >= 1 && static_cast<Index>(geometry.class_vectors.size()) == geometry.classes * teacher_width,
        "closed form: class vectors of ", geometry.class_vectors.size(), " values for ", geometry.classes,
        " classes and teacher features of ", teacher_width);
    require(static_cast<Index>(geometry.student_text.size()) == geometry.classes * student_width,
            "closed form: the student's text features have ", geometry.student_text.size(), " values for ",
            geometry.classes, " classes and student features of ", student_width);
    require(geometry.teacher_scale > 0 && geometry.student_scale > 0, "closed form: a logit scale is not positive");
}

}  // namespace detail

/// Fits PromptKD's projector (Linear, BatchNorm, ReLU, Linear) without gradient descent, in four passes over the
/// features, and weighs it against the zero-shot student:
///   1. moments of x → statistics of the random first layer;
///   2. normal equations of the second layer; λ by leave-one-out KL to the teacher;
///   3. one half step along the KL's gradient;
///   4. temperature, mixing weight and guard.
/// The bits of the result depend on the features, their order, the seed and the block alone, not on the number of
/// threads. Memory does not grow with the number of images. Throws Error for fewer than 2 images, sizes that do not
/// fit, and features that are constant or not finite.
template <Device D>
ClosedFormFit fit_closed_form(D& device, const ClosedFormSpec& spec,
                              const DistillationFeatures<typename D::Scalar>& features, const ClassGeometry& geometry,
                              const FitProgress& progress = {}) {
    using T = typename D::Scalar;
    const Index images = features.images(), e_s = features.student_width(), e_t = features.teacher_width();
    detail::check_geometry(geometry, e_s, e_t, images);
    Cpu<double> host;
    ClosedFormFit fit;
    fit.images = images;
    const auto pass = [&](const char* stage, const auto& add) {
        Index done = 0;
        detail::for_each_block(device, features, spec.block, [&](const T* x, const T* t, Index n) {
            add(x, t, n);
            done += n;
            if (progress) progress(stage, done, images);
        });
    };

    MomentSums<D> moment_sums(device, e_s);
    pass("moments", [&](const T* x, const T*, Index n) { moment_sums.add(x, n); });
    const FeatureMoments moments = moment_sums.result();
    fit.hidden = spec.first
                     ? *spec.first
                     : random_hidden_layer(e_s, spec.width > 0 ? spec.width : default_hidden_width(e_s), spec.seed);
    set_statistics(fit.hidden, moments, host);

    const HiddenFeatures<D> hidden(device, fit.hidden);
    Buffer<D, T> phi(device, spec.block * hidden.width());
    std::optional<RidgeSums<D>> ridge_sums(std::in_place, device, hidden.width(), e_t);
    pass("normal equations", [&](const T* x, const T* t, Index n) {
        hidden.forward(Matrix<const T>(x, n, e_s), phi.matrix(n, hidden.width()));
        ridge_sums->add(phi.data(), t, n);
    });
    const RidgeBasis basis = ridge_basis(ridge_sums->result(), host);
    ridge_sums.reset();

    ChoiceSubset<D> subset(device, host, features, choice_subset(images, spec.subset, spec.seed), geometry);
    subset.project(hidden, basis);
    choose_lambda(fit, subset, basis);
    fit.ridge = fit.output = ridge_solution(basis, fit.lambda, host);
    if (spec.kl_step) {
        StepSums<D> step_sums(device, fit.ridge, geometry, spec.block);
        pass("step", [&](const T* x, const T* t, Index n) {
            hidden.forward(Matrix<const T>(x, n, e_s), phi.matrix(n, hidden.width()));
            step_sums.add(phi.data(), t, n);
        });
        apply_step(fit, kl_step(subset, basis, fit.lambda, step_sums.result(), host));
    }
    choose_mixture(fit, spec, subset, basis, host);
    if (spec.guard) fit.guard = fit_guard(moments, subset.student(), host);
    return fit;
}

/// ρ of the smallest leave-one-out KL.
template <Device D>
void choose_lambda(ClosedFormFit& fit, const ChoiceSubset<D>& subset, const RidgeBasis& basis) {
    for (int j = 0; j <= 12; ++j) {
        const double rho = std::pow(10.0, -4 + j / 2.0);
        fit.divergences.push_back(subset.divergence(subset.leave_one_out(basis, rho * basis.scale)));
        require(std::isfinite(fit.divergences.back()),
                "closed form: the leave-one-out KL is not a number; a feature or class vector is not finite");
        if (j > 0 && fit.divergences.back() >= fit.student_divergence) continue;
        fit.student_divergence = fit.divergences.back();
        fit.rho = rho;
    }
    fit.lambda = fit.rho * basis.scale;
}

/// B += η·ΔB, c += η·Δc
inline void apply_step(ClosedFormFit& fit, const KlStep& step) {
    fit.eta = step.eta;
    for (std::size_t i = 0; i < fit.output.weight.size(); ++i) fit.output.weight[i] += step.eta * step.weight[i];
    for (std::size_t i = 0; i < fit.output.bias.size(); ++i) fit.output.bias[i] += step.eta * step.bias[i];
}

/// Temperature of the zero-shot student and weight of the fitted one, on leave-one-out predictions of the ridge.
template <Device D>
void choose_mixture(ClosedFormFit& fit, const ClosedFormSpec& spec, const ChoiceSubset<D>& subset,
                    const RidgeBasis& basis, Cpu<double>& host) {
    const ClassGeometry& geometry = subset.geometry();
    const std::vector<double>& p = subset.probabilities();
    const std::vector<double> z = subset.zero_shot_logits();
    fit.temperature = fit_temperature(host, p, z, geometry.classes);
    const std::vector<double> zero_shot = softmax_rows(host, z, geometry.classes, fit.temperature);
    const std::vector<double> student = softmax_rows(host, subset.cosines(subset.leave_one_out(basis, fit.lambda)),
                                                     geometry.classes, geometry.teacher_scale);
    if (spec.mix) fit.weight = fit_mixing_weight(host, p, student, zero_shot, geometry.classes);
    const double entropy = detail::mean_of(entropy_rows(p, geometry.classes));
    const auto divergence = [&](double a) {
        std::vector<double> loss(static_cast<std::size_t>(subset.images()));
        host.rows(
            subset.images(), 4 * geometry.classes,
            detail::MixtureCrossEntropy{p.data(), student.data(), zero_shot.data(), loss.data(), geometry.classes, a});
        return detail::mean_of(loss) - entropy;
    };
    fit.zero_shot_divergence = divergence(0);
    fit.mixture_divergence = divergence(fit.weight.chosen);
}

}  // namespace promptkd
