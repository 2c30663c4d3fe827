// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/device.hpp>

#include <cmath>

namespace promptkd {

namespace detail {

template <class X, class T>
struct ColumnSums {
    const X* x;
    T* y;
    Index rows, d;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        typename Lane::Value total = lane.load(y);
        for (Index i = 0; i < rows; ++i) total = total + lane.load(x + i * d);
        lane.store(y, total);
    }
};

template <class T>
struct SumFunctor {
    const T* x;
    T* y;
    Index n;
    double scale;
    bool add;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index) const {
        const T* in = x;
        const T total = team.sum(n, [in](const auto& lane) { return lane.load(in); });
        // A multiply-add by name: whether a compiler makes one of a product and a sum depends on what it inlines, and a
        // loss must not depend on that.
        team.once([this, total] { *y = std::fma(static_cast<T>(scale), total, add ? *y : T(0)); });
    }
};

}  // namespace detail

/// y[j] += Σ_i x[i, j], x: rows × d.
template <Device D, class X, class T>
void add_column_sums(D& device, const X* x, T* y, Index rows, Index d) {
    device.map(d, detail::ColumnSums<X, T>{x, y, rows, d});
}

/// *y = scale·Σ x[i] (+ *y with `add`), i < n, on the device.
template <Device D, class T>
void sum(D& device, const T* x, T* y, Index n, double scale = 1, bool add = false) {
    device.rows(1, n, detail::SumFunctor<T>{x, y, n, scale, add});
}

}  // namespace promptkd
