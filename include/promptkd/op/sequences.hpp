// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/op/gather.hpp>

namespace promptkd {

/// How the rows of a (rows, d) activation form token sequences: first `prefix` rows that every sequence begins with
/// (the same tokens at the same positions: SOT and a generic context of the text encoder, computed once for all
/// classes), then `count` runs of `length` rows. Row of token t of sequence i: t if t < prefix, else prefix + i·length
/// + (t − prefix). Images have no prefix. Position-wise layers never notice; attention does. `causal`: token t sees
/// tokens ≤ t.
struct Sequences {
    Index prefix = 0;     ///< rows that all sequences share
    Index count = 0;      ///< sequences
    Index length = 0;     ///< rows of each behind the prefix
    bool causal = false;  ///< a token attends to itself and those before
    /// Keys that the last row of each sequence sees, the first ones, in device memory; null: as `causal` says.
    const std::int32_t* last_row_keys = nullptr;

    /// All rows.
    PROMPTKD_HD Index rows() const { return prefix + count * length; }
    /// Tokens of a sequence, the prefix included.
    PROMPTKD_HD Index tokens() const { return prefix + length; }
};

/// One row of each sequence, the only ones that are read after the last block: local position positions[i] in the run
/// of sequence i (null: 0, the class token).
struct Selection {
    const std::int32_t* positions = nullptr;  ///< the selected token of each sequence, in device memory
};

/// y[i] = x[selected row of sequence i]: x (s.rows(), d), y (s.count, d).
template <Device D, class A>
void gather_selected(D& device, const Sequences& s, const Selection& selection, ConstMatrix<A> x, Matrix<A> y) {
    require_contiguous(x, s.rows(), y.columns, "gathering selected rows: x");
    require_contiguous(y, s.count, x.columns, "gathering selected rows: y");
    device.rows(
        s.count, y.columns,
        detail::MoveRows<A, A, false>{x.data, y.data, selection.positions, s.prefix, s.length, y.columns, false});
}

/// y[selected row of sequence i] += x[i]: x (s.count, d), y (s.rows(), d).
template <Device D, class A>
void scatter_add_selected(D& device, const Sequences& s, const Selection& selection, ConstMatrix<A> x, Matrix<A> y) {
    require_contiguous(x, s.count, y.columns, "scattering selected rows: x");
    require_contiguous(y, s.rows(), x.columns, "scattering selected rows: y");
    device.rows(s.count, y.columns,
                detail::MoveRows<A, A, true>{x.data, y.data, selection.positions, s.prefix, s.length, y.columns, true});
}

}  // namespace promptkd
