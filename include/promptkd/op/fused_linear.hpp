// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/device.hpp>
#include <promptkd/op/elementwise.hpp>
#include <promptkd/op/norm.hpp>

namespace promptkd {

namespace detail {

/// h += bias (stored), y = gelu(h).
template <class T, class Activation, class A>
struct BiasGelu {
    const T* bias;
    A *hidden, *y;
    Index d;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        A *h = hidden + row * d, *out = y + row * d;
        const T* b = bias;
        team.each(d, [=](const auto& lane) {
            lane.store(h, lane.value(lane.load(h) + lane.load(b)));
            lane.store(out, Activation::value(lane, lane.load(h)));  // of the value as it is stored
        });
    }
};

/// x += bias + residual (stored), then LayerNorm of x.
template <class T, class A>
struct BiasResidualNorm {
    const T* bias;
    const A* residual;
    A* x;
    LayerNormForward<T, A> norm;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        A* line = x + row * norm.d;
        const A* r = residual + row * norm.d;
        const T* b = bias;
        team.each(norm.d, [=](const auto& lane) {
            lane.store(line, lane.value(lane.load(line) + lane.load(b) + lane.load(r)));
        });
        norm.normalize(team, row, line);
    }
};

}  // namespace detail

/// hidden += bias, y = gelu(hidden), rows of d: one pass over what a product has left.
template <Device D, class A>
void bias_gelu(D& device, Gelu kind, const typename D::Scalar* bias, A* hidden, A* y, Index rows, Index d) {
    using T = typename D::Scalar;
    if (kind == Gelu::quick)
        device.rows(rows, 2 * d, detail::BiasGelu<T, detail::QuickGelu<T>, A>{bias, hidden, y, d});
    else
        device.rows(rows, 2 * d, detail::BiasGelu<T, detail::ExactGelu<T>, A>{bias, hidden, y, d});
}

/// x += bias + residual, y = LayerNorm(x), rows of d; mean and rstd (rows) are saved unless null.
template <Device D, class A>
void bias_residual_norm(D& device, const typename D::Scalar* bias, const A* residual, A* x,
                        const typename D::Scalar* weight, const typename D::Scalar* norm_bias, A* y,
                        typename D::Scalar* mean, typename D::Scalar* rstd, Index rows, Index d) {
    using T = typename D::Scalar;
    device.rows(rows, 4 * d,
                detail::BiasResidualNorm<T, A>{bias, residual, x, {x, weight, norm_bias, y, mean, rstd, d, d}});
}

}  // namespace promptkd
