// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/attention_kernel.hpp>
#include <promptkd/device/cuda/async.hpp>
#include <promptkd/device/cuda/kernels.hpp>
#include <promptkd/device/cuda/matrix_team.hpp>
#include <promptkd/device/cuda/memory.hpp>
#include <promptkd/device/cuda/products.hpp>
#include <promptkd/device/device.hpp>

#include <memory>
#include <optional>

namespace promptkd {

/// How a Cuda device works.
struct CudaOptions {
    int device = 0;     ///< which GPU
    bool tf32 = false;  ///< fp32 products in TensorFloat-32 (10-bit mantissa of the factors)
    /// Where the shape allows it (uses_fused_attention(), uses_mma_attention()); empty: as chosen_attention() says.
    std::optional<AttentionKernel> attention = {};
};

/// An NVIDIA GPU: one stream, its own memory pool, cuBLAS and cuBLASLt. T is float or double; A, the type of stored
/// activations and frozen weights, is T, half or bf16 (products then accumulate in fp32). Only nvcc can compile this
/// header. Everything is queued on the stream; download() and synchronize() wait. Not for use by several host threads
/// at once. The constructor throws Error in one line when there is no usable GPU.
template <class T = float, class A = T>
class Cuda {
public:
    /// See Device.
    ///@{
    using Scalar = T;
    using Activation = A;
    ///@}
    static constexpr bool one_factor_type = true;  ///< See Device.
    /// Whether a product's bias is stored as Activation.
    static constexpr bool bias_as_activation = sizeof(A) == 2;
    static constexpr Index team_memory_bytes = 47 << 10;  ///< what every GPU gives a block without being asked

    /// Throws Error when there is no such GPU, and for an attention that the environment names wrongly.
    explicit Cuda(CudaOptions options = {}) : options_(options), attention_(chosen_attention(options.attention)) {
        detail::choose_cuda_device(options_.device);
        processors_ = attribute(cudaDevAttrMultiProcessorCount);
        if (attribute(cudaDevAttrComputeCapabilityMajor) >= 8)
            matrix_memory_bytes_ = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
        detail::cuda_check(cudaStreamCreateWithFlags(&stream_.handle, cudaStreamNonBlocking), "cudaStreamCreate",
                           options_.device);
        pool_ = std::make_unique<detail::CudaPool>(options_.device);
        transfers_ = std::make_unique<detail::CudaTransfers>(options_.device);
        staging_ = std::make_unique<detail::CudaStaging>(options_.device);
        products_ = std::make_unique<detail::CudaProducts>(options_.device, stream_.handle, options_.tf32);
    }
    ~Cuda() {
        (void)cudaSetDevice(options_.device);
        (void)cudaStreamSynchronize(stream_.handle);
    }
    Cuda(const Cuda&) = delete;
    Cuda& operator=(const Cuda&) = delete;

    /// The GPU's name, for reports.
    std::string name() const {
        cudaDeviceProp properties{};
        detail::cuda_check(cudaGetDeviceProperties(&properties, options_.device), "cudaGetDeviceProperties",
                           options_.device);
        return properties.name;
    }
    /// As it was made.
    const CudaOptions& options() const { return options_; }
    /// How attention is computed where the shape allows it.
    AttentionKernel attention() const { return attention_; }
    /// See device/matrix_team.hpp.
    Index matrix_memory_bytes() const { return matrix_memory_bytes_; }
    /// Where its work is queued.
    cudaStream_t stream() const { return stream_.handle; }

    /// The most bytes of its memory that were in use at a time, without cuBLAS's own.
    std::size_t peak_memory() const { return pool_->peak(); }

    /// See Device.
    ///@{
    void* allocate(std::size_t bytes) {
        use();
        return pool_->allocate(bytes, stream_.handle);
    }
    void release(void* p) {
        (void)cudaSetDevice(options_.device);
        pool_->release(p, stream_.handle);
    }

