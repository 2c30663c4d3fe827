// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/nn/linear.hpp>
#include <promptkd/op/norm.hpp>

namespace promptkd {

/// Where the gradients of an encoder's weights go when these are learnable: weights and gradients lie at equal offsets
/// of one ParamSet, so a layer needs no second set of pointers. Frozen encoders are given none (a null pointer).
template <class T>
struct WeightGradients {
    const T* values = nullptr;  ///< all values of the ParamSet
    T* gradients = nullptr;     ///< their gradients

    /// The gradient of a weight that is one of the values.
    T* of(const void* weight) const { return gradients + (static_cast<const T*>(weight) - values); }
};

/// dW += dyᵀ·x and db += Σ dy of a layer whose weights are learnable: x (rows, in), dy (rows, out). Nothing when `to`
/// is null.
template <Device D, class X, class Y>
void add_linear_gradients(D& device, const FrozenLinear<typename D::Scalar>& layer, Matrix<X> x, Matrix<Y> dy,
                          const WeightGradients<typename D::Scalar>* to) {
    if (!to) return;
    require_shape(x, dy.rows, layer.inputs(), "gradients of a Linear's weights: x");
    require_shape(dy, x.rows, layer.outputs(), "gradients of a Linear's weights: dy");
    const Matrix<typename D::Scalar> gradients{to->of(layer.weight.data), layer.outputs(), layer.inputs()};
    Gemm g = matrix_product(transposed(dy), operand(x), x.rows, gradients);
    g.beta = 1;
    device.gemm(g);
    if (layer.bias) add_column_sums(device, dy, to->of(layer.bias));
}

/// Gradients of a LayerNorm's weight and bias from dy, the gradient of its output, (rows, d). Nothing when `to` is
/// null.
template <Device D, class A>
void add_norm_gradients(D& device, const FrozenNorm<typename D::Scalar>& norm,
                        const LayerNormTape<A, typename D::Scalar>& tape, ConstMatrix<A> dy,
                        const WeightGradients<typename D::Scalar>* to) {
    if (to) add_layer_norm_parameter_gradients(device, tape, dy, to->of(norm.weight), to->of(norm.bias));
}

}  // namespace promptkd
