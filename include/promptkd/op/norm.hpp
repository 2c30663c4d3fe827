// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/memory.hpp>
#include <promptkd/op/formulas.hpp>

namespace promptkd {

/// ε of CLIP's LayerNorms; other towers have their own.
inline constexpr double layer_norm_epsilon = 1e-5;

/// Where a LayerNorm stands: in front of what it belongs to, or behind it. A residual branch is x + f(LN(x)) or
/// x + LN(f(x)).
enum class NormPlace { before, after };

/// A LayerNorm's weight and bias, one value a column each, and its ε.
template <class T>
struct LayerNormWeights {
    const T* weight = nullptr;            ///< (d)
    const T* bias = nullptr;              ///< (d)
    double epsilon = layer_norm_epsilon;  ///< added to the variance
};

/// Mean and rstd = 1/√(var + ε) of each row; null pointers where nobody needs them.
template <class T>
struct RowMoments {
    T* mean = nullptr;  ///< (rows)
    T* rstd = nullptr;  ///< (rows), 1/√(variance + ε)
};

/// Memory for the moments of `rows` rows until the arena's reset().
template <class T, Device D>
RowMoments<T> keep_moments(const Workspace<D>& workspace, Index rows) {
    RowMoments<T> moments;  ///< of its rows
    moments.mean = keep<T>(workspace, rows);
    moments.rstd = keep<T>(workspace, rows);
    return moments;
}

/// What the backward pass of a LayerNorm reads: its input and that input's moments. A is the type of the activation.
template <class A, class T>
struct LayerNormTape {
    Matrix<const A> x;      ///< what was normalised
    RowMoments<T> moments;  ///< of the rows
};

namespace detail {

template <class T, class A>
struct LayerNormForward {
    const A* x;
    const T *weight, *bias;
    A* y;
    T *mean, *rstd;  // may be null
    T epsilon;
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
        const T r = T(1) / std::sqrt(variance + epsilon);
        team.each(d, [=](const auto& lane) {
            lane.store(out, lane.value(standardized(lane, in, m, r) * lane.load(w) + lane.load(b)));
        });
        if (!mean) return;
        team.once([this, row, m, r] {
            mean[row] = m;
            rstd[row] = r;
        });
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
            return lane.value(lane.load(g) * lane.load(w) * standardized(lane, in, m, r));
        }) / static_cast<T>(d);
        const bool accumulate = add;
        team.each(d, [=](const auto& lane) {
            const LaneValue<decltype(lane)> x_hat = standardized(lane, in, m, r);
            const LaneValue<decltype(lane)> centred = lane.load(g) * lane.load(w) - lane.fill(sum_g) - x_hat * sum_gx;
            store_or_add(lane, out, centred, r, accumulate);
        });
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
            const V g = lane.load(dy + i * d);
            weight = weight + g * standardized(lane, x + i * d, mean[i], rstd[i]);
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

/// LayerNorm: y = x̂·weight + bias, x̂ = (x − mean)·rstd for each row of x (rows, d). y may be x. The moments of the rows
/// go to `moments`, unless its pointers are null.
template <Device D, class A>
void layer_norm_forward(D& device, ConstMatrix<A> x, const LayerNormWeights<typename D::Scalar>& norm, Matrix<A> y,
                        const RowMoments<typename D::Scalar>& moments = {}) {
    using T = typename D::Scalar;
    require_shape(x, y.rows, y.columns, "LayerNorm: x");
    require_contiguous(y, y.rows, y.columns, "LayerNorm: y");
    device.rows(y.rows, 3 * y.columns,
                detail::LayerNormForward<T, A>{x.data, norm.weight, norm.bias, y.data, moments.mean, moments.rstd,
                                               static_cast<T>(norm.epsilon), y.columns, x.ld});
}

/// Gradient of LayerNorm with respect to x: dx = (or +=) rstd·(g − mean(g) − x̂·mean(g·x̂)), g = dy·weight. dx may be dy
/// when it is not added to.
template <Device D, class A>
void layer_norm_backward(D& device, const LayerNormWeights<typename D::Scalar>& norm,
                         const LayerNormTape<A, typename D::Scalar>& tape, ConstMatrix<A> dy, Matrix<A> dx,
                         Accumulate accumulate = Accumulate::no) {
    using T = typename D::Scalar;
    require_shape(tape.x, dx.rows, dx.columns, "gradient of LayerNorm: x");
    require_contiguous(dy, dx.rows, dx.columns, "gradient of LayerNorm: dy");
    device.rows(dx.rows, 4 * dx.columns,
                detail::LayerNormBackward<T, A>{tape.x.data, dy.data, norm.weight, tape.moments.mean, tape.moments.rstd,
                                                dx.data, dx.columns, tape.x.ld, dx.ld, accumulate == Accumulate::yes});
}

/// Gradients of LayerNorm's own weight and bias (d values each): d_weight[j] += Σ_i dy[i, j]·x̂[i, j], d_bias[j] +=
/// Σ_i dy[i, j], for x and dy (rows, d).
template <Device D, class A>
void add_layer_norm_parameter_gradients(D& device, const LayerNormTape<A, typename D::Scalar>& tape, ConstMatrix<A> dy,
                                        typename D::Scalar* d_weight, typename D::Scalar* d_bias) {
    using T = typename D::Scalar;
    require_contiguous(tape.x, dy.rows, dy.columns, "parameter gradients of LayerNorm: x");
    require_contiguous(dy, dy.rows, dy.columns, "parameter gradients of LayerNorm: dy");
    device.map(dy.columns,
               detail::LayerNormParameterGradients<T, A>{tape.x.data, dy.data, tape.moments.mean, tape.moments.rstd,
                                                         d_weight, d_bias, dy.rows, dy.columns});
}

/// y = x / ‖x‖ for each row of x (rows, d); y may be x. `inverse` (rows) receives 1/‖x‖ unless it is null.
template <Device D, class T>
void normalize_forward(D& device, ConstMatrix<T> x, Matrix<T> y, std::type_identity_t<T*> inverse = nullptr) {
    require_contiguous(x, y.rows, y.columns, "normalisation: x");
    require_contiguous(y, y.rows, y.columns, "normalisation: y");
    device.rows(y.rows, 2 * y.columns, detail::NormalizeForward<T>{x.data, y.data, inverse, y.columns});
}

/// d ← (d − y·(y·d)) / ‖x‖ row by row: the gradient of x from that of y (rows, n), in place.
template <Device D, class T>
void normalize_backward(D& device, ConstMatrix<T> y, ConstPointer<T> inverse, Matrix<T> d) {
    require_contiguous(y, d.rows, d.columns, "gradient of a normalisation: y");
    require_contiguous(d, d.rows, d.columns, "gradient of a normalisation: d");
    device.rows(d.rows, 2 * d.columns, detail::NormalizeBackward<T>{y.data, inverse, d.data, d.columns});
}

}  // namespace promptkd