    void upload(void* to, const void* from, std::size_t bytes) {
        if (is_planning() || bytes == 0) return;
        use();
        staging_->upload(to, from, bytes, stream_.handle);
    }
    void download(void* to, const void* from, std::size_t bytes) {
        if (is_planning() || bytes == 0) return;
        use();
        staging_->download(to, from, bytes, stream_.handle);
    }
    void copy(void* to, const void* from, std::size_t bytes) {
        if (is_planning() || bytes == 0) return;
        use();
        detail::cuda_check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_.handle),
                           "cudaMemcpyAsync", options_.device, " of ", bytes, " bytes");
    }
    void zero(void* p, std::size_t bytes) {
        if (is_planning() || bytes == 0) return;
        use();
        detail::cuda_check(cudaMemsetAsync(p, 0, bytes, stream_.handle), "cudaMemsetAsync", options_.device, " of ",
                           bytes, " bytes");
    }
    ///@}
    /// Waits for everything queued. Throws Error for what went wrong in it.
    void synchronize() {
        use();
        detail::cuda_check(cudaStreamSynchronize(stream_.handle), "cudaStreamSynchronize", options_.device);
    }

    // See AsyncDevice.
    /// See AsyncDevice.
    ///@{
    void* allocate_pinned(std::size_t bytes) {
        use();
        void* p = nullptr;
        detail::cuda_check(cudaHostAlloc(&p, bytes, cudaHostAllocDefault), "cudaHostAlloc", options_.device, " of ",
                           bytes, " bytes");
        return p;
    }
    void release_pinned(void* p) {
        (void)cudaSetDevice(options_.device);
        (void)cudaStreamSynchronize(stream_.handle);
        cudaFreeHost(p);
    }
    void upload_aside(int slot, void* to, const void* pinned, std::size_t bytes) {
        if (is_planning() || bytes == 0) return;
        use();
        transfers_->upload_aside(slot, to, pinned, bytes);
    }
    void use_upload(int slot) {
        use();
        transfers_->use_upload(slot, stream_.handle);
    }
    void finished_with(int slot) {
        use();
        transfers_->finished_with(slot, stream_.handle);
    }
    void await_upload(int slot) { transfers_->await_upload(slot); }
    std::size_t download_later(void* pinned, const void* from, std::size_t bytes) {
        use();
        return transfers_->download_later(pinned, from, bytes, stream_.handle);
    }
    void await(std::size_t ticket) { transfers_->await(ticket); }
    ///@}

    // See GraphDevice.
    /// See GraphDevice.
    ///@{
    using Graph = CudaGraph;
    void begin_capture() {
        use();
        detail::cuda_check(cudaStreamBeginCapture(stream_.handle, cudaStreamCaptureModeThreadLocal),
                           "cudaStreamBeginCapture", options_.device);
    }
    Graph end_capture() {
        cudaGraph_t graph = nullptr;
        detail::cuda_check(cudaStreamEndCapture(stream_.handle, &graph), "cudaStreamEndCapture", options_.device);
        return Graph(graph, options_.device);
    }
    void replay(const Graph& graph) {
        use();
        detail::cuda_check(cudaGraphLaunch(graph.get(), stream_.handle), "cudaGraphLaunch", options_.device);
    }
    ///@}

    /// See Device.
    ///@{
    void planning(bool on) { planning_.set(on); }
    bool is_planning() const { return planning_.is_on(); }
    ///@}

    /// f(lane) for every element < n, one thread an element.
    template <class F>
    void map(Index n, const F& f) {
        if (is_planning() || n <= 0) return;
        use();
        detail::map_kernel<T, F>
            <<<blocks(n / (VectorLane<T>::width * detail::cuda_block) + 1), detail::cuda_block, 0, stream_.handle>>>(n,
                                                                                                                     f);
        launched("map", n);
    }

    /// f(team, row) for every row < n: a warp a row where there are enough rows or little to do in each, else a block a
    /// row.
    template <class F>
    void rows(Index n, Index cost, const F& f) {
        if (is_planning() || n <= 0) return;
        use();
        const Index warps = detail::cuda_block / 32;
        if constexpr (requires { f.team_values(); }) {
            const auto bytes = static_cast<std::size_t>(f.team_values() + warps) * sizeof(T);
            require(static_cast<Index>(bytes) <= team_memory_bytes + 1024, "CUDA: a row needs ", bytes,
                    " bytes of team memory, more than ", team_memory_bytes);
            detail::team_rows_kernel<T, F><<<blocks(n), detail::cuda_block, bytes, stream_.handle>>>(n, f);
        } else if (cost <= little_work || n >= many_rows * processors_)
            detail::warp_rows_kernel<T, F>
                <<<blocks((n + warps - 1) / warps), detail::cuda_block, 0, stream_.handle>>>(n, f);
        else
            detail::block_rows_kernel<T, F><<<blocks(n), detail::cuda_block, 0, stream_.handle>>>(n, f);
        launched("rows", n);
    }

    /// f(team, i) for every i < n, by teams with matrix units: see device/matrix_team.hpp.
    template <class F>
    void matrix_teams(Index n, const F& f) {
        if (is_planning() || n <= 0) return;
        use();
        const auto bytes = static_cast<int>(f.memory_bytes());
        require(bytes <= matrix_memory_bytes_, "CUDA: a team needs ", bytes, " bytes of memory, the GPU has ",
                matrix_memory_bytes_);
        const auto kernel = detail::matrix_teams_kernel<F>;
        if (bytes > (48 << 10))  // what a block gets without being asked
            detail::cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
                               "cudaFuncSetAttribute", options_.device);
        kernel<<<static_cast<unsigned>(n), 32 * F::warps, bytes, stream_.handle>>>(f);
        launched("matrix teams", n);
    }

    /// Products, see Gemm.
    void gemm(const Gemm& g) {
        if (is_planning()) return;
        use();
        run_blas(*this, g);
    }

    /// All calls of a plan with two levels of batches at once; false where cuBLAS cannot.
    bool blas_at_once(const BlasPlan& plan) {
        const Index n = plan.calls * plan.call.batch;
        if (!detail::CudaProducts::takes_pointers(plan) || n > detail::BatchPointers::most) return false;
        detail::BatchPointers to = products_->pointers();
        detail::fill_pointers_kernel<<<blocks(n / detail::cuda_block + 1), detail::cuda_block, 0, stream_.handle>>>(
            detail::BatchAddresses(plan), to, n);
        launched("batch addresses", n);
        products_->at_once(plan.call, to, n);
        return true;
    }

    /// One call of the column-major library. Where it cannot add C ≠ D and the bias in one pass, they are added in
    /// passes of their own.
    void blas(const BlasCall& x) {
        if (products_->run(x)) return;
        BlasCall plain = x;
        plain.c = x.d;
        plain.bias = nullptr;
        if (x.c != x.d) {
            const std::size_t unit = size_of(x.result_type), line = static_cast<std::size_t>(x.ldc) * unit;
            for (int i = 0; i < x.batch; ++i) {
                const std::size_t at = static_cast<std::size_t>(i * x.stride_c) * unit;
                detail::cuda_check(
                    cudaMemcpy2DAsync(static_cast<char*>(x.d) + at, line, static_cast<const char*>(x.c) + at, line,
                                      static_cast<std::size_t>(x.m) * unit, static_cast<std::size_t>(x.n),
                                      cudaMemcpyDeviceToDevice, stream_.handle),
                    "cudaMemcpy2DAsync", options_.device);
            }
        }
        products_->plain(plain);
        if (!x.bias) return;
        if (x.result_type == DType::bf16) return add_bias<bf16>(x);
        if (x.result_type == DType::f16) return add_bias<half>(x);
        add_bias<float>(x);
    }

