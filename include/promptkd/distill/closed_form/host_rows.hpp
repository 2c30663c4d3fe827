// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/cpu.hpp>
#include <promptkd/op/formulas.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

// Probabilities of many images in double on the host: what a closed-form fit and a mixture are chosen by.
namespace promptkd {

namespace detail {

/// −Σ_k p_k·log σ(s·z)_k of each row: log Σ exp(s·z_k) − s·Σ p_k·z_k.
struct ScaledCrossEntropy {
    const double *p, *z;
    double* out;
    Index classes;
    double scale;

    template <class Team>
    void operator()(Team& team, Index row) const {
        const double *target = p + row * classes, *logits = z + row * classes;
        const double total = sum_exponentials(team, classes, logits, scale).log(scale);
        const double dot =
            team.sum(classes, [=](const auto& lane) { return lane.value(lane.load(target) * lane.load(logits)); });
        out[row] = total - scale * dot;
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
        const double total = sum_exponentials(team, classes, logits, s).log(s);
        team.each(classes, [=](const auto& lane) {
            using std::exp;
            const LaneValue<decltype(lane)> e = exp(lane.value(lane.load(logits) * s - lane.fill(total)));
            lane.store(y, e);
        });
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

/// The first of the largest values of each row of p (n, K) in columns [first, last), counted from `first`.
inline std::vector<Index> best_columns(const std::vector<double>& p, Index classes, Index first, Index last) {
    std::vector<Index> best;
    for (auto row = p.begin(); row != p.end(); row += classes)
        best.push_back(std::max_element(row + first, row + last) - row - first);
    return best;
}

}  // namespace promptkd
