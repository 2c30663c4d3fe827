// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/guard.hpp>
#include <promptkd/distill/closed_form/kl_step.hpp>
#include <promptkd/distill/closed_form/mixing_weight.hpp>
#include <promptkd/distill/closed_form/mixture.hpp>
#include <promptkd/distill/closed_form/passes.hpp>

#include <optional>
#include <utility>
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

/// How close a source of probabilities comes to the teacher's on some images.
struct Likeness {
    double divergence = 0;  ///< mean KL(p ‖ ·)
    double agreement = 0;   ///< images with the same first choice, in percent
};

/// What of a teacher can be told without labels, beside the zero-shot student on the same images.
struct TeacherLook {
    double confidence = 0;           ///< mean of the teacher's largest probability
    double student_confidence = 0;   ///< of the zero-shot student's, at its own temperature
    std::vector<Index> absent = {};  ///< classes that are no image's first choice of the teacher
};

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
    Index compared = 0;               ///< n: images that λ and the mixture were chosen on
    Likeness student;                 ///< leave-one-out on the subset: of the fitted student (before the KL step),
    Likeness mixture;                 ///< of the mixture without the guard,
    Likeness zero_shot;               ///< and of the zero-shot student at its temperature
    TeacherLook teacher;              ///< on the subset
};

/// The mixture that a fit belongs to.
inline Mixture mixture_of(const ClosedFormFit& fit, const ClassGeometry& geometry) {
    Mixture mixture;
    mixture.classes = geometry.classes;
    mixture.width = fit.hidden.inputs;
    mixture.student_text = geometry.student_text;
    mixture.zero_shot_scale = geometry.student_scale;
    mixture.temperature = fit.temperature;
    mixture.distilled_scale = geometry.teacher_scale;
    mixture.weight = fit.weight.chosen;
    mixture.guard = fit.guard;
    return mixture;
}

/// KL and agreement of `q` with the teacher's probabilities p, both (n, K).
inline Likeness likeness(Cpu<double>& host, const std::vector<double>& p, const std::vector<double>& q, Index classes) {
    const std::size_t n = p.size() / static_cast<std::size_t>(classes);
    std::vector<double> loss(n);
    host.rows(static_cast<Index>(n), 4 * classes,
              detail::MixtureCrossEntropy{p.data(), q.data(), q.data(), loss.data(), classes, 1});
    const std::vector<Index> wanted = best_columns(p, classes, 0, classes);
    const std::vector<Index> found = best_columns(q, classes, 0, classes);
    double same = 0;
    for (std::size_t i = 0; i < n; ++i) same += wanted[i] == found[i];
    return {detail::mean_of(loss) - detail::mean_of(entropy_rows(p, classes)), 100 * same / static_cast<double>(n)};
}

/// Of the teacher's probabilities p and the zero-shot student's logits z, both (n, K).
inline TeacherLook look_at_teacher(Cpu<double>& host, const std::vector<double>& p, const std::vector<double>& z,
                                   Index classes) {
    const auto confidence = [classes](const std::vector<double>& q) {
        double sum = 0;
        for (auto row = q.begin(); row != q.end(); row += classes) sum += *std::max_element(row, row + classes);
        return sum * static_cast<double>(classes) / static_cast<double>(q.size());
    };
    TeacherLook look{confidence(p), confidence(softmax_rows(host, z, classes, 1)), {}};
    std::vector<bool> chosen(static_cast<std::size_t>(classes), false);
    for (const Index k : best_columns(p, classes, 0, classes)) chosen[static_cast<std::size_t>(k)] = true;
    for (Index k = 0; k < classes; ++k)
        if (!chosen[static_cast<std::size_t>(k)]) look.absent.push_back(k);
    return look;
}

/// How far a distilled student is trusted, and how close it, the zero-shot student and their mixture are to the
/// teacher.
struct MixtureChoice {
    MixingWeight weight{1, 1};             ///< a and a_min
    Likeness student, mixture, zero_shot;  ///< of p_kd, of a·p_kd + (1 − a)·p_zs, of p_zs
};

