// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/cuda/lanes.hpp>

#include <cuda_runtime.h>

namespace promptkd {

/// `Threads` consecutive threads of a block (a warp, or the whole block) that work on one row. Reductions give every
/// thread the same value: partial sums of the warps are combined in the same order by all.
template <class T, int Threads>
class CudaTeam {
public:
    /// `thread` of the team's threads; `shared` is room for a value of each warp, `memory` the team's own.
    __device__ CudaTeam(int thread, T* shared, T* memory = nullptr)
        : thread_(thread), shared_(shared), memory_(memory) {}

    /// A Team; see Device.
    ///@{
    __device__ T* memory() const { return memory_; }

    template <class G>
    __device__ void items(Index n, const G& g) {
        for (Index i = thread_; i < n; i += Threads) g(i);
        barrier();
    }

    template <class G>
    __device__ void each(Index n, const G& g) {
        detail::thread_each<T>(n, thread_, Threads, g);
        barrier();
    }

    template <class G>
    __device__ T sum(Index n, const G& g) {
        return reduce(detail::thread_sum<T>(n, thread_, Threads, g), [](T a, T b) { return a + b; });
    }

    template <class G>
    __device__ T max(Index n, const G& g) {
        return reduce(detail::thread_max<T>(n, thread_, Threads, g), [](T a, T b) { return a > b ? a : b; });
    }

    template <class G>
    __device__ void once(const G& g) {
        if (thread_ == 0) g();
    }
    ///@}

private:
    static __device__ void barrier() {
        if constexpr (Threads == 32)
            __syncwarp();
        else
            __syncthreads();
    }

    template <class Combine>
    __device__ T reduce(T value, const Combine& combine) {
        for (int offset = 16; offset > 0; offset /= 2)
            value = combine(value, __shfl_xor_sync(0xffffffffu, value, offset));
        if constexpr (Threads == 32) {
            __syncwarp();  // orders what the lanes wrote, as the block's barrier does
        } else {
            if (thread_ % 32 == 0) shared_[thread_ / 32] = value;
            __syncthreads();
            value = shared_[0];
            for (int warp = 1; warp < Threads / 32; ++warp) value = combine(value, shared_[warp]);
            __syncthreads();  // before the next reduction writes
        }
        return value;
    }

    int thread_;
    T *shared_, *memory_;
};

namespace detail {

inline constexpr int cuda_block = 256;
// The second number of __launch_bounds__ lets the compiler use 64 registers; left alone it spills to stay at 32.

template <class T, class F>
__global__ void __launch_bounds__(cuda_block, 4) map_kernel(Index n, F f) {
    thread_each<T>(n, static_cast<Index>(blockIdx.x) * cuda_block + threadIdx.x,
                   static_cast<Index>(gridDim.x) * cuda_block, f);
}

/// A warp a row, eight rows a block.
template <class T, class F>
__global__ void __launch_bounds__(cuda_block, 4) warp_rows_kernel(Index n, F f) {
    CudaTeam<T, 32> team(static_cast<int>(threadIdx.x % 32), nullptr);
    const Index warps = cuda_block / 32, step = static_cast<Index>(gridDim.x) * warps;
    for (Index row = static_cast<Index>(blockIdx.x) * warps + threadIdx.x / 32; row < n; row += step) f(team, row);
}

/// A block a row.
template <class T, class F>
__global__ void __launch_bounds__(cuda_block, 4) block_rows_kernel(Index n, F f) {
    __shared__ T shared[cuda_block / 32];
    CudaTeam<T, cuda_block> team(static_cast<int>(threadIdx.x), shared);
    for (Index row = blockIdx.x; row < n; row += gridDim.x) f(team, row);
}

/// A block a row, with the functor's team memory behind the reductions' own. Its functors need some more registers.
template <class T, class F>
__global__ void __launch_bounds__(cuda_block, 3) team_rows_kernel(Index n, F f) {
    extern __shared__ __align__(16) unsigned char memory[];
    T* shared = reinterpret_cast<T*>(memory);
    CudaTeam<T, cuda_block> team(static_cast<int>(threadIdx.x), shared, shared + cuda_block / 32);
    for (Index row = blockIdx.x; row < n; row += gridDim.x) {
        f(team, row);
        __syncthreads();  // before the next row writes to the team's memory
    }
}

}  // namespace detail

}  // namespace promptkd
