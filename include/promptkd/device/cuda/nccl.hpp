// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/cuda.hpp>
#include <promptkd/device/parallel/communicator.hpp>

#include <nccl.h>

#include <type_traits>

namespace promptkd {

namespace detail {

template <class... Context>
void nccl_check(ncclResult_t status, const char* call, int device, const Context&... context) {
    if (status == ncclSuccess) return;
    fail("CUDA device ", device, ": ", call, " failed: ", ncclGetErrorString(status), context...);
}

}  // namespace detail

/// Data-parallel ranks over NCCL, a GPU each. Collectives are queued on the device's stream: nothing waits on the host,
/// and a step that contains them can be captured in a graph.
class NcclCommunicator {
public:
    /// What rank 0 makes and every rank must be given (by MPI, say) before it constructs its communicator.
    static ncclUniqueId make_id() {
        ncclUniqueId id;
        detail::nccl_check(ncclGetUniqueId(&id), "ncclGetUniqueId", 0);
        return id;
    }

    /// Waits until every rank has come here with the same `id`. `device` is this rank's GPU; it must outlive this.
    template <class T, class A>
    NcclCommunicator(Cuda<T, A>& device, const ncclUniqueId& id, int rank, int size)
        : device_(device.options().device), rank_(rank), size_(size) {
        detail::cuda_check(cudaSetDevice(device_), "cudaSetDevice", device_);
        detail::nccl_check(ncclCommInitRank(&comm_, size, id, rank), "ncclCommInitRank", device_, ", rank ", rank,
                           " of ", size);
        const cudaError_t status = cudaMalloc(reinterpret_cast<void**>(&token_), sizeof(float));
        if (status != cudaSuccess) ncclCommAbort(comm_);
        detail::cuda_check(status, "cudaMalloc", device_);
    }
    ~NcclCommunicator() {
        cudaFree(token_);
        ncclCommDestroy(comm_);
    }
    NcclCommunicator(const NcclCommunicator&) = delete;
    NcclCommunicator& operator=(const NcclCommunicator&) = delete;

    /// See Communicator.
    ///@{
    int rank() const { return rank_; }
    int size() const { return size_; }

    template <class T, class A>
    void all_reduce_sum(Cuda<T, A>& device, T* p, Index n) {
        constexpr ncclDataType_t type = std::is_same_v<T, float> ? ncclFloat : ncclDouble;
        detail::nccl_check(ncclAllReduce(p, p, static_cast<std::size_t>(n), type, ncclSum, comm_, device.stream()),
                           "ncclAllReduce", device_, " of ", n, " values");
    }

    template <class T, class A>
    void broadcast(Cuda<T, A>& device, void* p, std::size_t bytes, int root) {
        detail::nccl_check(ncclBroadcast(p, p, bytes, ncclChar, root, comm_, device.stream()), "ncclBroadcast", device_,
                           " of ", bytes, " bytes");
    }

    template <class T, class A>
    void barrier(Cuda<T, A>& device) {
        detail::nccl_check(ncclAllReduce(token_, token_, 1, ncclFloat, ncclSum, comm_, device.stream()),
                           "ncclAllReduce", device_, " as a barrier");
        device.synchronize();
        ncclResult_t state = ncclSuccess;
        detail::nccl_check(ncclCommGetAsyncError(comm_, &state), "ncclCommGetAsyncError", device_);
        detail::nccl_check(state, "a collective", device_);
    }
    ///@}

private:
    int device_, rank_, size_;
    ncclComm_t comm_ = nullptr;
    float* token_ = nullptr;
};

}  // namespace promptkd
