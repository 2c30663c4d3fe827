// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/blas_arguments.hpp>
#include <promptkd/device/cuda/check.hpp>

#include <cstdint>
#include <map>
#include <tuple>

namespace promptkd::detail {

inline cudaDataType_t cuda_type(DType type) {
    switch (type) {
        case DType::f64:
            return CUDA_R_64F;
        case DType::f32:
            return CUDA_R_32F;
        case DType::f16:
            return CUDA_R_16F;
        case DType::bf16:
            return CUDA_R_16BF;
        default:
            fail("product: cuBLAS is not used with type ", name_of(type));
    }
}

/// The addresses of the matrices of a batch of products, in device memory.
struct BatchPointers {
    static constexpr Index most = 1 << 16;  ///< products
    const void **a = nullptr, **b = nullptr;
    void** c = nullptr;
};

/// Where product i of a plan finds its matrices: i = call·batch + product of the call.
struct BatchAddresses {
    const char *a, *b;
    char* c;
    Index batch, call_a, call_b, call_c, product_a, product_b, product_c;  // in bytes

    explicit BatchAddresses(const BlasPlan& plan)
        : a(static_cast<const char*>(plan.call.a)),
          b(static_cast<const char*>(plan.call.b)),
          c(static_cast<char*>(plan.call.d)),
          batch(plan.call.batch),
          call_a(plan.step_a),
          call_b(plan.step_b),
          call_c(plan.step_c),
          product_a(plan.call.stride_a * static_cast<Index>(size_of(plan.call.factor_type))),
          product_b(plan.call.stride_b * static_cast<Index>(size_of(plan.call.factor_type))),
          product_c(plan.call.stride_c * static_cast<Index>(size_of(plan.call.result_type))) {}

    __device__ void write(Index i, const BatchPointers& to) const {
        const Division at = divide(i, batch);
        to.a[i] = a + at.quotient * call_a + at.remainder * product_a;
        to.b[i] = b + at.quotient * call_b + at.remainder * product_b;
        to.c[i] = c + at.quotient * call_c + at.remainder * product_c;
    }
};

static __global__ void fill_pointers_kernel(BatchAddresses from, BatchPointers to, Index n) {
    const Index step = static_cast<Index>(gridDim.x) * blockDim.x;
    for (Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) from.write(i, to);
}

/// Products on one stream: cuBLAS, and cuBLASLt where a bias or another matrix is added in the same pass. The algorithm
/// that cuBLASLt's heuristic chooses is kept for every shape.
class CudaProducts {
public:
    CudaProducts(int device, cudaStream_t stream, bool tf32) : device_(device), stream_(stream), tf32_(tf32) {
        cuda_check(cublasCreate(&blas_), "cublasCreate", device_);
        cuda_check(cublasLtCreate(&lt_), "cublasLtCreate", device_);
        cuda_check(cudaMalloc(&workspace_, workspace_bytes), "cudaMalloc", device_, " for the workspace of cuBLAS");
        for (void** pointers : {(void**)&pointers_.a, (void**)&pointers_.b, (void**)&pointers_.c})
            cuda_check(cudaMalloc(pointers, BatchPointers::most * sizeof(void*)), "cudaMalloc", device_,
                       " for the addresses of batches");
        cuda_check(cublasSetStream(blas_, stream), "cublasSetStream", device_);
        cuda_check(cublasSetWorkspace(blas_, workspace_, workspace_bytes), "cublasSetWorkspace", device_);
    }
    ~CudaProducts() {
        cublasLtDestroy(lt_);
        cublasDestroy(blas_);
        cudaFree(workspace_);
        cudaFree(pointers_.a);
        cudaFree(pointers_.b);
        cudaFree(pointers_.c);
    }
    CudaProducts(const CudaProducts&) = delete;
    CudaProducts& operator=(const CudaProducts&) = delete;

    /// Runs the call if one library call can do it; false when cuBLASLt has no algorithm for its bias or third matrix.
    bool run(const BlasCall& x) {
        if (!x.bias && x.c == x.d) {
            plain(x);
            return true;
        }
        return fused(x);
    }

    /// The call without bias and with C = D.
    void plain(const BlasCall& x) {
        const Scale alpha(x.alpha, x.factor_type), beta(x.beta, x.factor_type);
        cuda_check(cublasGemmStridedBatchedEx(blas_, operation(x.transpose_a), operation(x.transpose_b), x.m, x.n, x.k,
                                              alpha.get(), x.a, cuda_type(x.factor_type), x.lda, x.stride_a, x.b,
                                              cuda_type(x.factor_type), x.ldb, x.stride_b, beta.get(), x.d,
                                              cuda_type(x.result_type), x.ldc, x.stride_c, x.batch,
                                              compute(x.factor_type), CUBLAS_GEMM_DEFAULT),
                   "cublasGemmStridedBatchedEx", device_, describe(x));
    }

