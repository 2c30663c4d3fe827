// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "protected_memory.hpp"
#include "scattered_order.hpp"

#include <promptkd/core/dtype.hpp>
#include <promptkd/device/matrix_team.hpp>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <random>
#include <vector>

namespace promptkd::test {

/// The memory of a team, which begins as NaN and is watched behind its end.
class TeamMemory {
public:
    explicit TeamMemory(std::size_t bytes) : bytes_(bytes), chunks_(bytes / 16 + 1 + guards) {
        std::memset(data(), 0xFF, chunks_.size() * sizeof(Chunk));
    }
    char* data() { return reinterpret_cast<char*>(chunks_.data()); }
    /// Throws unless [p, p + bytes) lies inside and begins at a multiple of its length.
    void require_inside(const void* p, std::size_t bytes, const char* what) {
        const char* at = static_cast<const char*>(p);
        require(at >= data() && at + bytes <= data() + bytes_, "emulated CUDA: ", what, " leaves the team's memory");
        require(reinterpret_cast<std::uintptr_t>(p) % bytes == 0, "emulated CUDA: ", what, " is not aligned to ", bytes,
                " bytes");
    }
    /// Throws when something was written behind the end.
    void require_clean() {
        for (const char* p = data() + bytes_; p < data() + chunks_.size() * sizeof(Chunk); ++p)
            require(*p == char(0xFF), "emulated CUDA: something wrote behind a team's memory");
    }

private:
    struct alignas(16) Chunk {
        std::uint32_t x[4];
    };
    static constexpr std::size_t guards = 16;
    std::size_t bytes_;
    std::vector<Chunk> chunks_;
};

/// A warp with all its lanes' registers, which begin as NaN. Where a fragment's elements lie is written here once more,
/// from the PTX ISA: "Matrix Fragments for mma.m16n8k16 with floating point type", "ldmatrix".
class EmulatedMatrixWarp {
public:
    template <class U, int N>
    struct Values {
        Values() { std::memset(x, 0xFF, sizeof x); }
        U& at(int lane, int i) {
            require(i >= 0 && i < N, "emulated CUDA: register ", i, " of ", N);
            return x[lane][i];
        }
        const U& at(int lane, int i) const { return const_cast<Values*>(this)->at(lane, i); }
        U x[32][N];
    };

    EmulatedMatrixWarp(int index, TeamMemory& memory, std::minstd_rand& random)
        : index_(index), memory_(memory), random_(random) {}

    int index() const { return index_; }

    template <class G>
    void lanes(const G& g) {
        ScatteredOrder order(32, random_);
        for (int i = 0; i < 32; ++i) g(static_cast<int>(order.next()));
    }

    template <int N, class Address>
    void load(Values<std::uint32_t, N>& f, int i, const Address& address) {
        const Matrices from = matrices(address);
        for (int lane = 0; lane < 32; ++lane)
            for (int m = 0; m < 4; ++m)
                f.at(lane, i + m) = pair(from[m][lane >> 2][2 * (lane & 3)], from[m][lane >> 2][2 * (lane & 3) + 1]);
    }
    template <int N, class Address>
    void load_transposed(Values<std::uint32_t, N>& f, int i, const Address& address) {
        const Matrices from = matrices(address);
        for (int lane = 0; lane < 32; ++lane)
            for (int m = 0; m < 4; ++m)
                f.at(lane, i + m) = pair(from[m][2 * (lane & 3)][lane >> 2], from[m][2 * (lane & 3) + 1][lane >> 2]);
    }

    template <class A, int C, int L, int R>
    static void multiply(Values<float, C>& c, int i, const Values<std::uint32_t, L>& a, int j,
                         const Values<std::uint32_t, R>& b, int k) {
        float left[16][16], right[16][8];
        for (int lane = 0; lane < 32; ++lane) {
            const int group = lane >> 2, thread = lane & 3;
            for (int e = 0; e < 8; ++e) {  // a0 … a7, two in a register
                const int row = e < 2 || (e >= 4 && e < 6) ? group : group + 8;
                left[row][thread * 2 + (e & 1) + (e >= 4 ? 8 : 0)] = element<A>(a.at(lane, 4 * j + e / 2), e & 1);
            }
            for (int e = 0; e < 4; ++e)  // b0 … b3
                right[thread * 2 + (e & 1) + (e >= 2 ? 8 : 0)][group] = element<A>(b.at(lane, 2 * k + e / 2), e & 1);
        }
        for (int lane = 0; lane < 32; ++lane)
            for (int e = 0; e < 4; ++e) {  // c0 … c3
                const int row = e < 2 ? lane >> 2 : (lane >> 2) + 8, column = (lane & 3) * 2 + (e & 1);
                float sum = c.at(lane, 4 * i + e);
                for (int n = 0; n < 16; ++n) sum += left[row][n] * right[n][column];
                c.at(lane, 4 * i + e) = sum;
            }
    }

