// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/nn/frozen.hpp>
#include <promptkd/nn/param_set.hpp>
#include <promptkd/op/reduce.hpp>

namespace promptkd {

/// y = x·Wᵀ + b (+ residual): x (rows, in), W (out, in), y and residual (rows, out); residual may be y.
template <Device D, class X, class Y>
void linear_forward(D& device, const FrozenLinear<typename D::Scalar>& layer, const X* x, Y* y, Index rows,
                    const Y* residual = nullptr) {
    Gemm g;
    g.m = rows, g.n = layer.weight.rows, g.k = layer.weight.columns;
    g.a = operand(x, g.k);
    g.b = layer.weight.as_transposed();
    g.c = y, g.c_type = dtype_of<Y>, g.ldc = g.n;
    g.bias_as_c = layer.activation_bias && std::is_same_v<Y, typename D::Activation>;
    g.bias = g.bias_as_c ? static_cast<const void*>(layer.activation_bias) : layer.bias;
    g.residual = residual;
    device.gemm(g);
}

/// dx (rows, in) = dy·W: the only gradient a frozen Linear has.
template <Device D, class X, class Y>
void linear_backward(D& device, const FrozenLinear<typename D::Scalar>& layer, const Y* dy, X* dx, Index rows) {
    Gemm g;
    g.m = rows, g.n = layer.weight.columns, g.k = layer.weight.rows;
    g.a = operand(dy, g.k);
    g.b = layer.weight.as_operand();
    g.c = dx, g.c_type = dtype_of<X>, g.ldc = g.n;
    device.gemm(g);
}

/// Weight (out, in) and bias (out) of a learnable Linear.
template <class T>
struct TrainableLinear {
    const Param<T>*weight = nullptr, *bias = nullptr;

    Index inputs() const { return weight->shape[1]; }
    Index outputs() const { return weight->shape[0]; }
};

/// y = x·Wᵀ + b: x (rows, in), y (rows, out).
template <Device D, class T>
void linear_forward(D& device, const TrainableLinear<T>& layer, const T* x, T* y, Index rows) {
    Gemm g;
    g.m = rows, g.n = layer.outputs(), g.k = layer.inputs();
    g.a = operand(static_cast<const T*>(x), g.k);
    g.b = transposed(static_cast<const T*>(layer.weight->value), g.k);
    g.c = y, g.c_type = dtype_of<T>, g.ldc = g.n;
    g.bias = layer.bias->value;
    device.gemm(g);
}

/// dW += dyᵀ·x, db += Σ dy, and dx (rows, in) = dy·W unless dx is null.
template <Device D, class T>
void linear_backward(D& device, const TrainableLinear<T>& layer, const T* x, const T* dy, T* dx, Index rows) {
    Gemm g;
    g.m = layer.outputs(), g.n = layer.inputs(), g.k = rows;
    g.a = transposed(dy, g.m);
    g.b = operand(x, g.n);
    g.c = layer.weight->grad, g.c_type = dtype_of<T>, g.ldc = g.n, g.beta = 1;
    device.gemm(g);
    add_column_sums(device, dy, layer.bias->grad, rows, layer.outputs());
    if (!dx) return;
    Gemm back;
    back.m = rows, back.n = layer.inputs(), back.k = layer.outputs();
    back.a = operand(dy, back.k);
    back.b = operand(static_cast<const T*>(layer.weight->value), back.n);
    back.c = dx, back.c_type = dtype_of<T>, back.ldc = back.n;
    device.gemm(back);
}

}  // namespace promptkd