private:
    struct Stream {
        cudaStream_t handle = nullptr;
        ~Stream() {
            if (handle) cudaStreamDestroy(handle);
        }
    };

    static constexpr Index little_work = 384;  // elements a row below which a block has nothing to do for most threads
    static constexpr Index many_rows = 64;     // rows a processor from which on warps fill the GPU

    template <class C>
    void add_bias(const BlasCall& x) {
        rows(x.n, x.m, detail::AddBias<C, C>{static_cast<const C*>(x.bias), static_cast<C*>(x.d), x.m, x.ldc});
    }

    int attribute(cudaDeviceAttr which) const {
        int value = 0;
        detail::cuda_check(cudaDeviceGetAttribute(&value, which, options_.device), "cudaDeviceGetAttribute",
                           options_.device);
        return value;
    }

    void use() const { detail::cuda_check(cudaSetDevice(options_.device), "cudaSetDevice", options_.device); }

    /// Enough blocks to fill the GPU several times; the kernels step through the rest.
    unsigned blocks(Index wanted) const {
        return static_cast<unsigned>(std::min<Index>(wanted, Index{32} * processors_));
    }

    void launched(const char* what, Index n) {
        detail::cuda_check(cudaGetLastError(), "kernel launch", options_.device, " (", what, " over ", n, ")");
    }

    CudaOptions options_;
    AttentionKernel attention_;
    int processors_ = 1;
    Index matrix_memory_bytes_ = 0;
    PlanningFlag planning_;
    Stream stream_;  // destroyed after what uses it
    std::unique_ptr<detail::CudaPool> pool_;
    std::unique_ptr<detail::CudaTransfers> transfers_;
    std::unique_ptr<detail::CudaStaging> staging_;
    std::unique_ptr<detail::CudaProducts> products_;
};

}  // namespace promptkd
