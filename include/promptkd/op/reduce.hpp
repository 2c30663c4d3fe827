// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/matrix.hpp>
#include <promptkd/op/formulas.hpp>

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

/// y[j] += Σ_i x[i, j], x (rows, d), whose elements may have another type.
template <Device D, class X, class T>
void add_column_sums(D& device, Matrix<X> x, T* y) {
    require_contiguous(x, x.rows, x.columns, "column sums: x");
    device.map(x.columns, detail::ColumnSums<std::remove_const_t<X>, T>{x.data, y, x.rows, x.columns});
}

/// *y = (or +=) scale·Σ x[i], i < n, on the device.
template <Device D, class T>
void sum(D& device, ConstPointer<T> x, T* y, Index n, double scale = 1, Accumulate accumulate = Accumulate::no) {
    device.rows(1, n, detail::SumFunctor<T>{x, y, n, scale, accumulate == Accumulate::yes});
}

}  // namespace promptkd
