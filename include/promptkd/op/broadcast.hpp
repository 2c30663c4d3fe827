// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/matrix.hpp>
#include <promptkd/device/device.hpp>

namespace promptkd {

namespace detail {

template <class T>
struct AddRow {
    const T *x, *row;
    T* y;
    Index d;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index i) const {
        const T *a = x + i * d, *b = row;
        T* out = y + i * d;
        team.each(d, [=](const auto& lane) { lane.store(out, lane.value(lane.load(a) + lane.load(b))); });
    }
};

}  // namespace detail

/// y[i] = x[i] + row for each row of x and y, shapes (rows, d).
template <Device D, class T>
void add_row(D& device, ConstMatrix<T> x, ConstPointer<T> row, Matrix<T> y) {
    require_contiguous(x, y.rows, y.columns, "x + row: x");
    require_contiguous(y, y.rows, y.columns, "x + row: the sum");
    device.rows(y.rows, y.columns, detail::AddRow<T>{x.data, row, y.data, y.columns});
}

}  // namespace promptkd