/// Weighs the distilled student's probabilities `student` against the zero-shot student's, all (n, K), by the teacher's
/// p: with `mix` by fit_mixing_weight(), else a = 1.
inline MixtureChoice choose_mixture(Cpu<double>& host, const std::vector<double>& p, const std::vector<double>& student,
                                    const std::vector<double>& zero_shot, Index classes, bool mix) {
    MixtureChoice out;
    if (mix) out.weight = fit_mixing_weight(host, p, student, zero_shot, classes);
    const double a = out.weight.chosen;
    std::vector<double> mixed = student;
    for (std::size_t i = 0; i < mixed.size(); ++i) mixed[i] = a * student[i] + (1 - a) * zero_shot[i];
    out.student = likeness(host, p, student, classes);
    out.mixture = likeness(host, p, mixed, classes);
    out.zero_shot = likeness(host, p, zero_shot, classes);
    return out;
}

/// The first layer of a fit of features of `width` values, before it has its statistics.
inline HiddenLayer first_layer(const ClosedFormSpec& spec, Index width) {
    if (spec.first) return *spec.first;
    return random_hidden_layer(width, spec.width > 0 ? spec.width : default_hidden_width(width), spec.seed);
}

/// Solves a closed-form fit from the sums of its passes, in this order: begin() with those of pass 1, solve_ridge()
/// with those of pass 2, step() with those of pass 4 or not at all, finish(). The sums may come from several machines.
template <Device D>
class ClosedFormSolver {
public:
    using T = typename D::Scalar;

    /// Device and geometry must outlive this.
    ClosedFormSolver(D& device, const ClosedFormSpec& spec, const ClassGeometry& geometry)
        : device_(device), spec_(spec), geometry_(geometry) {}

    /// Makes the first layer, with statistics from the moments of all images, or `fixed` ones. Throws Error for fewer
    /// than 2 images, and sizes that do not fit the geometry.
    void begin(FeatureMoments moments, const HiddenStatistics& fixed = {}) {
        require(moments.images >= 2, "closed form: ", moments.images, " distillation image", moments.images ? "" : "s",
                "; give at least 2");
        const Index e_s = moments.width;
        require(static_cast<Index>(geometry_.student_text.size()) == geometry_.classes * e_s,
                "closed form: the student's text features have ", geometry_.student_text.size(), " values for ",
                geometry_.classes, " classes and student features of ", e_s);
        require(geometry_.teacher_scale > 0 && geometry_.student_scale > 0,
                "closed form: a logit scale is not positive");
        require_finite(moments.sum, "a feature of the student");
        moments.require_variation();
        require_finite(geometry_.student_text, "a text feature of the student");
        require_finite(geometry_.class_vectors, "a class vector");
        moments_ = std::move(moments);
        fit_.images = moments_.images;
        fit_.hidden = first_layer(spec_, e_s);
        if (fixed.mean.empty()) return set_statistics(fit_.hidden, moments_, host_);
        fit_.hidden.mean = fixed.mean;
        fit_.hidden.variance = fixed.variance;
    }

    /// The first layer.
    const HiddenLayer& hidden() const { return fit_.hidden; }
    /// The second layer before the KL step.
    const OutputLayer& ridge() const { return fit_.ridge; }

    /// Solves the normal equations, λ by leave-one-out KL on the images `chosen` of `features`.
    void solve_ridge(RidgeMoments sums, const DistillationFeatures<T>& features, const std::vector<Index>& chosen) {
        require(geometry_.classes >= 1 &&
                    static_cast<Index>(geometry_.class_vectors.size()) == geometry_.classes * sums.outputs,
                "closed form: class vectors of ", geometry_.class_vectors.size(), " values for ", geometry_.classes,
                " classes and teacher features of ", sums.outputs);
        require_finite(sums.teacher_sum, "a feature of the teacher");
        basis_ = ridge_basis(std::move(sums), host_);
        subset_.emplace(device_, host_, features, chosen, geometry_);
        subset_->project(HiddenFeatures<D>(device_, fit_.hidden), basis_);
        choose_lambda();
        fit_.ridge = ridge_solution(basis_, fit_.lambda, host_);
        fit_.output = fit_.ridge;
    }

