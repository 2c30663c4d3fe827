// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/device.hpp>

#include <cmath>

namespace promptkd {

namespace detail {

template <class T, class A>
struct LayerNormForward {
    const A* x;
    const T *weight, *bias;
    A* y;
    T *mean, *rstd;  // may be null
    Index d, x_stride;

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const A* in = x + row * x_stride;
        A* out = y + row * d;
        const T *w = weight, *b = bias;
        const T m = team.sum(d, [in](const auto& lane) { return lane.load(in); }) / static_cast<T>(d);
        const T variance = team.sum(d, [in, m](const auto& lane) {
            const LaneValue<decltype(lane)> c = lane.load(in) - lane.fill(m);
            return lane.value(c * c);
        }) / static_cast<T>(d);
        const T r = T(1) / std::sqrt(variance + T(1e-5));
        team.each(d, [=](const auto& lane) {
            const LaneValue<decltype(lane)> c = lane.load(in) - lane.fill(m);
            lane.store(out, lane.value(c * r * lane.load(w) + lane.load(b)));
        });
        if (mean) team.once([this, row, m, r] { mean[row] = m, rstd[row] = r; });
    }
};

template <class T, class A>
struct LayerNormBackward {
    const A *x, *dy;
    const T *weight, *mean, *rstd;
    A* dx;
    Index d, x_stride, dx_stride;
    bool add;

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const A *in = x + row * x_stride, *g = dy + row * d;
        A* out = dx + row * dx_stride;
        const T* w = weight;
        const T m = mean[row], r = rstd[row];
        const T sum_g =
            team.sum(d, [=](const auto& lane) { return lane.value(lane.load(g) * lane.load(w)); }) / static_cast<T>(d);
        const T sum_gx = team.sum(d, [=](const auto& lane) {
            const LaneValue<decltype(lane)> c = (lane.load(in) - lane.fill(m)) * r;
            return lane.value(lane.load(g) * lane.load(w) * c);
        }) / static_cast<T>(d);
        // Two loops, not a condition inside one: g++ 12 -O3 vectorises a conditional assignment of a pack into nothing.
        if (add) {
            team.each(d, [=](const auto& lane) {
                const LaneValue<decltype(lane)> c = (lane.load(in) - lane.fill(m)) * r;
                lane.store(out, lane.value((lane.load(g) * lane.load(w) - lane.fill(sum_g) - c * sum_gx) * r +
                                           lane.load(out)));
            });
        } else {
            team.each(d, [=](const auto& lane) {
                const LaneValue<decltype(lane)> c = (lane.load(in) - lane.fill(m)) * r;
                lane.store(out, lane.value((lane.load(g) * lane.load(w) - lane.fill(sum_g) - c * sum_gx) * r));
            });
        }
    }
};

template <class T, class A>
struct LayerNormParameterGradients {
    const A *x, *dy;
    const T *mean, *rstd;
    T *d_weight, *d_bias;
    Index rows, d;

    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        using V = typename Lane::Value;
        V weight = lane.load(d_weight), bias = lane.load(d_bias);
        for (Index i = 0; i < rows; ++i) {
            const V g = lane.load(dy + i * d), c = (lane.load(x + i * d) - lane.fill(mean[i])) * rstd[i];
            weight = weight + g * c;
            bias = bias + g;
        }
        lane.store(d_weight, weight);
        lane.store(d_bias, bias);
    }
};

template <class T>
struct NormalizeForward {
    const T* x;
    T *y, *inverse;
    Index d;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const T* in = x + row * d;
        T* out = y + row * d;
        const T square = team.sum(d, [in](const auto& lane) {
            const LaneValue<decltype(lane)> v = lane.load(in);
            return lane.value(v * v);
        });
        const T r = T(1) / std::sqrt(square);
        team.each(d, [=](const auto& lane) { lane.store(out, lane.value(lane.load(in) * r)); });
        if (inverse) team.once([this, row, r] { inverse[row] = r; });
    }
};

template <class T>
struct NormalizeBackward {
    const T *y, *inverse;
    T* d;  // dy on entry, dx on exit
    Index n;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const T* u = y + row * n;
        T* g = d + row * n;
        const T dot = team.sum(n, [=](const auto& lane) { return lane.value(lane.load(u) * lane.load(g)); });
        const T r = inverse[row];
        team.each(n, [=](const auto& lane) { lane.store(g, lane.value((lane.load(g) - lane.load(u) * dot) * r)); });
    }
};

}  // namespace detail

/// LayerNorm (eps 1e-5): y = (x − mean)·rstd·weight + bias for each of `rows` rows of `d`; rows of x are `x_stride`
/// apart, rows of y are d apart; y may be x when x_stride = d. `mean` and `rstd` (rows each) are saved unless null.
template <Device D, class A>
void layer_norm_forward(D& device, const A* x, Index x_stride, const typename D::Scalar* weight,
                        const typename D::Scalar* bias, A* y, typename D::Scalar* mean, typename D::Scalar* rstd,
                        Index rows, Index d) {
    using T = typename D::Scalar;
    device.rows(rows, 3 * d, detail::LayerNormForward<T, A>{x, weight, bias, y, mean, rstd, d, x_stride});
}

/// Gradient of LayerNorm with respect to x (its weight and bias are frozen):
/// dx (= or, with `add`, +=) rstd·(g − mean(g) − x̂·mean(g·x̂)), g = dy·weight, x̂ = (x − mean)·rstd.
/// dx may be dy when their strides agree and `add` is false.
template <Device D, class A>
void layer_norm_backward(D& device, const A* x, Index x_stride, const A* dy, const typename D::Scalar* weight,
                         const typename D::Scalar* mean, const typename D::Scalar* rstd, A* dx, Index dx_stride,
                         bool add, Index rows, Index d) {
    using T = typename D::Scalar;
    device.rows(rows, 4 * d,
                detail::LayerNormBackward<T, A>{x, dy, weight, mean, rstd, dx, d, x_stride, dx_stride, add});
}

/// Gradients of LayerNorm's own weight and bias: d_weight[j] += Σ_i dy[i, j]·x̂[i, j], d_bias[j] += Σ_i dy[i, j], for x
/// and dy of `rows` rows of `d`.
template <Device D, class A>
void add_layer_norm_parameter_gradients(D& device, const A* x, const A* dy, const typename D::Scalar* mean,
                                        const typename D::Scalar* rstd, typename D::Scalar* d_weight,
                                        typename D::Scalar* d_bias, Index rows, Index d) {
    using T = typename D::Scalar;
    device.map(d, detail::LayerNormParameterGradients<T, A>{x, dy, mean, rstd, d_weight, d_bias, rows, d});
}

/// y = x / ‖x‖ for each of `rows` rows of d; `inverse` (rows) receives 1/‖x‖ unless null. y may be x.
template <Device D, class T>
void normalize_forward(D& device, const T* x, T* y, T* inverse, Index rows, Index d) {
    device.rows(rows, 2 * d, detail::NormalizeForward<T>{x, y, inverse, d});
}

/// d ← (d − y·(y·d)) / ‖x‖ row by row: the gradient of x from that of y, in place.
template <Device D, class T>
void normalize_backward(D& device, const T* y, const T* inverse, T* d, Index rows, Index n) {
    device.rows(rows, 2 * n, detail::NormalizeBackward<T>{y, inverse, d, n});
}

}  // namespace promptkd
