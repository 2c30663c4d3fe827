// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/dtype.hpp>
#include <promptkd/core/matrix.hpp>

namespace promptkd {

/// One factor of a product: a row-major matrix in device memory with leading dimension `ld` (elements between rows).
/// `transposed` means that the STORED matrix is the transpose of the factor.
struct Operand {
    const void* data = nullptr;  ///< the first element
    DType type = DType::f32;     ///< of the elements
    Index ld = 0;                ///< elements from one stored row to the next
    bool transposed = false;     ///< the stored matrix is the factor's transpose
    Index stride = 0;            ///< elements between consecutive products of the batch
    Index outer_stride = 0;      ///< elements between consecutive batches
    Index panel = 0;             ///< not 0: in the order of the device's kernel, see WeightStorage::packed

    /// Start of the matrix of product (outer, batch).
    const void* at(Index outer, Index batch) const {
        const Index offset = outer * outer_stride + batch * stride;
        return static_cast<const char*>(data) + offset * static_cast<Index>(size_of(type));
    }
};

/// Row-major products  C = α·A·B + β·C  (A: m×k, B: k×n, C: m×n), `outer`·`batch` of them.
/// Where given, `bias` (n values of the device's Scalar, or of C's type: bias_as_c) is added to every row and
/// `residual` (m×n, the type of C, leading dimension ldc and strides of C; may be C itself) to the result; both require
/// β = 0. Products accumulate in the device's Scalar (fp32 for 16-bit types).
struct Gemm {
    Index m = 0, n = 0, k = 0;                        ///< rows and columns of c, inner extent
    Operand a, b;                                     ///< the factors
    void* c = nullptr;                                ///< the result
    DType c_type = DType::f32;                        ///< of its elements
    Index ldc = 0, stride_c = 0, outer_stride_c = 0;  ///< elements between rows, products and outer products of c
    double alpha = 1, beta = 0;                       ///< factors of the product, of what c held before
    Index batch = 1, outer = 1;                       ///< products of one size: outer × batch
    const void* bias = nullptr;                       ///< n values added to each row; null: none
    bool bias_as_c = false;                           ///< only for a device that says so, see Linear
    const void* residual = nullptr;                   ///< a matrix of c's shape that is added; null: none

    /// Where product (o, i) begins in c.
    Index offset_c(Index o, Index i) const { return o * outer_stride_c + i * stride_c; }
};

/// A factor stored as the row-major matrix `data`.
template <class T>
Operand operand(const T* data, Index ld) {
    return {data, dtype_of<T>, ld, false, 0, 0};
}

/// A factor that is the transpose of the row-major matrix `data`.
template <class T>
Operand transposed(const T* data, Index ld) {
    return {data, dtype_of<T>, ld, true, 0, 0};
}

/// A factor that is the matrix `m`, or its transpose.
template <class T>
Operand operand(const Matrix<T>& m) {
    return operand(static_cast<const T*>(m.data), m.ld);
}
/// The same, transposed.
template <class T>
Operand transposed(const Matrix<T>& m) {
    return transposed(static_cast<const T*>(m.data), m.ld);
}

/// C = A·B: `c` gives the sizes of the result, `inner` the columns of A, which are the rows of B.
template <class C>
Gemm matrix_product(const Operand& a, const Operand& b, Index inner, Matrix<C> c) {
    Gemm g;
    g.m = c.rows;
    g.n = c.columns;
    g.k = inner;
    g.a = a;
    g.b = b;
    g.c = c.data;
    g.c_type = dtype_of<C>;
    g.ldc = c.ld;
    return g;
}

/// The same factor with strides for batched products.
inline Operand strided(Operand x, Index stride, Index outer_stride = 0) {
    x.stride = stride;
    x.outer_stride = outer_stride;
    return x;
}

}  // namespace promptkd