    /// B += η·ΔB, c += η·Δc
    void step(const StepMoments& sums) {
        const KlStep step = kl_step(*subset_, basis_, fit_.lambda, sums, host_);
        fit_.eta = step.eta;
        for (std::size_t i = 0; i < fit_.output.weight.size(); ++i) fit_.output.weight[i] += step.eta * step.weight[i];
        for (std::size_t i = 0; i < fit_.output.bias.size(); ++i) fit_.output.bias[i] += step.eta * step.bias[i];
    }

    /// Temperature, mixing weight and guard; the fit.
    ClosedFormFit finish() {
        basis_.vectors = {};  // the largest matrix of the fit; what follows works in the basis
        weigh_student();
        if (spec_.guard) fit_.guard = fit_guard(moments_, subset_->student(), host_);
        return std::move(fit_);
    }

private:
    static void require_finite(const std::vector<double>& values, const char* what) {
        for (const double value : values)
            require(std::isfinite(value), "closed form: ", what, " is not finite (NaN or infinite)");
    }

    /// ρ of the smallest leave-one-out KL.
    void choose_lambda() {
        double best = 0;
        for (int j = 0; j <= 12; ++j) {
            const double rho = std::pow(10.0, -4 + j / 2.0);
            const double found = subset_->divergence(subset_->leave_one_out(basis_, rho * basis_.scale));
            require(std::isfinite(found),
                    "closed form: the leave-one-out KL is not a number; a feature or class vector is not finite");
            fit_.divergences.push_back(found);
            if (j > 0 && found >= best) continue;
            best = found;
            fit_.rho = rho;
        }
        fit_.lambda = fit_.rho * basis_.scale;
    }

    /// On leave-one-out predictions of the ridge.
    void weigh_student() {
        const Index classes = geometry_.classes;
        const std::vector<double>& p = subset_->probabilities();
        const std::vector<double> z = subset_->zero_shot_logits();
        fit_.temperature = fit_temperature(host_, p, z, classes);
        const std::vector<double> zero_shot = softmax_rows(host_, z, classes, fit_.temperature);
        const std::vector<double> student = softmax_rows(
            host_, subset_->cosines(subset_->leave_one_out(basis_, fit_.lambda)), classes, geometry_.teacher_scale);
        const MixtureChoice choice = choose_mixture(host_, p, student, zero_shot, classes, spec_.mix);
        fit_.compared = subset_->images();
        fit_.teacher = look_at_teacher(host_, p, z, classes);
        fit_.weight = choice.weight;
        fit_.student = choice.student;
        fit_.mixture = choice.mixture;
        fit_.zero_shot = choice.zero_shot;
    }

    D& device_;
    Cpu<double> host_;
    ClosedFormSpec spec_;
    const ClassGeometry& geometry_;
    FeatureMoments moments_;
    RidgeBasis basis_;
    std::optional<ChoiceSubset<D>> subset_;
    ClosedFormFit fit_;
};

/// Fits PromptKD's projector (Linear, BatchNorm, ReLU, Linear) without gradient descent, in four passes over the
/// features, and weighs it against the zero-shot student:
///   1. moments of x → statistics of the random first layer;
///   2. normal equations of the second layer; λ by leave-one-out KL to the teacher;
///   3. one half step along the KL's gradient;
///   4. temperature, mixing weight and guard.
/// The bits of the result depend on the features, their order, the seed and the block alone, not on the number of
/// threads, or of `ranks`, each of which must see all features. Memory does not grow with the number of images. Throws
/// Error for fewer than 2 images, sizes that do not fit, and features that are constant or not finite.
template <Device D>
ClosedFormFit fit_closed_form(D& device, const ClosedFormSpec& spec,
                              const DistillationFeatures<typename D::Scalar>& features, const ClassGeometry& geometry,
                              const FitRunning<D>& running = {}) {
    ClosedFormSolver<D> solver(device, spec, geometry);
    const ClosedFormPasses<D> passes(device, features, spec.block, running);
    solver.begin(passes.moments());
    solver.solve_ridge(passes.normal_equations(solver.hidden()), features,
                       features.rows_of(choice_subset(features.numbered(), spec.subset, spec.seed)));
    if (spec.kl_step) solver.step(passes.step(solver.hidden(), solver.ridge(), geometry));
    return solver.finish();
}

}  // namespace promptkd
