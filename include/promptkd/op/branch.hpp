// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/matrix.hpp>
#include <promptkd/device/device.hpp>

namespace promptkd {

namespace detail {

template <class T, class A>
struct AddScaledColumns {
    const A *f, *x;
    const T* scale;
    A* y;
    Index d;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const A *branch = f + row * d, *in = x + row * d;
        const T* factor = scale;
        A* out = y + row * d;
        team.each(d, [=](const auto& lane) {
            lane.store(out, lane.value(lane.load(in) + lane.load(branch) * lane.load(factor)));
        });
    }
};

template <class T, class A>
struct ScaleColumns {
    const A* x;
    const T* scale;
    A* y;
    Index d;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const A* in = x + row * d;
        const T* factor = scale;
        A* out = y + row * d;
        team.each(d, [=](const auto& lane) { lane.store(out, lane.value(lane.load(in) * lane.load(factor))); });
    }
};

template <class T, class A>
struct AddScaleGradients {
    const A *f, *dy;
    T* d_scale;
    Index rows, d;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        typename Lane::Value total = lane.load(d_scale);
        for (Index i = 0; i < rows; ++i) total = total + lane.load(f + i * d) * lane.load(dy + i * d);
        lane.store(d_scale, total);
    }
};

template <class A>
struct AddMatrices {
    const A* x;
    A* y;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        lane.store(y, lane.value(lane.load(y) + lane.load(x)));
    }
};

}  // namespace detail

/// y = x + γ∘f for each row, γ (d) = `scale`; f, x, y (rows, d), y may be x: a residual branch with LayerScale (Touvron
/// et al., Going deeper with Image Transformers, 2021).
template <Device D, class A>
void add_scaled_columns(D& device, ConstMatrix<A> f, const typename D::Scalar* scale, ConstMatrix<A> x, Matrix<A> y) {
    require_contiguous(f, y.rows, y.columns, "LayerScale: the branch");
    require_contiguous(x, y.rows, y.columns, "LayerScale: x");
    require_contiguous(y, y.rows, y.columns, "LayerScale: y");
    device.rows(y.rows, 3 * y.columns,
                detail::AddScaledColumns<typename D::Scalar, A>{f.data, x.data, scale, y.data, y.columns});
}

/// y = γ∘x for each row, the gradient of the branch; y may be x.
template <Device D, class A>
void scale_columns(D& device, ConstMatrix<A> x, const typename D::Scalar* scale, Matrix<A> y) {
    require_contiguous(x, y.rows, y.columns, "gradient of LayerScale: x");
    require_contiguous(y, y.rows, y.columns, "gradient of LayerScale: y");
    device.rows(y.rows, 2 * y.columns, detail::ScaleColumns<typename D::Scalar, A>{x.data, scale, y.data, y.columns});
}

/// d_scale[j] += Σ_i f[i, j]·dy[i, j]: the gradient of γ from the branch f and from dy (rows, d).
template <Device D, class A>
void add_scale_gradients(D& device, ConstMatrix<A> f, Matrix<A> dy, typename D::Scalar* d_scale) {
    using T = typename D::Scalar;
    require_contiguous(f, dy.rows, dy.columns, "gradient of LayerScale: the branch");
    require_contiguous(dy, dy.rows, dy.columns, "gradient of LayerScale: dy");
    device.map(dy.columns,
               detail::AddScaleGradients<T, std::remove_const_t<A>>{f.data, dy.data, d_scale, dy.rows, dy.columns});
}

/// y += x, matrices of one shape.
template <Device D, class A>
void add(D& device, ConstMatrix<A> x, Matrix<A> y) {
    require_contiguous(x, y.rows, y.columns, "sum: x");
    require_contiguous(y, y.rows, y.columns, "sum: y");
    device.map(y.count(), detail::AddMatrices<A>{x.data, y.data});
}

}  // namespace promptkd
