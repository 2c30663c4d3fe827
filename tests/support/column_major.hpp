// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/blas_arguments.hpp>

#include <vector>

namespace promptkd::test {

/// The columns of op(X) (rows × columns), stored column-major with leading dimension `ld`, widened to T and packed.
template <class T, class S>
std::vector<T> packed(const S* x, int rows, int columns, int ld, bool transpose) {
    std::vector<T> out(static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns));
    std::size_t at = 0;
    for (Index j = 0; j < columns; ++j)
        for (Index i = 0; i < rows; ++i) out[at++] = static_cast<T>(transpose ? x[j + i * ld] : x[i + j * ld]);
    return out;
}

/// sums += weight·column, of m values: the innermost loop. It takes nearly all the time of the golden cases on the
/// emulated device, whose units are compiled without vectors.
template <class T>
#if defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__)
__attribute__((noinline, optimize("O3")))
#endif
void add_scaled_column(T* sums, const T* column, T weight, std::size_t m) {
    for (std::size_t i = 0; i < m; ++i) sums[i] += column[i] * weight;
}

/// What cuBLAS computes for one product of a call, by its documentation: accumulated in T, rounded once.
template <class T, class S, class R>
void column_major_product(const BlasCall& x, const S* a, const S* b, const R* c, R* d) {
    const std::vector<T> left = packed<T>(a, x.m, x.k, x.lda, x.transpose_a),
                         right = packed<T>(b, x.k, x.n, x.ldb, x.transpose_b);
    const T alpha = static_cast<T>(x.alpha), beta = static_cast<T>(x.beta);
    const R* bias = static_cast<const R*>(x.bias);
    const auto m = static_cast<std::size_t>(x.m);
    std::vector<T> sums(m);
    for (int j = 0; j < x.n; ++j) {
        std::fill(sums.begin(), sums.end(), T(0));
        for (int l = 0; l < x.k; ++l) {
            const T weight =
                right[static_cast<std::size_t>(j) * static_cast<std::size_t>(x.k) + static_cast<std::size_t>(l)];
            add_scaled_column(sums.data(), left.data() + static_cast<std::size_t>(l) * m, weight, m);
        }
        const Index at = static_cast<Index>(j) * x.ldc;
        for (std::size_t i = 0; i < m; ++i) {
            T value = alpha * sums[i];
            if (beta != T(0))
                value += beta * static_cast<T>(c[at + static_cast<Index>(i)]);  // with β = 0, C is not read
            if (bias) value += static_cast<T>(bias[i]);
            d[at + static_cast<Index>(i)] = R(value);
        }
    }
}

/// All products of a call whose factors are S and whose results are R.
template <class T, class S, class R>
void column_major_batch(const BlasCall& x) {
    for (int i = 0; i < x.batch; ++i)
        column_major_product<T>(x, static_cast<const S*>(x.a) + i * x.stride_a,
                                static_cast<const S*>(x.b) + i * x.stride_b,
                                static_cast<const R*>(x.c) + i * x.stride_c, static_cast<R*>(x.d) + i * x.stride_c);
}

/// The combinations of types that cublasGemmEx documents for this compute type.
template <class T>
void column_major(const BlasCall& x) {
    const auto is = [&](DType factor, DType result) { return x.factor_type == factor && x.result_type == result; };
    if (is(dtype_of<T>, dtype_of<T>)) return column_major_batch<T, T, T>(x);
    if constexpr (std::is_same_v<T, float>) {
        if (is(DType::f16, DType::f16)) return column_major_batch<T, half, half>(x);
        if (is(DType::bf16, DType::bf16)) return column_major_batch<T, bf16, bf16>(x);
        if (is(DType::f16, DType::f32)) return column_major_batch<T, half, float>(x);
        if (is(DType::bf16, DType::f32)) return column_major_batch<T, bf16, float>(x);
    }
    fail("cuBLAS has no product of ", name_of(x.factor_type), " into ", name_of(x.result_type), " computed in ",
         name_of(dtype_of<T>));
}

}  // namespace promptkd::test
