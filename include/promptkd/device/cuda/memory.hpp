// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/cuda/check.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace promptkd::detail {

/// Device memory from a pool that keeps what is released: the driver is asked for memory at set-up only.
class CudaPool {
public:
    explicit CudaPool(int device) : device_(device) {
        cudaMemPoolProps properties{};
        properties.allocType = cudaMemAllocationTypePinned;
        properties.location.type = cudaMemLocationTypeDevice;
        properties.location.id = device;
        cuda_check(cudaMemPoolCreate(&pool_, &properties), "cudaMemPoolCreate", device_);
        std::uint64_t keep = UINT64_MAX;
        cuda_check(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &keep), "cudaMemPoolSetAttribute",
                   device_);
    }
    ~CudaPool() { cudaMemPoolDestroy(pool_); }
    CudaPool(const CudaPool&) = delete;
    CudaPool& operator=(const CudaPool&) = delete;

    void* allocate(std::size_t bytes, cudaStream_t stream) {
        void* p = nullptr;
        const cudaError_t status = cudaMallocFromPoolAsync(&p, bytes, pool_, stream);
        if (status == cudaErrorMemoryAllocation) {
            (void)cudaGetLastError();
            std::size_t available = 0, total = 0;
            (void)cudaMemGetInfo(&available, &total);
            fail("CUDA device ", device_, ": out of memory: ", bytes, " bytes requested, ", available, " of ", total,
                 " free; use a smaller batch");
        }
        cuda_check(status, "cudaMallocFromPoolAsync", device_, " for ", bytes, " bytes");
        return p;
    }
    void release(void* p, cudaStream_t stream) { cudaFreeAsync(p, stream); }

    /// The most bytes that were allocated at a time.
    std::size_t peak() const {
        std::uint64_t bytes = 0;
        cuda_check(cudaMemPoolGetAttribute(pool_, cudaMemPoolAttrUsedMemHigh, &bytes), "cudaMemPoolGetAttribute",
                   device_);
        return static_cast<std::size_t>(bytes);
    }

private:
    int device_;
    cudaMemPool_t pool_ = nullptr;
};

/// Pinned host memory between ordinary memory and the device: two halves, one is filled while the other is on its way.
class CudaStaging {
public:
    explicit CudaStaging(int device) : device_(device) {
        cuda_check(cudaHostAlloc(reinterpret_cast<void**>(&memory_), 2 * half_bytes, cudaHostAllocDefault),
                   "cudaHostAlloc", device_);
        for (cudaEvent_t& event : free_)
            cuda_check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate", device_);
    }
    ~CudaStaging() {
        for (cudaEvent_t event : free_) cudaEventDestroy(event);
        cudaFreeHost(memory_);
    }
    CudaStaging(const CudaStaging&) = delete;
    CudaStaging& operator=(const CudaStaging&) = delete;

    /// Queues the copy. Ordinary host memory has been read when this returns; pinned memory is read later.
    void upload(void* to, const void* from, std::size_t bytes, cudaStream_t stream) {
        if (is_pinned(from)) return copy(to, from, bytes, cudaMemcpyHostToDevice, stream);
        for (std::size_t done = 0; done < bytes; done += half_bytes) {
            const std::size_t n = std::min(half_bytes, bytes - done);
            char* half = next_half();
            std::memcpy(half, static_cast<const char*>(from) + done, n);
            copy(static_cast<char*>(to) + done, half, n, cudaMemcpyHostToDevice, stream);
            cuda_check(cudaEventRecord(free_[turn_], stream), "cudaEventRecord", device_);
        }
    }

    /// Waits for the stream; the bytes are in `to` when this returns.
    void download(void* to, const void* from, std::size_t bytes, cudaStream_t stream) {
        if (is_pinned(to)) {
            copy(to, from, bytes, cudaMemcpyDeviceToHost, stream);
            return cuda_check(cudaStreamSynchronize(stream), "cudaStreamSynchronize", device_, " after a download");
        }
        for (std::size_t done = 0; done < bytes; done += half_bytes) {
            const std::size_t n = std::min(half_bytes, bytes - done);
            char* half = next_half();
            copy(half, static_cast<const char*>(from) + done, n, cudaMemcpyDeviceToHost, stream);
            cuda_check(cudaStreamSynchronize(stream), "cudaStreamSynchronize", device_, " after a download");
            std::memcpy(static_cast<char*>(to) + done, half, n);
        }
    }

private:
    static constexpr std::size_t half_bytes = std::size_t{8} << 20;

    static bool is_pinned(const void* p) {
        cudaPointerAttributes attributes{};
        if (cudaPointerGetAttributes(&attributes, p) == cudaSuccess) return attributes.type == cudaMemoryTypeHost;
        (void)cudaGetLastError();
        return false;
    }

    /// The half that is not in use by the copy before; waits for the copy before that.
    char* next_half() {
        turn_ = 1 - turn_;
        cuda_check(cudaEventSynchronize(free_[turn_]), "cudaEventSynchronize", device_);
        return memory_ + static_cast<std::size_t>(turn_) * half_bytes;
    }

    void copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
        cuda_check(cudaMemcpyAsync(to, from, bytes, kind, stream), "cudaMemcpyAsync", device_, " of ", bytes, " bytes");
    }

    int device_;
    char* memory_ = nullptr;
    cudaEvent_t free_[2] = {};
    int turn_ = 0;
};

}  // namespace promptkd::detail
