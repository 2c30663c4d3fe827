// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/op/reduce.hpp>

#include <cmath>
#include <cstdint>

namespace promptkd {

namespace detail {

template <class T>
struct CrossEntropy {
    const T* logits;
    const std::int32_t* labels;
    T *row_loss, *d_logits;
    Index classes;
    T scale;

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const T* q = logits + row * classes;
        T* out = d_logits + row * classes;
        const T share = scale;
        const T top = team.max(classes, [q](const auto& lane) { return lane.load(q); });
        const T total = team.sum(classes, [=](const auto& lane) {
            using std::exp;
            const LaneValue<decltype(lane)> e = exp(lane.value(lane.load(q) - lane.fill(top)));
            lane.store(out, e);
            return e;
        });
        const T factor = share / total;
        team.each(classes, [=](const auto& lane) { lane.store(out, lane.value(lane.load(out) * factor)); });
        team.once([this, row, q, out, top, total] {
            const Index label = labels[row];
            out[label] -= scale;
            row_loss[row] = std::log(total) + top - q[label];
        });
    }
};

}  // namespace detail

/// Cross-entropy −log softmax(logits)[label], summed over `rows` and divided by `average_over` (0: by rows): writes it
/// to *loss (device memory; adds with `add`) and its gradient (p − onehot)/average_over to d_logits. `row_loss` is
/// scratch for `rows` values; labels are on the device.
template <Device D, class T>
void cross_entropy_loss(D& device, const T* logits, const std::int32_t* labels, T* d_logits, T* row_loss, T* loss,
                        Index rows, Index classes, Index average_over = 0, bool add = false) {
    const double share = 1.0 / static_cast<double>(average_over > 0 ? average_over : rows);
    device.rows(rows, 4 * classes,
                detail::CrossEntropy<T>{logits, labels, row_loss, d_logits, classes, static_cast<T>(share)});
    sum(device, row_loss, loss, rows, share, add);
}

}  // namespace promptkd
