// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/cpu.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace promptkd {

namespace detail {

/// Σ_k p_k·(log p_k − log σ(s·z)_k) of each row, the part Σ p·log p left out: log Σ exp(s·z_k) − s·Σ p_k·z_k.
struct ScaledCrossEntropy {
    const double *p, *z;
    double* out;
    Index classes;
    double scale;

    template <class Team>
    void operator()(Team& team, Index row) const {
        const double *target = p + row * classes, *logits = z + row * classes;
        const double s = scale;
        const double top = s * team.max(classes, [=](const auto& lane) { return lane.load(logits); });
        const double total = team.sum(classes, [=](const auto& lane) {
            using std::exp;
            const LaneValue<decltype(lane)> e = exp(lane.value(lane.load(logits) * s - lane.fill(top)));
            return e;
        });
        const double dot =
            team.sum(classes, [=](const auto& lane) { return lane.value(lane.load(target) * lane.load(logits)); });
        out[row] = top + std::log(total) - s * dot;
    }
};

/// σ(s·z) of each row.
struct ScaledSoftmax {
    const double* z;
    double* out;
    Index classes;
    double scale;

    template <class Team>
    void operator()(Team& team, Index row) const {
        const double* logits = z + row * classes;
        double* y = out + row * classes;
        const double s = scale;
        const double top = s * team.max(classes, [=](const auto& lane) { return lane.load(logits); });
        const double total = team.sum(classes, [=](const auto& lane) {
            using std::exp;
            const LaneValue<decltype(lane)> e = exp(lane.value(lane.load(logits) * s - lane.fill(top)));
            lane.store(y, e);
            return e;
        });
        team.each(classes, [=](const auto& lane) { lane.store(y, lane.value(lane.load(y) / lane.fill(total))); });
    }
};

/// −Σ_k p_k·log(a·q_k + (1 − a)·z_k + 1e-300) of each row.
struct MixtureCrossEntropy {
    const double *p, *q, *z;
    double* out;
    Index classes;
    double a;

    template <class Team>
    void operator()(Team& team, Index row) const {
        const double *target = p + row * classes, *one = q + row * classes, *other = z + row * classes;
        const double share = a, rest = 1 - a;
        out[row] = -team.sum(classes, [=](const auto& lane) {
            using std::log;
            const LaneValue<decltype(lane)> l =
                log(lane.value(lane.load(one) * share + lane.load(other) * rest + lane.fill(1e-300)));
            return lane.value(lane.load(target) * l);
        });
    }
};

inline double mean_of(const std::vector<double>& values) {
    double total = 0;
    for (const double value : values) total += value;
    return total / static_cast<double>(values.size());
}

}  // namespace detail

/// Probabilities σ(scale·z) of logits z (n, K).
inline std::vector<double> softmax_rows(Cpu<double>& host, const std::vector<double>& z, Index classes, double scale) {
    std::vector<double> out(z.size());
    host.rows(static_cast<Index>(z.size()) / classes, 4 * classes,
              detail::ScaledSoftmax{z.data(), out.data(), classes, scale});
    return out;
}

/// Cross-entropy −Σ_k p_k·log σ(scale·z)_k of each row, p and z (n, K).
inline std::vector<double> cross_entropy_rows(Cpu<double>& host, const std::vector<double>& p,
                                              const std::vector<double>& z, Index classes, double scale) {
    const Index n = static_cast<Index>(z.size()) / classes;
    std::vector<double> out(static_cast<std::size_t>(n));
    host.rows(n, 4 * classes, detail::ScaledCrossEntropy{p.data(), z.data(), out.data(), classes, scale});
    return out;
}

/// Entropy −Σ_k p_k·log p_k of each row of p (n, K).
inline std::vector<double> entropy_rows(const std::vector<double>& p, Index classes) {
    std::vector<double> out(p.size() / static_cast<std::size_t>(classes));
    for (std::size_t i = 0; i < p.size(); ++i)
        if (p[i] > 0) out[i / static_cast<std::size_t>(classes)] -= p[i] * std::log(p[i]);
    return out;
}

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
