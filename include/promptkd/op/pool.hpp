// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/matrix.hpp>
#include <promptkd/device/device.hpp>

namespace promptkd {

/// The tokens [first, first + cells) of each sequence of `tokens` rows: the patches of an image.
struct PatchTokens {
    Index first = 0, cells = 0, tokens = 0;  ///< see the struct
};

namespace detail {

template <class T, class A>
struct MeanOfTokens {
    const A* x;
    A* y;
    PatchTokens at;
    Index d;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index i) const {
        const A* from = x + (i * at.tokens + at.first) * d;
        A* out = y + i * d;
        const Index cells = at.cells, width = d;
        const T share = T(1) / static_cast<T>(cells);
        team.each(d, [=](const auto& lane) {
            LaneValue<decltype(lane)> total = lane.load(from);
            for (Index j = 1; j < cells; ++j) total = total + lane.load(from + j * width);
            lane.store(out, lane.value(total * share));
        });
    }
};

template <class T, class A>
struct SpreadMean {
    const A* dy;
    A* dx;
    PatchTokens at;
    Index d;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const Division token = divide(row, at.tokens);
        const A* from = dy + token.quotient * d;
        A* out = dx + row * d;
        const bool inside = token.remainder >= at.first && token.remainder < at.first + at.cells;
        const T share = inside ? T(1) / static_cast<T>(at.cells) : T(0);
        team.each(d, [=](const auto& lane) { lane.store(out, lane.value(lane.load(from) * share)); });
    }
};

template <class T, class A>
struct RepeatRow {
    const T* row;
    A* y;
    Index d;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index i) const {
        const T* from = row;
        A* out = y + i * d;
        team.each(d, [=](const auto& lane) { lane.store(out, lane.load(from)); });
    }
};

}  // namespace detail

/// y (count, d) = the mean of each sequence's patch tokens, x (count·at.tokens, d).
template <Device D, class A>
void mean_of_tokens(D& device, const PatchTokens& at, ConstMatrix<A> x, Matrix<A> y) {
    require_contiguous(x, y.rows * at.tokens, y.columns, "mean of tokens: x");
    require_contiguous(y, y.rows, y.columns, "mean of tokens: y");
    device.rows(y.rows, at.cells * y.columns,
                detail::MeanOfTokens<typename D::Scalar, A>{x.data, y.data, at, y.columns});
}

/// Its gradient: dx (count·at.tokens, d) = dy/cells in the rows of patch tokens, 0 in all others; dy (count, d).
template <Device D, class A>
void mean_of_tokens_backward(D& device, const PatchTokens& at, ConstMatrix<A> dy, Matrix<A> dx) {
    require_contiguous(dy, dy.rows, dx.columns, "gradient of a mean of tokens: dy");
    require_contiguous(dx, dy.rows * at.tokens, dx.columns, "gradient of a mean of tokens: dx");
    device.rows(dx.rows, dx.columns, detail::SpreadMean<typename D::Scalar, A>{dy.data, dx.data, at, dx.columns});
}

/// Every row of y (rows, d) = `row` (d).
template <Device D, class A>
void repeat_row(D& device, const typename D::Scalar* row, Matrix<A> y) {
    require_contiguous(y, y.rows, y.columns, "repeating a row: y");
    device.rows(y.rows, y.columns, detail::RepeatRow<typename D::Scalar, A>{row, y.data, y.columns});
}

}  // namespace promptkd
