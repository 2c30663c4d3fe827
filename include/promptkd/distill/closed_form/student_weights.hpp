// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/host_rows.hpp>

#include <array>
#include <cmath>
#include <vector>

namespace promptkd {

/// Three students of one pair: zero-shot, fitted in closed form, adapted by gradient descent. Values for each.
using PerStudent = std::array<double, 3>;

/// Weights of the students' probabilities in a mixture; they add up to 1.
struct StudentWeights {
    PerStudent likeliest{};  ///< of the greatest likelihood
    PerStudent chosen{};     ///< after caution: t·likeliest + (1 − t)·(1, 0, 0)
    double trust = 0;        ///< t
};

namespace detail {

/// Σ_j v_j·q_j,ic of every value.
inline std::vector<double> mix_students(const std::array<std::vector<double>, 3>& q, const PerStudent& v) {
    std::vector<double> mixed(q[0].size());
    for (std::size_t i = 0; i < mixed.size(); ++i) mixed[i] = v[0] * q[0][i] + v[1] * q[1][i] + v[2] * q[2][i];
    return mixed;
}

/// v_j ← (1/n)·Σ_i Σ_c p_ic·v_j·q_j,ic/Σ_l v_l·q_l,ic, `rounds` times from equal weights (EM; Dempster et al. 1977).
inline PerStudent likeliest_weights(const std::vector<double>& p, const std::array<std::vector<double>, 3>& q,
                                    Index classes, int rounds) {
    const double n = static_cast<double>(p.size()) / static_cast<double>(classes);
    PerStudent v{1.0 / 3, 1.0 / 3, 1.0 / 3};
    for (int round = 0; round < rounds; ++round) {
        PerStudent next{};
        for (std::size_t i = 0; i < p.size(); ++i) {
            const double mixed = v[0] * q[0][i] + v[1] * q[1][i] + v[2] * q[2][i];
            if (mixed <= 0) continue;
            const double share = p[i] / mixed;
            for (std::size_t j = 0; j < 3; ++j) next[j] += share * v[j] * q[j][i];
        }
        for (std::size_t j = 0; j < 3; ++j) v[j] = next[j] / n;
    }
    return v;
}

/// −Σ_c p_ic·log(t·m_ic + (1 − t)·z_ic + 1e-30) of each image.
inline std::vector<double> cautious_losses(const std::vector<double>& p, const std::vector<double>& m,
                                           const std::vector<double>& z, Index classes, double t) {
    std::vector<double> losses(p.size() / static_cast<std::size_t>(classes));
    for (std::size_t i = 0; i < p.size(); ++i)
        losses[i / static_cast<std::size_t>(classes)] -= p[i] * std::log(t * m[i] + (1 - t) * z[i] + 1e-30);
    return losses;
}

}  // namespace detail

/// The weights v of three students' probabilities q (zero-shot, fitted, adapted), of images that none of them learned
/// from and whose teacher's probabilities are p, all (n, K):
///   v maximises Σ_i Σ_c p_ic·log Σ_j v_j·q_j,ic (concave; 300 rounds of EM); then caution:
///   L_i(t) = −Σ_c p_ic·log(t·Σ_j v_j·q_j,ic + (1 − t)·q_z,ic + 1e-30), t = 0, 0.01 … 1; the smallest t with
///   mean(L(t) − L(1)) ≤ 2·sd(L(t) − L(1))/√n; v ← t·v + (1 − t)·(1, 0, 0).
/// The rule of standard errors is that of fit_mixing_weight().
inline StudentWeights fit_student_weights(const std::vector<double>& p, const std::array<std::vector<double>, 3>& q,
                                          Index classes) {
    constexpr int rounds = 300;
    StudentWeights weights;
    weights.likeliest = detail::likeliest_weights(p, q, classes, rounds);
    const std::vector<double> mixed = detail::mix_students(q, weights.likeliest);
    const std::vector<double> whole = detail::cautious_losses(p, mixed, q[0], classes, 1);
    const auto insignificant = [&](double t) {
        const std::vector<double> losses = detail::cautious_losses(p, mixed, q[0], classes, t);
        const double n = static_cast<double>(losses.size());
        double sum = 0, square = 0;
        for (std::size_t i = 0; i < losses.size(); ++i) sum += losses[i] - whole[i];
        const double mean = sum / n;
        for (std::size_t i = 0; i < losses.size(); ++i) {
            const double d = losses[i] - whole[i] - mean;
            square += d * d;
        }
        return mean <= 2 * std::sqrt(square / n) / std::sqrt(n);
    };
    int step = 0;
    while (step < 100 && !insignificant(step / 100.0)) ++step;
    weights.trust = step / 100.0;
    const PerStudent& v = weights.likeliest;
    const double t = weights.trust;
    weights.chosen = {t * v[0] + (1 - t), t * v[1], t * v[2]};
    return weights;
}

}  // namespace promptkd
