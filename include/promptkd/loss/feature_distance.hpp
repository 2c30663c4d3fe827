// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/op/reduce.hpp>

namespace promptkd {

namespace detail {

template <class T>
struct MeanAbsoluteDifference {
    const T *x, *target;
    T *row_loss, *dx;
    Index d;
    T scale;

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const T *a = x + row * d, *b = target + row * d;
        T* out = dx + row * d;
        const T share = scale;
        const T total = team.sum(d, [=](const auto& lane) {
            using V = LaneValue<decltype(lane)>;
            const V difference = lane.load(a) - lane.load(b), one = lane.fill(share);
            const V sign = lane.where_positive(difference, one) - lane.where_positive(lane.value(-difference), one);
            lane.store(out, lane.value(lane.load(out) + sign));
            return lane.abs(difference);
        });
        team.once([this, row, total] { row_loss[row] = total; });
    }
};

template <class T>
struct MeanSquaredDifference {
    const T *x, *target;
    T *row_loss, *dx;
    Index d;
    T scale;

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const T *a = x + row * d, *b = target + row * d;
        T* out = dx + row * d;
        const T slope = 2 * scale;
        const T total = team.sum(d, [=](const auto& lane) {
            const LaneValue<decltype(lane)> difference = lane.load(a) - lane.load(b);
            lane.store(out, lane.value(lane.load(out) + difference * slope));
            return lane.value(difference * difference);
        });
        team.once([this, row, total] { row_loss[row] = total; });
    }
};

}  // namespace detail

/// Adds weight·mean|x − target| over all rows·d elements to *loss and its gradient weight·sign(x − target)/(rows·d) to
/// dx: PromptSRC's feature regularisation (section 3.2 of its paper), and PromptKD's ablation "L1". `row_loss` is
/// scratch for `rows` values.
template <Device D, class T>
void add_absolute_difference_loss(D& device, const T* x, const T* target, T* dx, T* row_loss, T* loss, Index rows,
                                  Index d, double weight) {
    const double share = weight / static_cast<double>(rows * d);
    device.rows(rows, 3 * d, detail::MeanAbsoluteDifference<T>{x, target, row_loss, dx, d, static_cast<T>(share)});
    sum(device, row_loss, loss, rows, share, true);
}

/// Adds weight·mean(x − target)² over all rows·d elements to *loss and its gradient 2·weight·(x − target)/(rows·d) to
/// dx: PromptKD's ablation "MSE". `row_loss` is scratch for `rows` values.
template <Device D, class T>
void add_squared_difference_loss(D& device, const T* x, const T* target, T* dx, T* row_loss, T* loss, Index rows,
                                 Index d, double weight) {
    const double share = weight / static_cast<double>(rows * d);
    device.rows(rows, 3 * d, detail::MeanSquaredDifference<T>{x, target, row_loss, dx, d, static_cast<T>(share)});
    sum(device, row_loss, loss, rows, share, true);
}

}  // namespace promptkd
