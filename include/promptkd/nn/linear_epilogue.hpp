// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/nn/linear.hpp>
#include <promptkd/op/fused_linear.hpp>

namespace promptkd {

/// Whether what follows a product is done in one pass with its bias. cuBLASLt adds a bias in fp32 alone; a 16-bit
/// result needs another pass anyway.
template <Device D>
constexpr bool fuses_epilogues() {
    if constexpr (requires { requires D::fused_operations; })
        return sizeof(typename D::Activation) < sizeof(typename D::Scalar);
    else
        return false;
}

/// hidden = x·Wᵀ + b, y = gelu(hidden); y may be hidden.
template <Device D, class A>
void linear_gelu(D& device, const FrozenLinear<typename D::Scalar>& layer, Gelu kind, const A* x, A* hidden, A* y,
                 Index rows) {
    const Index width = layer.weight.rows;
    if (fuses_epilogues<D>() && layer.bias) {
        linear_forward(device, FrozenLinear<typename D::Scalar>{layer.weight, nullptr}, x, hidden, rows);
        bias_gelu(device, kind, layer.bias, hidden, y, rows, width);
    } else {
        linear_forward(device, layer, x, hidden, rows);
        gelu_forward(device, kind, static_cast<const A*>(hidden), y, rows * width);
    }
}

/// y = x·Wᵀ + b + residual, normalized = LayerNorm(y); normalized may be x.
template <Device D, class A>
void linear_residual_norm(D& device, const FrozenLinear<typename D::Scalar>& layer, const A* x, const A* residual, A* y,
                          const FrozenNorm<typename D::Scalar>& norm, A* normalized, typename D::Scalar* mean,
                          typename D::Scalar* rstd, Index rows) {
    const Index d = layer.weight.rows;
    if (fuses_epilogues<D>() && layer.bias && static_cast<const void*>(residual) != y) {
        linear_forward(device, FrozenLinear<typename D::Scalar>{layer.weight, nullptr}, x, y, rows);
        bias_residual_norm(device, layer.bias, residual, y, norm.weight, norm.bias, normalized, mean, rstd, rows, d);
    } else {
        linear_forward(device, layer, x, y, rows, residual);
        layer_norm_forward(device, static_cast<const A*>(y), d, norm.weight, norm.bias, normalized, mean, rstd, rows,
                           d);
    }
}

}  // namespace promptkd