    /// Room for BatchPointers::most products' addresses. One batch at a time uses it, in the order of the stream.
    const BatchPointers& pointers() const { return pointers_; }

    /// Whether cuBLAS may be given addresses for this plan: it takes 16 bytes of alignment for granted.
    static bool takes_pointers(const BlasPlan& plan) {
        const BlasCall& x = plan.call;
        const Index unit = static_cast<Index>(size_of(x.factor_type)),
                    result = static_cast<Index>(size_of(x.result_type));
        const auto whole = [](Index bytes) { return bytes % 16 == 0; };
        const auto at = [](const void* p) { return static_cast<Index>(reinterpret_cast<std::uintptr_t>(p) % 16); };
        return !x.bias && x.c == x.d && at(x.a) + at(x.b) + at(x.d) == 0 && whole(x.lda * unit) &&
               whole(x.ldb * unit) && whole(x.ldc * result) && whole(x.stride_a * unit) && whole(x.stride_b * unit) &&
               whole(x.stride_c * result) && whole(plan.step_a) && whole(plan.step_b) && whole(plan.step_c);
    }

    /// The products of a plan whose addresses have been written to `at`.
    void at_once(const BlasCall& x, const BatchPointers& at, Index count) {
        const Scale alpha(x.alpha, x.factor_type), beta(x.beta, x.factor_type);
        cuda_check(cublasGemmBatchedEx(blas_, operation(x.transpose_a), operation(x.transpose_b), x.m, x.n, x.k,
                                       alpha.get(), at.a, cuda_type(x.factor_type), x.lda, at.b,
                                       cuda_type(x.factor_type), x.ldb, beta.get(), at.c, cuda_type(x.result_type),
                                       x.ldc, static_cast<int>(count), compute(x.factor_type), CUBLAS_GEMM_DEFAULT),
                   "cublasGemmBatchedEx", device_, describe(x));
    }

private:
    /// α or β in the type that the product computes in.
    class Scale {
    public:
        Scale(double value, DType type)
            : wide_(value), narrow_(static_cast<float>(value)), is_wide_(type == DType::f64) {}
        const void* get() const { return is_wide_ ? static_cast<const void*>(&wide_) : &narrow_; }

    private:
        double wide_;
        float narrow_;
        bool is_wide_;
    };

    /// Everything that the choice of an algorithm depends on; the last number is the alignment of all pointers.
    using Key = std::tuple<bool, bool, int, int, int, int, int, int, DType, DType, int, Index, Index, Index, bool, bool,
                           unsigned>;

    struct Plan {
        cublasLtMatmulDescOpaque_t product;
        cublasLtMatrixLayoutOpaque_t a, b, c;
        cublasLtMatmulAlgo_t algorithm;
        bool found = false;
    };

    static cublasOperation_t operation(bool transpose) { return transpose ? CUBLAS_OP_T : CUBLAS_OP_N; }

    cublasComputeType_t compute(DType type) const {
        if (type == DType::f64) return CUBLAS_COMPUTE_64F;
        return type == DType::f32 && tf32_ ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    }

    static std::string describe(const BlasCall& x) {
        return concat(" for ", x.batch, " column-major product(s) ", x.m, "×", x.n, "×", x.k, " of ",
                      name_of(x.factor_type), " into ", name_of(x.result_type), ", leading dimensions ", x.lda, ", ",
                      x.ldb, ", ", x.ldc);
    }

    static unsigned alignment(const BlasCall& x) {
        std::uintptr_t bits = 256;
        for (const void* p : {x.a, x.b, x.c, static_cast<const void*>(x.d), x.bias})
            bits |= reinterpret_cast<std::uintptr_t>(p);
        return static_cast<unsigned>(bits & (~bits + 1));
    }

