// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/nn/frozen.hpp>
#include <promptkd/nn/param_set.hpp>
#include <promptkd/op/reduce.hpp>

namespace promptkd {

/// y = x·Wᵀ + b (+ residual): x (rows, in), W (out, in), y and residual (rows, out); residual may be y, or absent (null
/// data). Elements of x and y may have different types.
template <Device D, class X, class Y>
void linear_forward(D& device, const FrozenLinear<typename D::Scalar>& layer, Matrix<X> x, Matrix<Y> y,
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

/// dx (rows, in) = dy·W, dy (rows, out): the only gradient a frozen Linear has.
template <Device D, class X, class Y>
void linear_backward(D& device, const FrozenLinear<typename D::Scalar>& layer, Matrix<Y> dy, Matrix<X> dx) {
    require_shape(dy, dx.rows, layer.outputs(), "gradient of Linear: dy");
    require_shape(dx, dy.rows, layer.inputs(), "gradient of Linear: dx");
    device.gemm(matrix_product(operand(dy), layer.weight.as_operand(), layer.outputs(), dx));
}

/// Weight (out, in) and bias (out) of a learnable Linear.
template <class T>
struct TrainableLinear {
    const Param<T>* weight = nullptr;  ///< (outputs, inputs)
    const Param<T>* bias = nullptr;    ///< (outputs)

    /// Values of a row that goes in.
    Index inputs() const { return weight->shape[1]; }
    /// Values of a row that comes out.
    Index outputs() const { return weight->shape[0]; }
    /// The weight's values and gradients as matrices.
    Matrix<const T> values() const { return {weight->value, outputs(), inputs()}; }
    /// The weight's gradient.
    Matrix<T> gradients() const { return {weight->grad, outputs(), inputs()}; }
};

/// y = x·Wᵀ + b: x (rows, in), y (rows, out).
template <Device D, class T>
void linear_forward(D& device, const TrainableLinear<T>& layer, ConstMatrix<T> x, std::type_identity_t<Matrix<T>> y) {
    require_shape(x, y.rows, layer.inputs(), "Linear: x");
    require_shape(y, x.rows, layer.outputs(), "Linear: y");
    Gemm g = matrix_product(operand(x), transposed(layer.values()), layer.inputs(), y);
    g.bias = layer.bias->value;
    device.gemm(g);
}

/// dW += dyᵀ·x, db += Σ dy, and dx (rows, in) = dy·W unless dx is absent (null data): x (rows, in), dy (rows, out).
template <Device D, class T>
void linear_backward(D& device, const TrainableLinear<T>& layer, ConstMatrix<T> x, ConstMatrix<T> dy,
                     std::type_identity_t<Matrix<T>> dx = {}) {
    require_shape(x, dy.rows, layer.inputs(), "gradient of Linear: x");
    require_shape(dy, x.rows, layer.outputs(), "gradient of Linear: dy");
    Gemm g = matrix_product(transposed(dy), operand(x), x.rows, layer.gradients());
    g.beta = 1;
    device.gemm(g);
    add_column_sums(device, dy, layer.bias->grad);
    if (!dx.data) return;
    require_shape(dx, dy.rows, layer.inputs(), "gradient of Linear: dx");
    device.gemm(matrix_product(operand(dy), operand(layer.values()), layer.outputs(), dx));
}

}  // namespace promptkd
