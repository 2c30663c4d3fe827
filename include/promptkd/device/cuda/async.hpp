// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/cuda/check.hpp>

#include <cstddef>
#include <memory>
#include <type_traits>

namespace promptkd {

namespace detail {

/// A CUDA event without timing.
class CudaEvent {
public:
    explicit CudaEvent(int device) : device_(device) {
        cuda_check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreate", device);
    }
    CudaEvent(CudaEvent&& other) noexcept : device_(other.device_), event_(other.event_) { other.event_ = nullptr; }
    CudaEvent& operator=(CudaEvent&&) = delete;
    ~CudaEvent() {
        if (event_) cudaEventDestroy(event_);
    }
    void record(cudaStream_t stream) { cuda_check(cudaEventRecord(event_, stream), "cudaEventRecord", device_); }
    void hold(cudaStream_t stream) {
        cuda_check(cudaStreamWaitEvent(stream, event_, 0), "cudaStreamWaitEvent", device_);
    }
    void wait() { cuda_check(cudaEventSynchronize(event_), "cudaEventSynchronize", device_); }

private:
    int device_;
    cudaEvent_t event_ = nullptr;
};

/// The asynchronous transfers of AsyncDevice: uploads on a stream of their own, ordered by events; downloads in the
/// main stream, each with an event behind it.
class CudaTransfers {
public:
    static constexpr std::size_t tickets = 8;

    explicit CudaTransfers(int device)
        : device_(device),
          ready_{CudaEvent(device), CudaEvent(device)},
          finished_{CudaEvent(device), CudaEvent(device)},
          done_{CudaEvent(device), CudaEvent(device), CudaEvent(device), CudaEvent(device),
                CudaEvent(device), CudaEvent(device), CudaEvent(device), CudaEvent(device)} {
        cuda_check(cudaStreamCreateWithFlags(&aside_, cudaStreamNonBlocking), "cudaStreamCreate", device);
    }
    ~CudaTransfers() {
        cudaStreamSynchronize(aside_);
        cudaStreamDestroy(aside_);
    }
    CudaTransfers(const CudaTransfers&) = delete;
    CudaTransfers& operator=(const CudaTransfers&) = delete;

    void upload_aside(int slot, void* to, const void* pinned, std::size_t bytes) {
        finished_[slot].hold(aside_);  // an event that was never recorded holds nothing
        cuda_check(cudaMemcpyAsync(to, pinned, bytes, cudaMemcpyHostToDevice, aside_), "cudaMemcpyAsync", device_,
                   " of ", bytes, " bytes");
        ready_[slot].record(aside_);
    }
    void use_upload(int slot, cudaStream_t stream) { ready_[slot].hold(stream); }
    void finished_with(int slot, cudaStream_t stream) { finished_[slot].record(stream); }
    void await_upload(int slot) { ready_[slot].wait(); }

    std::size_t download_later(void* pinned, const void* from, std::size_t bytes, cudaStream_t stream) {
        cuda_check(cudaMemcpyAsync(pinned, from, bytes, cudaMemcpyDeviceToHost, stream), "cudaMemcpyAsync", device_,
                   " of ", bytes, " bytes");
        done_[next_ % tickets].record(stream);
        return next_++;
    }
    void await(std::size_t ticket) { done_[ticket % tickets].wait(); }

private:
    int device_;
    cudaStream_t aside_ = nullptr;
    CudaEvent ready_[2], finished_[2], done_[tickets];
    std::size_t next_ = 0;
};

}  // namespace detail

/// Queued work that was recorded once and can be queued again with a single call.
class CudaGraph {
public:
    CudaGraph() = default;
    /// Takes over a captured graph. Throws Error when it cannot be instantiated.
    CudaGraph(cudaGraph_t graph, int device) {
        cudaGraphExec_t executable = nullptr;
        const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
        cudaGraphDestroy(graph);
        detail::cuda_check(status, "cudaGraphInstantiate", device);
        executable_.reset(executable);
    }
    /// What CUDA launches.
    cudaGraphExec_t get() const { return executable_.get(); }

private:
    struct Destroy {
        void operator()(cudaGraphExec_t graph) const { cudaGraphExecDestroy(graph); }
    };
    std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, Destroy> executable_;
};

}  // namespace promptkd
