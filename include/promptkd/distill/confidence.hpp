// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/matrix.hpp>
#include <promptkd/op/formulas.hpp>

namespace promptkd {

namespace detail {

template <class T>
struct AddConfident {
    const T* q;
    T *sum, *weight, *level;
    Index classes;

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const T* x = q + row * classes;
        T* out = sum + row * classes;
        const ExponentialSum<T> s = sum_exponentials(team, classes, x, T(1));
        const T confidence = T(1) / s.total;  // max p, for which exp(x − top) is 1
        const T factor = confidence / s.total, top = s.top;
        team.each(classes, [=](const auto& lane) {
            using std::exp;
            const LaneValue<decltype(lane)> e = exp(lane.value(lane.load(x) - lane.fill(top)));
            lane.store(out, lane.value(lane.load(out) + e * factor));
        });
        T *total = weight + row, *logs = level + row;
        team.once([=] {
            *total += confidence;
            *logs += confidence * s.log();
        });
    }
};

template <class T>
struct LogOfMean {
    T* sum;
    const T *weight, *level;
    Index classes;

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        T* x = sum + row * classes;
        const T inverse = T(1) / weight[row], mean_level = level[row] * inverse;
        team.items(classes, [=](Index j) {  // lanes have no logarithm on every device
            const T p = x[j] * inverse;
            x[j] = std::log(p > T(1e-30) ? p : T(1e-30)) + mean_level;
        });
    }
};

}  // namespace detail

/// Per image, the sums over teachers that confident_logits() reads: ω·p in `mean` (n, K), ω and ω·log Σexp q (n).
template <class T>
struct ConfidenceSums {
    Matrix<T> mean;     ///< Σω·p (n, K)
    T *weight, *level;  ///< Σω, Σω·log Σexp q (n)
};

/// Adds a teacher of logits q (n, K): probabilities p = σ(q), confidence ω = max p.
template <Device D, class T>
void add_confident(D& device, ConstMatrix<T> q, const ConfidenceSums<T>& sums) {
    require_contiguous(q, sums.mean.rows, sums.mean.columns, "confident teachers: the logits");
    require_contiguous(sums.mean, q.rows, q.columns, "confident teachers: the sum");
    device.rows(q.rows, 4 * q.columns,
                detail::AddConfident<T>{q.data, sums.mean.data, sums.weight, sums.level, q.columns});
}

/// Logits in the place of sums.mean, whose softmax is p = Σ_k ω_k·p_k/Σ_k ω_k, and whose level is the mean of the
/// teachers', weighted alike: of equal teachers they are those of one. Probabilities below 1e-30 count as that.
template <Device D, class T>
void confident_logits(D& device, const ConfidenceSums<T>& sums) {
    const Matrix<T>& mean = sums.mean;
    require_contiguous(mean, mean.rows, mean.columns, "confident teachers: the sum");
    device.rows(mean.rows, 2 * mean.columns, detail::LogOfMean<T>{mean.data, sums.weight, sums.level, mean.columns});
}

}  // namespace promptkd
