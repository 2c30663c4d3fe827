// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/matrix.hpp>
#include <promptkd/device/device.hpp>

namespace promptkd {

namespace detail {

template <class T>
struct CopyRows {
    const T* x;
    T* y;
    Index d, x_ld, y_ld;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const T* from = x + row * x_ld;
        T* to = y + row * y_ld;
        team.each(d, [=](const auto& lane) { lane.store(to, lane.load(from)); });
    }
};

template <class T>
struct ReverseRows {
    const T* x;
    T* y;
    Index d;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const T* from = x + row * d;
        T* to = y + row * d;
        const Index last = d - 1;
        team.items(d, [=](Index j) { to[j] = from[last - j]; });
    }
};

}  // namespace detail

/// y = x, both (rows, d); the rows of either may lie apart, so that matrices are put side by side.
template <Device D, class T>
void copy_rows(D& device, ConstMatrix<T> x, Matrix<T> y) {
    require_shape(x, y.rows, y.columns, "copying rows");
    device.rows(y.rows, y.columns, detail::CopyRows<T>{x.data, y.data, y.columns, x.ld, y.ld});
}

/// Each row of x (rows, d) backwards: images (batch·3·r, r) are mirrored left to right. y is not x.
template <Device D, class T>
void reverse_rows(D& device, ConstMatrix<T> x, Matrix<T> y) {
    require_contiguous(x, y.rows, y.columns, "reversing rows: x");
    require_contiguous(y, y.rows, y.columns, "reversing rows: y");
    device.rows(y.rows, y.columns, detail::ReverseRows<T>{x.data, y.data, y.columns});
}

}  // namespace promptkd
