// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/device.hpp>

#include <algorithm>
#include <cmath>

namespace promptkd {

/// Whether a result replaces what is there, or is added to it.
enum class Accumulate { no, yes };

namespace detail {

/// out = factor·value, or out += factor·value with `add`. Functors that either write or add use this and no condition
/// of their own: g++ 12 -O3 vectorises a conditional ASSIGNMENT of a pack (`if (add) v = v + lane.load(out);
/// lane.store(out, v);`) into nothing, so the branch must go around whole stores. The product stands in both branches:
/// with the sum it is one multiply-add.
template <class Lane, class A, class T>
PROMPTKD_HD void store_or_add(const Lane& lane, A* out, const LaneValue<Lane>& value, T factor, bool add) {
    if (add)
        lane.store(out, lane.value(lane.load(out) + value * factor));
    else
        lane.store(out, lane.value(value * factor));
}

/// x̂ = (x − mean)·rstd, elements of a row with these moments.
template <class Lane, class A, class T>
PROMPTKD_HD LaneValue<Lane> standardized(const Lane& lane, const A* x, T mean, T rstd) {
    return (lane.load(x) - lane.fill(mean)) * rstd;
}

/// Σ exp(τ⁻¹·(x − top)) of a row, top = max x: no term is larger than 1, so nothing overflows.
template <class T>
struct ExponentialSum {
    T top, total;

    /// log Σ exp x.
    PROMPTKD_HD T log() const { return top + std::log(total); }
    /// log Σ exp(τ⁻¹·x): a multiply-add by name, see SumFunctor.
    PROMPTKD_HD T log(T inverse_temperature) const { return std::fma(top, inverse_temperature, std::log(total)); }
};

/// The sum over x[0…n), its terms exp(x − top) in `terms` (which may be x): softmax(x) is terms/total.
template <class Team, class T>
PROMPTKD_HD ExponentialSum<T> store_exponentials(Team& team, Index n, const T* x, T* terms) {
    const T top = team.max(n, [x](const auto& lane) { return lane.load(x); });
    const T total = team.sum(n, [x, terms, top](const auto& lane) {
        using std::exp;
        const LaneValue<decltype(lane)> e = exp(lane.value(lane.load(x) - lane.fill(top)));
        lane.store(terms, e);
        return e;
    });
    return {top, total};
}

/// The sum alone, for temperature τ.
template <class Team, class T>
PROMPTKD_HD ExponentialSum<T> sum_exponentials(Team& team, Index n, const T* x, T inverse_temperature) {
    const T top = team.max(n, [x](const auto& lane) { return lane.load(x); });
    const T total = team.sum(n, [x, top, inverse_temperature](const auto& lane) {
        using std::exp;
        const LaneValue<decltype(lane)> e = exp(lane.value((lane.load(x) - lane.fill(top)) * inverse_temperature));
        return e;
    });
    return {top, total};
}

}  // namespace detail

/// softmax of n values in host memory, in place.
template <class T>
void softmax_on_host(T* row, Index n) {
    const T top = *std::max_element(row, row + n);
    T total = 0;
    for (Index j = 0; j < n; ++j) total += row[j] = std::exp(row[j] - top);
    for (Index j = 0; j < n; ++j) row[j] /= total;
}

}  // namespace promptkd
