// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/dtype.hpp>
#include <promptkd/device/matrix_team.hpp>

#include <cuda_runtime.h>

#include <type_traits>

namespace promptkd {

namespace detail {

/// Registers of the calling lane.
template <class U, int N>
struct CudaLaneValues {
    U x[N];
    __device__ __forceinline__ U& at(int, int i) { return x[i]; }
    __device__ __forceinline__ const U& at(int, int i) const { return x[i]; }
};

/// Registers of the calling warp.
template <class S>
class CudaOfWarps {
public:
    template <class Warp>
    __device__ __forceinline__ S& operator()(const Warp&) {
        return state_;
    }

private:
    S state_;
};

}  // namespace detail

/// A warp of a CudaMatrixTeam: the instructions ldmatrix and mma of compute capability 8.0 and newer.
class CudaMatrixWarp {
public:
    /// See device/matrix_team.hpp.
    ///@{
    template <class U, int N>
    using Values = detail::CudaLaneValues<U, N>;

    __device__ explicit CudaMatrixWarp(int thread) : index_(thread / 32), lane_(thread % 32) {}

    __device__ int index() const { return index_; }

    template <class G>
    __device__ __forceinline__ void lanes(const G& g) const {
        g(lane_);
    }

    template <int N, class Address>
    __device__ __forceinline__ void load(Values<std::uint32_t, N>& f, int i, const Address& address) const {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(f.x[i]), "=r"(f.x[i + 1]), "=r"(f.x[i + 2]), "=r"(f.x[i + 3])
                     : "r"(shared_address(address(lane_)))
                     : "memory");
    }
    template <int N, class Address>
    __device__ __forceinline__ void load_transposed(Values<std::uint32_t, N>& f, int i, const Address& address) const {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(f.x[i]), "=r"(f.x[i + 1]), "=r"(f.x[i + 2]), "=r"(f.x[i + 3])
                     : "r"(shared_address(address(lane_)))
                     : "memory");
    }

    template <class A, int C, int L, int R>
    __device__ __forceinline__ static void multiply(Values<float, C>& c, int i, const Values<std::uint32_t, L>& a,
                                                    int j, const Values<std::uint32_t, R>& b, int k) {
        float* d = c.x + 4 * i;
        const std::uint32_t *l = a.x + 4 * j, *r = b.x + 2 * k;
        if constexpr (std::is_same_v<A, bf16>)
            asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                "{%0, %1, %2, %3};"
                : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                : "r"(l[0]), "r"(l[1]), "r"(l[2]), "r"(l[3]), "r"(r[0]), "r"(r[1]));
        else
            asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                "{%0, %1, %2, %3};"
                : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                : "r"(l[0]), "r"(l[1]), "r"(l[2]), "r"(l[3]), "r"(r[0]), "r"(r[1]));
    }

    template <int N>
    __device__ __forceinline__ static void quad_sum(Values<float, N>& v, int i) {
        v.x[i] += __shfl_xor_sync(0xffffffffu, v.x[i], 1);
        v.x[i] += __shfl_xor_sync(0xffffffffu, v.x[i], 2);
    }
    template <int N>
    __device__ __forceinline__ static void quad_max(Values<float, N>& v, int i) {
        v.x[i] = fmaxf(v.x[i], __shfl_xor_sync(0xffffffffu, v.x[i], 1));
        v.x[i] = fmaxf(v.x[i], __shfl_xor_sync(0xffffffffu, v.x[i], 2));
    }

    template <class A>
    __device__ __forceinline__ static std::uint32_t pack(float low, float high) {
        std::uint32_t pair;
        if constexpr (std::is_same_v<A, bf16>)
            asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
        else
            asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
        return pair;
    }
    __device__ __forceinline__ static float exp2(float x) {
        float y;
        asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
        return y;
    }
    ///@}

private:
    __device__ __forceinline__ static std::uint32_t shared_address(const void* p) {
        return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
    }

    int index_, lane_;
};

/// A block as a MatrixTeam.
template <int Warps>
class CudaMatrixTeam {
public:
    using Warp = CudaMatrixWarp;  ///< Of the team's.

    /// The calling thread of the block, whose shared memory begins at `memory`.
    __device__ explicit CudaMatrixTeam(void* memory) : memory_(memory) {}

    /// See device/matrix_team.hpp.
    ///@{
    template <class S>
    using OfWarps = detail::CudaOfWarps<S>;

    template <class A>
    __device__ A* memory() const {
        return static_cast<A*>(memory_);
    }

    template <int Columns, class G>
    __device__ __forceinline__ void items(int rows, const G& g) const {
        places<Columns>(rows, g);
        __syncthreads();
    }

    template <int Bytes, int Columns, class G>
    __device__ __forceinline__ void copy_async(int rows, const G& g) const {
        places<Columns>(rows, [&](int row, int column) {
            const AsyncCopy copy = g(row, column);
            const auto to = static_cast<std::uint32_t>(__cvta_generic_to_shared(copy.to));
            const int bytes = copy.valid ? Bytes : 0;  // what is not read becomes zero
            if constexpr (Bytes == 16)
                asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(copy.from), "r"(bytes)
                             : "memory");
            else
                asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(copy.from), "r"(bytes)
                             : "memory");
        });
    }
    __device__ __forceinline__ void commit() const { asm volatile("cp.async.commit_group;" ::: "memory"); }
    template <int Left>
    __device__ __forceinline__ void wait() const {
        asm volatile("cp.async.wait_group %0;" ::"n"(Left) : "memory");
        __syncthreads();
    }

    template <class G>
    __device__ __forceinline__ void warps(const G& g) const {
        Warp warp(static_cast<int>(threadIdx.x));
        g(warp);
        __syncthreads();
    }
    ///@}

private:
    static constexpr int threads = 32 * Warps;

    /// A thread stays in its column: its addresses are one distance apart.
    template <int Columns, class G>
    __device__ __forceinline__ void places(int rows, const G& g) const {
        constexpr int at_once = threads / Columns;
        const int first = static_cast<int>(threadIdx.x) / Columns, column = static_cast<int>(threadIdx.x) % Columns;
        if (first >= at_once) return;
        for (int row = first; row < rows; row += at_once) g(row, column);
    }

    void* memory_;
};

namespace detail {

/// A block a team.
template <class F>
__global__ void __launch_bounds__(32 * F::warps, F::teams_at_once) matrix_teams_kernel(F f) {
    extern __shared__ __align__(16) unsigned char memory[];
    CudaMatrixTeam<F::warps> team(memory);
    f(team, static_cast<Index>(blockIdx.x));
}

}  // namespace detail

}  // namespace promptkd
