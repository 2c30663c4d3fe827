// SPDX-License-Identifier: Apache-2.0
#pragma once

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

/// y[i] = x[i] + row for each of `rows` rows of d.
template <Device D, class T>
void add_row(D& device, const T* x, const T* row, T* y, Index rows, Index d) {
    device.rows(rows, d, detail::AddRow<T>{x, row, y, d});
}

}  // namespace promptkd
