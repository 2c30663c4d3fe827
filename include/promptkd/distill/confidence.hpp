// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/matrix.hpp>
#include <promptkd/op/formulas.hpp>

namespace promptkd {

namespace detail {

template <class T>
struct AddConfident {
    const T* q;
    T *sum, *weight;
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
        T* total = weight + row;
        team.once([=] { *total += confidence; });
    }
};

template <class T>
struct LogOfMean {
    T* sum;
    const T* weight;
    Index classes;

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        T* x = sum + row * classes;
        const T inverse = T(1) / weight[row];
        team.items(classes, [=](Index j) {  // lanes have no logarithm on every device
            const T p = x[j] * inverse;
            x[j] = std::log(p > T(1e-30) ? p : T(1e-30));
        });
    }
};

}  // namespace detail

/// sum += ω·p and weight += ω for the probabilities p = σ(q) of each row of logits q (n, K) and their confidence
/// ω = max p; sum (n, K), weight (n).
template <Device D, class T>
void add_confident(D& device, ConstMatrix<T> q, Matrix<T> sum, T* weight) {
    require_contiguous(q, sum.rows, sum.columns, "confident teachers: the logits");
    require_contiguous(sum, q.rows, q.columns, "confident teachers: the sum");
    device.rows(q.rows, 4 * q.columns, detail::AddConfident<T>{q.data, sum.data, weight, q.columns});
}

/// log(sum/weight) in the place of sum: logits whose softmax is the weighted mean of several teachers' probabilities,
/// p = Σ_k ω_k·p_k/Σ_k ω_k. Probabilities below 1e-30 count as that.
template <Device D, class T>
void log_of_mean(D& device, Matrix<T> sum, ConstPointer<T> weight) {
    require_contiguous(sum, sum.rows, sum.columns, "confident teachers: the sum");
    device.rows(sum.rows, 2 * sum.columns, detail::LogOfMean<T>{sum.data, weight, sum.columns});
}

}  // namespace promptkd