    template <int N>
    static void quad_sum(Values<float, N>& v, int i) {
        exchange(v, i, [](float a, float b) { return a + b; });
    }
    template <int N>
    static void quad_max(Values<float, N>& v, int i) {
        exchange(v, i, [](float a, float b) { return std::fmax(a, b); });
    }

    template <class A>
    static std::uint32_t pack(float low, float high) {
        return pair(A(low).bits, A(high).bits);
    }
    static float exp2(float x) { return std::exp2(x); }

private:
    using Matrices = std::array<std::array<std::array<std::uint16_t, 8>, 8>, 4>;

    template <class Address>
    Matrices matrices(const Address& address) {
        Matrices found{};
        for (int lane = 0; lane < 32; ++lane) {
            const void* row = address(lane);
            memory_.require_inside(row, 16, "a load of a matrix");
            std::memcpy(&found[lane / 8][lane % 8], row, 16);
        }
        return found;
    }
    static std::uint32_t pair(std::uint16_t low, std::uint16_t high) {
        return low | static_cast<std::uint32_t>(high) << 16;
    }
    template <class A>
    static float element(std::uint32_t pair, int which) {
        A x;
        x.bits = static_cast<std::uint16_t>(pair >> (16 * which));
        return static_cast<float>(x);
    }
    /// What two exchanges with the lane beside, and with the one beyond it, leave in each lane.
    template <int N, class Combine>
    static void exchange(Values<float, N>& v, int i, const Combine& combine) {
        for (const int mask : {1, 2}) {
            float old[32];
            for (int lane = 0; lane < 32; ++lane) old[lane] = v.at(lane, i);
            for (int lane = 0; lane < 32; ++lane) v.at(lane, i) = combine(old[lane], old[lane ^ mask]);
        }
    }

    int index_;
    TeamMemory& memory_;
    std::minstd_rand& random_;
};

/// A MatrixTeam whose warps run one by one in scattered order. A copy arrives as late as it may; what it will write is
/// NaN until then.
template <int Warps>
class EmulatedMatrixTeam {
public:
    using Warp = EmulatedMatrixWarp;

    EmulatedMatrixTeam(std::minstd_rand& random, TeamMemory& memory, const ProtectedMemory& device)
        : random_(random), memory_(memory), device_(device) {}

    template <class S>
    class OfWarps {
    public:
        S& operator()(const Warp& warp) { return states_[static_cast<std::size_t>(warp.index())]; }

    private:
        std::vector<S> states_ = std::vector<S>(Warps);
    };

    template <class A>
    A* memory() const {
        return reinterpret_cast<A*>(memory_.data());
    }

    template <int Columns, class G>
    void items(int rows, const G& g) {
        ScatteredOrder order(rows * Columns, random_);
        for (int i = 0; i < rows * Columns; ++i) {
            const int place = static_cast<int>(order.next());
            g(place / Columns, place % Columns);
        }
    }

    template <int Bytes, int Columns, class G>
    void copy_async(int rows, const G& g) {
        items<Columns>(rows, [&](int row, int column) {
            const AsyncCopy copy = g(row, column);
            memory_.require_inside(copy.to, Bytes, "a copy");
            require(reinterpret_cast<std::uintptr_t>(copy.from) % Bytes == 0, "emulated CUDA: a copy from ", copy.from);
            require(!copy.valid || device_.contains(copy.from, Bytes),
                    "emulated CUDA: a copy of what is not in memory");
            std::memset(copy.to, 0xFF, Bytes);
            open_.push_back({copy, Bytes});
        });
    }
    void commit() {
        groups_.push_back(std::move(open_));
        open_.clear();
    }
    template <int Left>
    void wait() {
        for (; groups_.size() > Left; groups_.pop_front())
            for (const auto& [copy, bytes] : groups_.front()) {
                if (copy.valid)
                    std::memcpy(copy.to, copy.from, bytes);
                else
                    std::memset(copy.to, 0, bytes);
            }
    }

    template <class G>
    void warps(const G& g) {
        ScatteredOrder order(Warps, random_);
        for (int i = 0; i < Warps; ++i) {
            Warp warp(static_cast<int>(order.next()), memory_, random_);
            g(warp);
        }
    }

    /// Throws when copies were begun that nobody waited for, or the memory was left.
    void require_finished() {
        require(open_.empty() && groups_.empty(), "emulated CUDA: a team ended before its copies");
        memory_.require_clean();
    }

private:
    std::minstd_rand& random_;
    TeamMemory& memory_;
    const ProtectedMemory& device_;
    struct Pending {
        AsyncCopy copy;
        std::size_t bytes;
    };
    std::vector<Pending> open_;
    std::deque<std::vector<Pending>> groups_;
};

}  // namespace promptkd::test
