// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_runtime.h>

namespace promptkd::detail {

/// "12.4" of CUDA's version numbers (12040).
inline std::string cuda_version_text(int version) { return concat(version / 1000, ".", version % 1000 / 10); }

/// Throws Error with the call, what it was for and the device unless `status` is success.
template <class... Context>
void cuda_check(cudaError_t status, const char* call, int device, const Context&... context) {
    if (status == cudaSuccess) return;
    (void)cudaGetLastError();  // errors that are not sticky must not reappear at the next check
    const char* advice = status == cudaErrorNoKernelImageForDevice
                             ? "; this program was built for other GPUs, add this one's to CMAKE_CUDA_ARCHITECTURES"
                             : "";
    fail("CUDA device ", device, ": ", call, " failed: ", cudaGetErrorString(status), " (", cudaGetErrorName(status),
         ")", context..., advice);
}

template <class... Context>
void cuda_check(cublasStatus_t status, const char* call, int device, const Context&... context) {
    if (status == CUBLAS_STATUS_SUCCESS) return;
    fail("CUDA device ", device, ": ", call, " failed: ", cublasGetStatusString(status), context...);
}

/// Makes `device` current. Throws Error in one line when there is no usable GPU: none, or a driver that is too old.
inline void choose_cuda_device(int device) {
    int count = 0, driver = 0, runtime = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess) {
        (void)cudaGetLastError();
        (void)cudaDriverGetVersion(&driver);
        (void)cudaRuntimeGetVersion(&runtime);
        require(status != cudaErrorNoDevice && !(status == cudaErrorInsufficientDriver && driver == 0),
                "no NVIDIA GPU with a driver was found; use the CPU");
        require(status != cudaErrorInsufficientDriver, "the NVIDIA driver is too old: it supports CUDA ",
                cuda_version_text(driver), ", this program needs ", cuda_version_text(runtime),
                "; update the driver or use the CPU");
        cuda_check(status, "cudaGetDeviceCount", device);
    }
    require(device >= 0 && device < count, "there is no CUDA device ", device, "; this machine has ", count, " (0 … ",
            count - 1, ")");
    cuda_check(cudaSetDevice(device), "cudaSetDevice", device);
}

}  // namespace promptkd::detail
