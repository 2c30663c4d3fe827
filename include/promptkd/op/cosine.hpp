// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/matrix.hpp>
#include <promptkd/device/device.hpp>

namespace promptkd {

/// logits (rows, classes) = scale·features·vectorsᵀ, features (rows, embed), vectors (classes, embed).
template <Device D, class T>
void cosine_logits(D& device, ConstMatrix<T> features, ConstMatrix<T> vectors, double scale, Matrix<T> logits) {
    require_shape(features, logits.rows, vectors.columns, "cosine logits: the features");
    require_shape(vectors, logits.columns, features.columns, "cosine logits: the class vectors");
    Gemm g = matrix_product(operand(features), transposed(vectors), features.columns, logits);
    g.alpha = scale;
    device.gemm(g);
}

/// d_features (rows, embed) = scale·d_logits·vectors, d_logits (rows, classes), vectors (classes, embed).
template <Device D, class T>
void cosine_logits_backward(D& device, ConstMatrix<T> d_logits, ConstMatrix<T> vectors, double scale,
                            Matrix<T> d_features) {
    require_shape(d_logits, d_features.rows, vectors.rows, "gradient of cosine logits: d_logits");
    require_shape(vectors, d_logits.columns, d_features.columns, "gradient of cosine logits: the class vectors");
    Gemm g = matrix_product(operand(d_logits), operand(vectors), vectors.rows, d_features);
    g.alpha = scale;
    device.gemm(g);
}

/// d_vectors (classes, embed) = scale·d_logitsᵀ·features, d_logits (rows, classes), features (rows, embed).
template <Device D, class T>
void cosine_logits_backward_vectors(D& device, ConstMatrix<T> d_logits, ConstMatrix<T> features, double scale,
                                    Matrix<T> d_vectors) {
    require_shape(d_logits, features.rows, d_vectors.rows, "gradient of class vectors: d_logits");
    require_shape(features, d_logits.rows, d_vectors.columns, "gradient of class vectors: the features");
    Gemm g = matrix_product(transposed(d_logits), operand(features), features.rows, d_vectors);
    g.alpha = scale;
    device.gemm(g);
}

}  // namespace promptkd
