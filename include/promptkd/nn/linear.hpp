// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/nn/frozen.hpp>
#include <promptkd/nn/low_rank_product.hpp>
#include <promptkd/nn/param_set.hpp>
#include <promptkd/op/reduce.hpp>

namespace promptkd {

namespace detail {

/// y = x·Wᵀ + b (+ residual), whatever the low-rank update.
template <Device D, class X, class Y>
void dense_forward(D& device, const Linear<typename D::Scalar>& layer, Matrix<X> x, Matrix<Y> y,
                   ConstMatrix<Y> residual) {
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

/// dx = (or +=) dy·W, whatever the low-rank update.
template <Device D, class X, class Y>
void dense_backward(D& device, const Linear<typename D::Scalar>& layer, Matrix<Y> dy, Matrix<X> dx,
                    Accumulate accumulate) {
    require_shape(dy, dx.rows, layer.outputs(), "gradient of Linear: dy");
    require_shape(dx, dy.rows, layer.inputs(), "gradient of Linear: dx");
    Gemm g = matrix_product(operand(dy), layer.weight.as_operand(), layer.outputs(), dx);
    if (accumulate == Accumulate::yes) g.beta = 1;
    device.gemm(g);
}

/// dW += dyᵀ·x and db += Σ dy, where they are trained.
template <Device D, class X, class Y>
void add_dense_gradients(D& device, const Linear<typename D::Scalar>& layer, Matrix<X> x, Matrix<Y> dy) {
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

template <Device D>
void require_no_update(const Linear<typename D::Scalar>& layer) {
    require(!layer.low_rank, "a Linear with a low-rank update needs a Workspace, and one type of what goes in and out");
}

/// f(product of the layer's low-rank update), for matrices of X and Y in and out.
template <class X, class Y, Device D, class F>
void with_update(const Workspace<D>& w, const Linear<typename D::Scalar>& layer, const F& f) {
    if constexpr (std::is_same_v<std::remove_const_t<X>, std::remove_const_t<Y>>) {
        LowRankProduct<D, std::remove_const_t<X>> product(w, layer);
        f(product);
    } else {
        require_no_update<D>(layer);
    }
}

}  // namespace detail

/// y = x·Wᵀ + b (+ residual): x (rows, in), W (out, in), y and residual (rows, out); residual may be y, or absent (null
/// data). Elements of x and y may have different types. For layers without a low-rank update; throws Error for others.
template <Device D, class X, class Y>
void linear_forward(D& device, const Linear<typename D::Scalar>& layer, Matrix<X> x, Matrix<Y> y,
                    ConstMatrix<Y> residual = {}) {
    detail::require_no_update<D>(layer);
    detail::dense_forward(device, layer, x, y, residual);
}

/// dx (rows, in) = (or +=) dy·W, dy (rows, out): the gradient of the layer's input. For layers without a low-rank
/// update; throws Error for others.
template <Device D, class X, class Y>
void linear_backward(D& device, const Linear<typename D::Scalar>& layer, Matrix<Y> dy, Matrix<X> dx,
                     Accumulate accumulate = Accumulate::no) {
    detail::require_no_update<D>(layer);
    detail::dense_backward(device, layer, dy, dx, accumulate);
}

/// dW += dyᵀ·x and db += Σ dy where the layer is trained: x (rows, in), dy (rows, out). Nothing for a frozen one. For
/// layers without a low-rank update; throws Error for others.
template <Device D, class X, class Y>
void add_linear_gradients(D& device, const Linear<typename D::Scalar>& layer, Matrix<X> x, Matrix<Y> dy) {
    if (!layer.needs_input()) return;
    detail::require_no_update<D>(layer);
    detail::add_dense_gradients(device, layer, x, dy);
}

/// The same with a low-rank update: y = x·(W + scale·B·A)ᵀ + b (+ residual), as x·Wᵀ + scale·(x·Aᵀ)·Bᵀ.
template <Device D, class X, class Y>
void linear_forward(const Workspace<D>& w, const Linear<typename D::Scalar>& layer, Matrix<X> x, Matrix<Y> y,
                    ConstMatrix<Y> residual = {}) {
    detail::dense_forward(w.device, layer, x, y, residual);
    if (layer.low_rank) detail::with_update<X, Y>(w, layer, [&](auto& update) { update.add_to_outputs(x, y); });
}

/// dx (rows, in) = (or +=) dy·(W + scale·B·A)
template <Device D, class X, class Y>
void linear_backward(const Workspace<D>& w, const Linear<typename D::Scalar>& layer, Matrix<Y> dy, Matrix<X> dx,
                     Accumulate accumulate = Accumulate::no) {
    detail::dense_backward(w.device, layer, dy, dx, accumulate);
    if (layer.low_rank)
        detail::with_update<X, Y>(w, layer, [&](auto& update) { update.add_to_input_gradient(dy, dx); });
}

/// The gradients of all that is trained of a layer: dW, db, and dB += scale·dyᵀ·(x·Aᵀ), dA += scale·(dy·B)ᵀ·x.
template <Device D, class X, class Y>
void add_linear_gradients(const Workspace<D>& w, const Linear<typename D::Scalar>& layer, Matrix<X> x, Matrix<Y> dy) {
    if (!layer.needs_input()) return;
    detail::add_dense_gradients(w.device, layer, x, dy);
    if (layer.low_rank.is_trained())
        detail::with_update<X, Y>(w, layer, [&](auto& update) { update.add_gradients(x, dy); });
}

/// The gradients of all that is trained of a layer, as add_linear_gradients() adds them, and dx (rows, in) = (or +=)
/// dy·(W + scale·B·A). x may lie where dx will be; it is not read where nothing is trained.
template <Device D, class X, class Y>
void linear_gradients(const Workspace<D>& w, const Linear<typename D::Scalar>& layer, Matrix<X> x, Matrix<Y> dy,
                      Matrix<X> dx, Accumulate accumulate = Accumulate::no) {
    if (!layer.low_rank.is_trained()) {
        add_linear_gradients(w, layer, x, dy);
        linear_backward(w, layer, dy, dx, accumulate);
        return;
    }
    detail::add_dense_gradients(w.device, layer, x, dy);
    detail::with_update<X, Y>(w, layer, [&](auto& update) {
        update.add_gradients(x, dy);
        detail::dense_backward(w.device, layer, dy, dx, accumulate);
        update.add_to_input_gradient(dy, dx);
    });
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
