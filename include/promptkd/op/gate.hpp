// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/matrix.hpp>
#include <promptkd/device/device.hpp>

#include <cmath>

namespace promptkd {

namespace detail {

template <class T, class A>
struct SwigluForward {
    const A *gate, *x;
    A* y;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        using std::exp;
        using V = typename Lane::Value;
        const V g = lane.load(gate);
        const V e = exp(lane.value(g * T(-1)));
        lane.store(y, lane.value(g / (e + T(1)) * lane.load(x)));
    }
};

template <class T, class A>
struct SwigluBackward {
    const A *gate, *x;
    A *d_gate, *d_x;  // d_x: dy on entry
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        using std::exp;
        using V = typename Lane::Value;
        const V g = lane.load(gate), dy = lane.load(d_x);
        const V e = exp(lane.value(g * T(-1)));
        const V s = lane.fill(T(1)) / (e + T(1));
        const V slope = s * (g * (lane.fill(T(1)) - s) + T(1));
        lane.store(d_gate, lane.value(dy * lane.load(x) * slope));
        lane.store(d_x, lane.value(dy * g * s));
    }
};

}  // namespace detail

/// y = silu(gate)∘x, silu(g) = g·σ(g), matrices of one shape (SwiGLU: Shazeer, GLU Variants Improve Transformer, 2020).
/// y may be one of the inputs.
template <Device D, class A>
void swiglu_forward(D& device, ConstMatrix<A> gate, ConstMatrix<A> x, Matrix<A> y) {
    require_contiguous(gate, y.rows, y.columns, "SwiGLU: the gate");
    require_contiguous(x, y.rows, y.columns, "SwiGLU: x");
    require_contiguous(y, y.rows, y.columns, "SwiGLU: y");
    device.map(y.count(), detail::SwigluForward<typename D::Scalar, A>{gate.data, x.data, y.data});
}

/// d_gate = dy∘x∘silu'(gate) and d_x = dy∘silu(gate), matrices of one shape; d_x holds dy on entry.
template <Device D, class A>
void swiglu_backward(D& device, ConstMatrix<A> gate, ConstMatrix<A> x, Matrix<A> d_gate, Matrix<A> d_x) {
    require_contiguous(gate, d_x.rows, d_x.columns, "gradient of SwiGLU: the gate");
    require_contiguous(x, d_x.rows, d_x.columns, "gradient of SwiGLU: x");
    require_contiguous(d_gate, d_x.rows, d_x.columns, "gradient of SwiGLU: d_gate");
    require_contiguous(d_x, d_x.rows, d_x.columns, "gradient of SwiGLU: d_x");
    device.map(d_x.count(), detail::SwigluBackward<typename D::Scalar, A>{gate.data, x.data, d_gate.data, d_x.data});
}

}  // namespace promptkd
