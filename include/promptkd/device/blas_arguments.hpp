// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/device/device.hpp>

#include <algorithm>
#include <limits>

namespace promptkd {

/// One call of a COLUMN-MAJOR product library (cuBLAS): D = α·op(A)·op(B) + β·C (+ bias, a value for each row of D),
/// `batch` times. op(A) is m×k, op(B) k×n; C has the leading dimension, type and stride of D and may be D.
struct BlasCall {
    bool transpose_a = false, transpose_b = false;             ///< as column-major factors
    int m = 0, n = 0, k = 0;                                   ///< of the column-major product
    DType factor_type = DType::f32, result_type = DType::f32;  ///< of a and b, of c and d
    const void *a = nullptr, *b = nullptr, *c = nullptr;       ///< factors and what is added
    void* d = nullptr;                                         ///< the result
    int lda = 1, ldb = 1, ldc = 1;                             ///< leading dimensions
    Index stride_a = 0, stride_b = 0, stride_c = 0;            ///< from one product of a batch to the next
    int batch = 1;                                             ///< products of the call
    double alpha = 1, beta = 0;                                ///< d = alpha·a·b + beta·c
    const void* bias = nullptr;                                ///< m values of the result's type
};

/// What a Gemm becomes: the same call `calls` times, `step_*` bytes apart, and a bias that has to be added afterwards.
struct BlasPlan {
    BlasCall call;                             ///< the first call
    Index calls = 1;                           ///< how many
    Index step_a = 0, step_b = 0, step_c = 0;  ///< bytes from one call to the next
    const void* later_bias = nullptr;          ///< a bias that a pass of its own adds; null: none

    /// Call number `i`.
    BlasCall at(Index i) const {
        BlasCall moved = call;
        moved.a = static_cast<const char*>(call.a) + i * step_a;
        moved.b = static_cast<const char*>(call.b) + i * step_b;
        moved.c = static_cast<const char*>(call.c) + i * step_c;
        moved.d = static_cast<char*>(call.d) + i * step_c;
        return moved;
    }
};

namespace detail {

inline int blas_size(Index n, const char* what) {
    require(n >= 0 && n <= std::numeric_limits<int>::max(), "product: ", what, " is ", n, ", which cuBLAS cannot take");
    return static_cast<int>(n);
}

/// The leading dimensions that cuBLAS accepts: at least the rows of the stored matrix, and 1.
inline void check_leading_dimensions(const BlasCall& x) {
    const auto enough = [&](int ld, int rows, const char* name) {
        require(ld >= std::max(1, rows), "product ", x.m, "×", x.n, "×", x.k, ": leading dimension ", ld, " of ", name,
                " is less than its ", rows, " rows");
    };
    enough(x.lda, x.transpose_a ? x.k : x.m, "A");
    enough(x.ldb, x.transpose_b ? x.n : x.k, "B");
    enough(x.ldc, x.m, "C");
}

/// y[i, j] += bias[j], where the library cannot add it.
template <class B, class C>
struct AddBias {
    const B* bias;
    C* y;
    Index columns, ld;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        C* line = y + row * ld;
        const B* b = bias;
        team.each(columns, [=](const auto& lane) { lane.store(line, lane.value(lane.load(line) + lane.load(b))); });
    }
};

}  // namespace detail

/// The column-major call(s) for a row-major product: C = A·B read as column-major is Cᵀ = Bᵀ·Aᵀ, so the factors change
/// places and every matrix keeps its leading dimension. A residual becomes C with β = 1. Of the two levels of batches
/// the shorter one is looped over unless both make one evenly spaced sequence. Throws Error for what cuBLAS rejects:
/// factors of two types, sizes beyond 2³¹−1, short leading dimensions.
inline BlasPlan plan_blas(const Gemm& g) {
    require(g.a.type == g.b.type, "product: factors of types ", name_of(g.a.type), " and ", name_of(g.b.type),
            "; a GPU product needs one type (store the weights in the type of the activations)");
    require(g.beta == 0 || (!g.bias && !g.residual), "product: bias and residual need beta = 0");
    BlasPlan plan;
    BlasCall& x = plan.call;
    x.transpose_a = g.b.transposed;
    x.transpose_b = g.a.transposed;
    x.m = detail::blas_size(g.n, "n");
    x.n = detail::blas_size(g.m, "m");
    x.k = detail::blas_size(g.k, "k");
    x.factor_type = g.a.type;
    x.result_type = g.c_type;
    x.a = g.b.data;
    x.b = g.a.data;
    x.d = g.c;
    x.c = g.residual ? g.residual : g.c;
    x.lda = detail::blas_size(g.b.ld, "ldb");
    x.ldb = detail::blas_size(g.a.ld, "lda");
    x.ldc = detail::blas_size(g.ldc, "ldc");
    x.alpha = g.alpha;
    x.beta = g.residual ? 1 : g.beta;

    Index inner = g.batch, outer = g.outer;
    Index ia = g.b.stride, ib = g.a.stride, ic = g.stride_c, oa = g.b.outer_stride, ob = g.a.outer_stride,
          oc = g.outer_stride_c;
    if (inner == 1 || (outer > 1 && outer > inner && !(oa == inner * ia && ob == inner * ib && oc == inner * ic))) {
        std::swap(inner, outer);
        std::swap(ia, oa);
        std::swap(ib, ob);
        std::swap(ic, oc);
    }
    if (outer > 1 && oa == inner * ia && ob == inner * ib && oc == inner * ic) {
        inner *= outer;
        outer = 1;
    }
    x.batch = detail::blas_size(inner, "batch");
    x.stride_a = ia;
    x.stride_b = ib;
    x.stride_c = ic;
    plan.calls = outer;
    plan.step_a = oa * static_cast<Index>(size_of(x.factor_type));
    plan.step_b = ob * static_cast<Index>(size_of(x.factor_type));
    plan.step_c = oc * static_cast<Index>(size_of(x.result_type));
    if (g.bias) {
        require(g.batch * g.outer == 1, "product: a bias with ", g.batch * g.outer, " products is not supported");
        (g.c_type == DType::f32 || g.bias_as_c ? x.bias : plan.later_bias) = g.bias;
    }
    detail::check_leading_dimensions(x);
    return plan;
}

/// Runs a Gemm on a device with a column-major library: device.blas(call) for each call, or all in one where the device
/// offers blas_at_once(plan) and it returns true; then the bias where the library cannot add it.
template <class D>
void run_blas(D& device, const Gemm& g) {
    using T = typename D::Scalar;
    if (g.m == 0 || g.n == 0 || g.batch == 0 || g.outer == 0) return;
    const BlasPlan plan = plan_blas(g);
    bool done = false;
    if constexpr (requires { device.blas_at_once(plan); }) done = plan.calls > 1 && device.blas_at_once(plan);
    for (Index i = 0; !done && i < plan.calls; ++i) device.blas(plan.at(i));
    if (!plan.later_bias) return;
    const T* bias = static_cast<const T*>(plan.later_bias);
    const auto add = [&](auto* y) {
        device.rows(g.m, g.n, detail::AddBias<T, std::remove_pointer_t<decltype(y)>>{bias, y, g.n, g.ldc});
    };
    switch (g.c_type) {
        case DType::f64:
            return add(static_cast<double*>(g.c));
        case DType::f16:
            return add(static_cast<half*>(g.c));
        case DType::bf16:
            return add(static_cast<bf16*>(g.c));
        default:
            fail("product: a result of type ", name_of(g.c_type), " is not supported");
    }
}

}  // namespace promptkd
