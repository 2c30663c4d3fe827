// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/device.hpp>

namespace promptkd {

namespace detail {

template <class T>
struct AddWideRows {
    const T* x;
    double* y;
    Index d, x_ld, y_ld;

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const T* in = x + row * x_ld;
        double* out = y + row * y_ld;
        team.items(d, [=](Index j) { out[j] += static_cast<double>(in[j]); });
    }
};

template <class T>
struct AddWideColumnSums {
    const T* x;
    double* y;
    Index rows, d;

    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        for (Index j = lane.index; j < lane.index + Lane::width; ++j) {
            double total = y[j];
            for (Index i = 0; i < rows; ++i) total += static_cast<double>(x[i * d + j]);
            y[j] = total;
        }
    }
};

}  // namespace detail

/// y += x in double: `rows` rows of `d` elements, those of y `y_ld` apart. Block products in the device's type are
/// summed so over any number of images, in a fixed order.
template <Device D, class T>
void add_wide(D& device, const T* x, double* y, Index y_ld, Index rows, Index d) {
    device.rows(rows, 2 * d, detail::AddWideRows<T>{x, y, d, d, y_ld});
}

/// y[j] += Σ_i x[i, j] in double, x: rows × d.
template <Device D, class T>
void add_wide_column_sums(D& device, const T* x, double* y, Index rows, Index d) {
    device.map(d, detail::AddWideColumnSums<T>{x, y, rows, d});
}

}  // namespace promptkd
