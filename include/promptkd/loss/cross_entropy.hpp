// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/memory.hpp>
#include <promptkd/op/reduce.hpp>

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
        const ExponentialSum<T> sum = store_exponentials(team, classes, q, out);
        const T factor = scale / sum.total;
        team.each(classes, [=](const auto& lane) { lane.store(out, lane.value(lane.load(out) * factor)); });
        team.once([this, row, q, out, sum] {
            const Index label = labels[row];
            out[label] -= scale;
            row_loss[row] = sum.log() - q[label];
        });
    }
};

}  // namespace detail

/// How a loss is averaged and where it goes.
struct CrossEntropyOptions {
    Index average_over = 0;                  ///< the number that the sum over rows is divided by; 0: the rows
    Accumulate accumulate = Accumulate::no;  ///< whether the loss (not its gradient) is added to what is there
};

/// Cross-entropy −log softmax(logits)[label], summed over rows and divided by their number: writes it to *loss (device
/// memory) and its gradient (p − onehot)/rows to d_logits. logits and d_logits (rows, classes), labels (rows), on the
/// device.
template <Device D, class T>
void cross_entropy_loss(const Workspace<D>& w, ConstMatrix<T> logits, const std::int32_t* labels, Matrix<T> d_logits,
                        T* loss, const CrossEntropyOptions& options = {}) {
    const Index rows = d_logits.rows, classes = d_logits.columns;
    require_contiguous(logits, rows, classes, "cross-entropy: the logits");
    require_contiguous(d_logits, rows, classes, "cross-entropy: the gradient");
    const WorkspaceScope scope(w);
    T* row_loss = scratch<T>(w, rows);
    const double share = 1.0 / static_cast<double>(options.average_over > 0 ? options.average_over : rows);
    w.device.rows(
        rows, 4 * classes,
        detail::CrossEntropy<T>{logits.data, labels, row_loss, d_logits.data, classes, static_cast<T>(share)});
    sum(w.device, row_loss, loss, rows, share, options.accumulate);
}

}  // namespace promptkd
