// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/nn/linear.hpp>
#include <promptkd/op/norm.hpp>

namespace promptkd {

/// Where the gradients of an encoder's weights go when these are learnable: weights and gradients lie at equal offsets
/// of one ParamSet, so a layer needs no second set of pointers. Frozen encoders are given none (a null pointer).
template <class T>
struct WeightGradients {
    const T* values = nullptr;
    T* gradients = nullptr;

    T* of(const void* weight) const { return gradients + (static_cast<const T*>(weight) - values); }
};

/// dW += dyᵀ·x and db += Σ dy of a layer whose weights are learnable: x (rows, in), dy (rows, out). Nothing when `to`
/// is null.
template <Device D, class A>
void add_linear_gradients(D& device, const FrozenLinear<typename D::Scalar>& layer, const A* x, const A* dy, Index rows,
                          const WeightGradients<typename D::Scalar>* to) {
    using T = typename D::Scalar;
    if (!to) return;
    Gemm g;
    g.m = layer.weight.rows, g.n = layer.weight.columns, g.k = rows;
    g.a = transposed(dy, g.m);
    g.b = operand(x, g.n);
    g.c = to->of(layer.weight.data), g.c_type = dtype_of<T>, g.ldc = g.n, g.beta = 1;
    device.gemm(g);
    if (layer.bias) add_column_sums(device, dy, to->of(layer.bias), rows, g.m);
}

/// Gradients of a LayerNorm's weight and bias from dy, the gradient of its output, (rows, d). Nothing when `to` is
/// null.
template <Device D, class A>
void add_norm_gradients(D& device, const FrozenNorm<typename D::Scalar>& norm, const A* x, const A* dy,
                        const typename D::Scalar* mean, const typename D::Scalar* rstd, Index rows, Index d,
                        const WeightGradients<typename D::Scalar>* to) {
    if (to)
        add_layer_norm_parameter_gradients(device, x, dy, mean, rstd, to->of(norm.weight), to->of(norm.bias), rows, d);
}

}  // namespace promptkd
