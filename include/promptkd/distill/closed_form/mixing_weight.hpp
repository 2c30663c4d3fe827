// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/host_rows.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace promptkd {

/// τ ∈ [¼, 4] that minimises the mean of −Σ_k p_k·log σ(τ·z)_k: the temperature with which logits z (n, K) match the
/// teacher's probabilities p (n, K) best. Convex in τ; golden-section search on log τ, 50 steps.
inline double fit_temperature(Cpu<double>& host, const std::vector<double>& p, const std::vector<double>& z,
                              Index classes) {
    const auto loss = [&](double log_tau) {
        return detail::mean_of(cross_entropy_rows(host, p, z, classes, std::exp(log_tau)));
    };
    const double ratio = (std::sqrt(5.0) - 1) / 2;
    double low = std::log(0.25), high = std::log(4.0);
    double left = high - ratio * (high - low), right = low + ratio * (high - low);
    double loss_left = loss(left), loss_right = loss(right);
    for (int step = 0; step < 50; ++step) {
        if (loss_left < loss_right) {
            high = right;
            right = left;
            loss_right = loss_left;
            left = high - ratio * (high - low);
            loss_left = loss(left);
        } else {
            low = left;
            left = right;
            loss_left = loss_right;
            right = low + ratio * (high - low);
            loss_right = loss(right);
        }
    }
    return std::exp((low + high) / 2);
}

/// How much a distilled student is trusted beside the zero-shot one.
struct MixingWeight {
    double least = 0;   ///< a_min, of the smallest mean loss
    double chosen = 0;  ///< a: the smallest weight whose loss is not significantly larger
};

/// The weight a of p = a·q + (1 − a)·z, for images whose teacher's probabilities are p, the distilled student's q
/// (predicted without the image itself, or for images that were held out) and the zero-shot student's z, all (n, K):
///   L_i(a) = −Σ_k p_ik·log(a·q_ik + (1 − a)·z_ik + 1e-300), a = 0, 0.01, …, 1; a_min minimises its mean;
///   a = the smallest whose mean of d_i = L_i(a) − L_i(a_min) is at most 2·sd(d)/√n.
/// The rule of two standard errors (of one: Breiman et al. 1984) trusts the distilled student only as far as it is
/// significantly better.
inline MixingWeight fit_mixing_weight(Cpu<double>& host, const std::vector<double>& p, const std::vector<double>& q,
                                      const std::vector<double>& z, Index classes) {
    const Index n = static_cast<Index>(p.size()) / classes;
    std::vector<std::vector<double>> losses;
    Index best = 0;
    double best_mean = 0;
    for (Index step = 0; step <= 100; ++step) {
        std::vector<double> loss(static_cast<std::size_t>(n));
        host.rows(n, 4 * classes,
                  detail::MixtureCrossEntropy{p.data(), q.data(), z.data(), loss.data(), classes,
                                              static_cast<double>(step) / 100});
        const double mean = detail::mean_of(loss);
        if (step == 0 || mean < best_mean) {
            best = step;
            best_mean = mean;
        }
        losses.push_back(std::move(loss));
    }
    const auto insignificant = [&](Index step) {
        double sum = 0, square = 0;
        for (Index i = 0; i < n; ++i) {
            const auto at = static_cast<std::size_t>(i);
            const double d = losses[static_cast<std::size_t>(step)][at] - losses[static_cast<std::size_t>(best)][at];
            sum += d;
            square += d * d;
        }
        const double mean = sum / static_cast<double>(n);
        const double variance = std::max(0.0, square / static_cast<double>(n) - mean * mean);
        return mean <= 2 * std::sqrt(variance / static_cast<double>(n));
    };
    Index chosen = 0;
    while (!insignificant(chosen)) ++chosen;
    return {static_cast<double>(best) / 100, static_cast<double>(chosen) / 100};
}

}  // namespace promptkd
