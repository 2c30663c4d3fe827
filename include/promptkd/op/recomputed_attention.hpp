// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/op/fused_attention.hpp>
#include <promptkd/op/mma_attention_backward.hpp>

namespace promptkd {

/// How the device computes attention of this shape: as it was told to where the kernel takes the shape, else composed.
template <Device D>
AttentionKernel attention_kernel(const D& device, const AttentionShape& shape) {
    if (uses_mma_attention(device, shape)) return AttentionKernel::mma;
    return uses_fused_attention(device, shape) ? AttentionKernel::fused : AttentionKernel::composed;
}

/// attention_forward by the kernel that attention_kernel() names, another than the composed one: no probabilities are
/// kept, log_sum (heads·rows values) is what the backward pass needs.
template <Device D, class A>
void recomputed_attention_forward(D& device, const AttentionShape& shape,
                                  const std::type_identity_t<QueriesKeysValues<const A>>& x,
                                  typename D::Scalar* log_sum, Matrix<A> o) {
    if constexpr (MatrixDevice<D>)
        if (uses_mma_attention(device, shape)) return mma_attention_forward(device, shape, x, log_sum, o);
    fused_attention_forward(device, shape, x, log_sum, o);
}

/// attention_backward by the same kernel.
template <Device D, class A>
void recomputed_attention_backward(const Workspace<D>& w, const AttentionShape& shape,
                                   const std::type_identity_t<QueriesKeysValues<const A>>& x,
                                   const typename D::Scalar* log_sum, ConstMatrix<A> d_o,
                                   const QueriesKeysValues<A>& gradients) {
    if constexpr (MatrixDevice<D>)
        if (uses_mma_attention(w.device, shape)) return mma_attention_backward(w, shape, x, log_sum, d_o, gradients);
    fused_attention_backward(w, shape, x, log_sum, d_o, gradients);
}

}  // namespace promptkd