    bool fused(const BlasCall& x) {
        const unsigned aligned = alignment(x);
        const Key key{x.transpose_a, x.transpose_b, x.m,        x.n,           x.k,
                      x.lda,         x.ldb,         x.ldc,      x.factor_type, x.result_type,
                      x.batch,       x.stride_a,    x.stride_b, x.stride_c,    x.bias != nullptr,
                      x.beta != 0,   aligned};
        auto at = plans_.find(key);
        if (at == plans_.end()) at = plans_.emplace(key, make_plan(x, aligned)).first;
        Plan& plan = at->second;
        if (!plan.found) return false;
        if (x.bias)
            cuda_check(cublasLtMatmulDescSetAttribute(&plan.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &x.bias,
                                                      sizeof x.bias),
                       "cublasLtMatmulDescSetAttribute", device_);
        const Scale alpha(x.alpha, x.factor_type), beta(x.beta, x.factor_type);
        cuda_check(cublasLtMatmul(lt_, &plan.product, alpha.get(), x.a, &plan.a, x.b, &plan.b, beta.get(), x.c, &plan.c,
                                  x.d, &plan.c, &plan.algorithm, workspace_, workspace_bytes, stream_),
                   "cublasLtMatmul", device_, describe(x));
        return true;
    }

    Plan make_plan(const BlasCall& x, unsigned aligned) {
        Plan plan;
        const cublasOperation_t op_a = operation(x.transpose_a), op_b = operation(x.transpose_b);
        const cublasLtEpilogue_t epilogue = x.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
        cuda_check(cublasLtMatmulDescInit(&plan.product, compute(x.factor_type),
                                          x.factor_type == DType::f64 ? CUDA_R_64F : CUDA_R_32F),
                   "cublasLtMatmulDescInit", device_);
        set(plan.product, CUBLASLT_MATMUL_DESC_TRANSA, op_a);
        set(plan.product, CUBLASLT_MATMUL_DESC_TRANSB, op_b);
        set(plan.product, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
        layout(plan.a, x.factor_type, x.transpose_a ? x.k : x.m, x.transpose_a ? x.m : x.k, x.lda, x.batch, x.stride_a);
        layout(plan.b, x.factor_type, x.transpose_b ? x.n : x.k, x.transpose_b ? x.k : x.n, x.ldb, x.batch, x.stride_b);
        layout(plan.c, x.result_type, x.m, x.n, x.ldc, x.batch, x.stride_c);

        cublasLtMatmulPreferenceOpaque_t preference;
        cuda_check(cublasLtMatmulPreferenceInit(&preference), "cublasLtMatmulPreferenceInit", device_);
        prefer(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
        for (const auto attribute :
             {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
              CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
            prefer(preference, attribute, static_cast<std::uint32_t>(aligned));
        cublasLtMatmulHeuristicResult_t result{};
        int found = 0;
        const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(lt_, &plan.product, &plan.a, &plan.b, &plan.c,
                                                                     &plan.c, &preference, 1, &result, &found);
        plan.found = status == CUBLAS_STATUS_SUCCESS && found > 0 && result.state == CUBLAS_STATUS_SUCCESS;
        plan.algorithm = result.algo;
        return plan;
    }

    template <class V>
    void set(cublasLtMatmulDescOpaque_t& product, cublasLtMatmulDescAttributes_t attribute, const V& value) {
        cuda_check(cublasLtMatmulDescSetAttribute(&product, attribute, &value, sizeof value),
                   "cublasLtMatmulDescSetAttribute", device_);
    }
    template <class V>
    void prefer(cublasLtMatmulPreferenceOpaque_t& preference, cublasLtMatmulPreferenceAttributes_t attribute,
                const V& value) {
        cuda_check(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value),
                   "cublasLtMatmulPreferenceSetAttribute", device_);
    }
    void layout(cublasLtMatrixLayoutOpaque_t& matrix, DType type, int rows, int columns, int ld, int batch,
                std::int64_t stride) {
        cuda_check(cublasLtMatrixLayoutInit(&matrix, cuda_type(type), static_cast<std::uint64_t>(rows),
                                            static_cast<std::uint64_t>(columns), ld),
                   "cublasLtMatrixLayoutInit", device_);
        if (batch == 1) return;
        const std::int32_t count = batch;
        cuda_check(cublasLtMatrixLayoutSetAttribute(&matrix, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count),
                   "cublasLtMatrixLayoutSetAttribute", device_);
        cuda_check(cublasLtMatrixLayoutSetAttribute(&matrix, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                                    sizeof stride),
                   "cublasLtMatrixLayoutSetAttribute", device_);
    }

    static constexpr std::size_t workspace_bytes = std::size_t{32} << 20;

    int device_;
    cudaStream_t stream_;
    bool tf32_;
    cublasHandle_t blas_ = nullptr;
    cublasLtHandle_t lt_ = nullptr;
    void* workspace_ = nullptr;
    BatchPointers pointers_;
    std::map<Key, Plan> plans_;
};

}  // namespace promptkd::detail
