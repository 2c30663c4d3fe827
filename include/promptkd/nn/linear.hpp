// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/nn/frozen.hpp>
#include <promptkd/nn/param_set.hpp>
#include <promptkd/op/reduce.hpp>

namespace promptkd {

/// y = x·Wᵀ + b (+ residual): x (rows, in), W (out, in), y and residual (rows, out); residual may be y, or absent (null
/// data). Elements of x and y may have different types.
template <Device D, class X, class Y>
void linear_forward(D& device, const Linear<typename D::Scalar>& layer, Matrix<X> x, Matrix<Y> y,
                    ConstMatrix<Y> residual = {}) {
    require_shape(x, y.rows, layer.inputs(), "Linear: x");
    require_shape(y, x.rows, layer.outputs(), "Linear: y");
    Gemm g = matrix_product(operand(x), layer.weight.as_transposed(), layer.inputs(), y);
    g.bias_as_c = layer.activation_bias && std::is_same_v<Y, typename D::Activation>;
    g.bias = g.bias_as_c ? static_cast<const void*>(layer.activation_bias) : layer.bias;
    if (residual.data) {
        require_shape(residual, y.rows, y.columns, "Linear: the residual");
        require(residual.ld == y.ld, "Linear: rows of the residual are ", residual.ld, " apart, those of y ", y.ld);
        g.residual = residual.data;
    }
    device.gemm(g);
}

/// dx (rows, in) = (or +=) dy·W, dy (rows, out): the gradient of the layer's input.
template <Device D, class X, class Y>
void linear_backward(D& device, const Linear<typename D::Scalar>& layer, Matrix<Y> dy, Matrix<X> dx,
                     Accumulate accumulate = Accumulate::no) {
    require_shape(dy, dx.rows, layer.outputs(), "gradient of Linear: dy");
    require_shape(dx, dy.rows, layer.inputs(), "gradient of Linear: dx");
    Gemm g = matrix_product(operand(dy), layer.weight.as_operand(), layer.outputs(), dx);
    if (accumulate == Accumulate::yes) g.beta = 1;
    device.gemm(g);
}

/// dW += dyᵀ·x and db += Σ dy where the layer is trained: x (rows, in), dy (rows, out). Nothing for a frozen one.
template <Device D, class X, class Y>
void add_linear_gradients(D& device, const Linear<typename D::Scalar>& layer, Matrix<X> x, Matrix<Y> dy) {
    if (!layer.needs_input()) return;
    require_shape(x, dy.rows, layer.inputs(), "gradients of a Linear's weights: x");
    require_shape(dy, x.rows, layer.outputs(), "gradients of a Linear's weights: dy");
    if (layer.training.weight) {
        const Matrix<typename D::Scalar> gradients{layer.training.weight, layer.outputs(), layer.inputs()};
        Gemm g = matrix_product(transposed(dy), operand(x), x.rows, gradients);
        g.beta = 1;
        device.gemm(g);
    }
    if (layer.training.bias) add_column_sums(device, dy, layer.training.bias);
}

/// Gradients of a LayerNorm's weight and bias from dy, the gradient of its output, (rows, d). Nothing for a frozen one.
template <Device D, class A>
void add_norm_gradients(D& device, const Norm<typename D::Scalar>& norm,
                        const LayerNormTape<A, typename D::Scalar>& tape, ConstMatrix<A> dy) {
    if (norm.training.needs_input())
        add_layer_norm_parameter_gradients(device, tape, dy, norm.training.weight, norm.training.bias);
}

/// Weight (out, in) and bias (out) of a Linear that are parameters of a ParamSet.
template <class T>
struct LinearParams {
    const Param<T>* weight = nullptr;  ///< (outputs, inputs), trailing extents of 1 allowed
    const Param<T>* bias = nullptr;    ///< (outputs)

    /// The layer, once the parameters are bound; frozen where they are bound without gradients.
    Linear<T> layer() const {
        return {{weight->value, dtype_of<T>, weight->shape[0], weight->shape[1]},
                bias->value,
                nullptr,
                {weight->grad, bias->grad}};
    }
};

}  // namespace promptkd
