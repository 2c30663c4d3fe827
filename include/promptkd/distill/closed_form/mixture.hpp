// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/fitted_student.hpp>
#include <promptkd/distill/closed_form/guard.hpp>
#include <promptkd/distill/closed_form/host_rows.hpp>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

namespace promptkd {

/// What a mixture of a distilled and a zero-shot student says of some images; all (n, K) but weight and distance (n).
struct MixturePrediction {
    std::vector<double> probabilities;  ///< p = w·p_kd + (1 − w)·p_zs
    std::vector<double> student;        ///< p_kd
    std::vector<double> fitted;         ///< p_r, where a fitted student is mixed in
    std::vector<double> zero_shot;      ///< p_zs
    std::vector<double> weight;         ///< w = a·g(x)
    std::vector<double> distance;       ///< ℓ(x)/c_g: above 1 the image is unfamiliar; 0 without a guard
};

/// Which features of the student's encoder a mixture reads: those that it has without visual prompts, or with them. A
/// student without prompts has only one kind.
enum class MixtureFeatures { plain, prompted };

/// A distilled student, or any other source of probabilities p_kd, beside the zero-shot student that it was made from:
///   p = w·p_kd + (1 − w)·p_zs, w = a·g(x), p_zs = σ(τ_z·s_s·n(x)·Vᵀ), g(x) = 1/(1 + (ℓ(x)/c_g)⁴), 1 without a guard,
/// for raw features x (e_s) of the student's encoder. With a third student, fitted in closed form on x,
///   p = (1 − w)·p_zs + g(x)·v_r·p_r + g(x)·a·p_kd, w = g(x)·(v_r + a), which is 0 where it is below 1e-3: there p_kd
///   is
/// not needed. Of some classes alone: p in their columns.
struct Mixture {
    Index classes = 0;                                  ///< K
    Index width = 0;                                    ///< e_s
    std::vector<double> student_text;                   ///< V (K, e_s), normalised
    double zero_shot_scale = 1;                         ///< s_s, the student's logit scale
    double temperature = 1;                             ///< τ_z
    double distilled_scale = 1;                         ///< of the logits of p_kd
    double weight = 1;                                  ///< a
    std::optional<Guard> guard;                         ///< g
    MixtureFeatures features = MixtureFeatures::plain;  ///< what x is
    std::optional<FittedStudent> fitted;                ///< r, with its weight v_r

    /// p_zs (n, K) of raw features x (n, e_s).
    std::vector<double> zero_shot(Cpu<double>& host, const std::vector<double>& x) const {
        return softmax_rows(host, detail::scaled_cosines(host, x, student_text, classes, zero_shot_scale), classes,
                            temperature);
    }

    /// w of images with raw features x (n, e_s), and their distances ℓ/c_g, into `out`.
    void weigh(Cpu<double>& host, const std::vector<double>& x, MixturePrediction& out) const {
        const std::size_t n = x.size() / static_cast<std::size_t>(width);
        out.weight.assign(n, weight + (fitted ? fitted->weight : 0));
        out.distance.assign(n, 0);
        if (guard) judge(host, x, out);
        if (!fitted) return;
        for (double& w : out.weight)
            if (w < least_weight) w = 0;
    }

    /// Whether p_kd counts in the mixture of any of the images with raw features x (n, e_s).
    bool needs_student(Cpu<double>& host, const std::vector<double>& x) const {
        if (!fitted) return true;
        if (weight == 0) return false;
        MixturePrediction out;
        weigh(host, x, out);
        return std::any_of(out.weight.begin(), out.weight.end(), [](double w) { return w > 0; });
    }

    /// Mixes p_kd (n, K), and p_r (n, K) where there is a fitted student, of images with raw features x (n, e_s).
    MixturePrediction predict(Cpu<double>& host, std::vector<double> p_kd, const std::vector<double>& x,
                              std::vector<double> p_r = {}) const {
        MixturePrediction out;
        const std::size_t n = x.size() / static_cast<std::size_t>(width);
        require(p_kd.size() == n * static_cast<std::size_t>(classes) && p_r.size() == (fitted ? p_kd.size() : 0),
                "a mixture of ", classes, " classes: ", p_kd.size(), " probabilities of ", n, " images");
        out.student = std::move(p_kd);
        out.fitted = std::move(p_r);
        out.zero_shot = zero_shot(host, x);
        weigh(host, x, out);
        out.probabilities.resize(out.student.size());
        const double all = weight + (fitted ? fitted->weight : 0), share = all > 0 ? weight / all : 0;
        for (std::size_t i = 0; i < out.probabilities.size(); ++i) {
            const double w = out.weight[i / static_cast<std::size_t>(classes)];
            const double distilled = fitted ? share * out.student[i] + (1 - share) * out.fitted[i] : out.student[i];
            out.probabilities[i] = w * distilled + (1 - w) * out.zero_shot[i];
        }
        return out;
    }

private:
    static constexpr double least_weight = 1e-3;

    void judge(Cpu<double>& host, const std::vector<double>& x, MixturePrediction& out) const {
        out.distance = guard->distances(host, x);
        for (std::size_t i = 0; i < out.distance.size(); ++i) {
            out.weight[i] *= guard->weight(out.distance[i]);
            out.distance[i] /= guard->cutoff;
        }
    }
};

}  // namespace promptkd
