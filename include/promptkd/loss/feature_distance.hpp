// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/memory.hpp>
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

/// Adds weight·(the mean of Difference over all elements) to *loss and the gradient to dx.
template <template <class> class Difference, Device D, class T>
void add_difference_loss(const Workspace<D>& w, ConstMatrix<T> x, ConstMatrix<T> target, double weight, Matrix<T> dx,
                         T* loss) {
    const Index rows = dx.rows, d = dx.columns;
    require_contiguous(x, rows, d, "difference of features: the features");
    require_contiguous(target, rows, d, "difference of features: their target");
    require_contiguous(dx, rows, d, "difference of features: the gradient");
    const WorkspaceScope scope(w);
    T* row_loss = scratch<T>(w, rows);
    const double share = weight / static_cast<double>(rows * d);
    w.device.rows(rows, 3 * d, Difference<T>{x.data, target.data, row_loss, dx.data, d, static_cast<T>(share)});
    sum(w.device, row_loss, loss, rows, share, Accumulate::yes);
}

}  // namespace detail

/// Adds weight·mean|x − target| over all elements of x and target (rows, d) to *loss and its gradient weight·sign(x −
/// target)/(rows·d) to dx (rows, d): PromptSRC's feature regularisation (section 3.2 of its paper), and PromptKD's
/// ablation "L1".
template <Device D, class T>
void add_absolute_difference_loss(const Workspace<D>& w, ConstMatrix<T> x, ConstMatrix<T> target, double weight,
                                  Matrix<T> dx, T* loss) {
    detail::add_difference_loss<detail::MeanAbsoluteDifference>(w, x, target, weight, dx, loss);
}

/// Adds weight·mean(x − target)² over all elements of x and target (rows, d) to *loss and its gradient 2·weight·(x −
/// target)/(rows·d) to dx (rows, d): PromptKD's ablation "MSE".
template <Device D, class T>
void add_squared_difference_loss(const Workspace<D>& w, ConstMatrix<T> x, ConstMatrix<T> target, double weight,
                                 Matrix<T> dx, T* loss) {
    detail::add_difference_loss<detail::MeanSquaredDifference>(w, x, target, weight, dx, loss);
}

}  // namespace promptkd
