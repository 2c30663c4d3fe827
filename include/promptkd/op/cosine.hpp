// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/device.hpp>

namespace promptkd {

/// logits (rows, classes) = scale·features·vectorsᵀ.
template <Device D, class T>
void cosine_logits(D& device, const T* features, const T* vectors, T* logits, Index rows, Index classes, Index embed,
                   double scale) {
    Gemm g;
    g.m = rows, g.n = classes, g.k = embed, g.alpha = scale;
    g.a = operand(features, embed);
    g.b = transposed(vectors, embed);
    g.c = logits, g.c_type = dtype_of<T>, g.ldc = classes;
    device.gemm(g);
}

/// d_features (rows, embed) = scale·d_logits·vectors.
template <Device D, class T>
void cosine_logits_backward(D& device, const T* d_logits, const T* vectors, T* d_features, Index rows, Index classes,
                            Index embed, double scale) {
    Gemm g;
    g.m = rows, g.n = embed, g.k = classes, g.alpha = scale;
    g.a = operand(d_logits, classes);
    g.b = operand(vectors, embed);
    g.c = d_features, g.c_type = dtype_of<T>, g.ldc = embed;
    device.gemm(g);
}

/// d_vectors (classes, embed) = scale·d_logitsᵀ·features.
template <Device D, class T>
void cosine_logits_backward_vectors(D& device, const T* d_logits, const T* features, T* d_vectors, Index rows,
                                    Index classes, Index embed, double scale) {
    Gemm g;
    g.m = classes, g.n = embed, g.k = rows, g.alpha = scale;
    g.a = transposed(d_logits, classes);
    g.b = operand(features, embed);
    g.c = d_vectors, g.c_type = dtype_of<T>, g.ldc = embed;
    device.gemm(g);
}

}  // namespace promptkd
