// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/device.hpp>

#include <utility>

namespace promptkd {

// A device with matrix units for factors of 16 bits offers
//   matrix_memory_bytes(): memory of its own that a team may have, 0 where the hardware has no such units;
//   matrix_teams(n, f): f(team, i) once for each i < n, by teams of F::warps warps of 32 lanes, F::teams_at_once of
//   them
//     on a processor (which bounds their registers), each with f.memory_bytes() bytes of its own.
//
// A MatrixTeam offers:
//   memory<A>(): that memory, 16-byte aligned, undefined at first;
//   items<Columns>(rows, g): g(row, column) for each place of so many rows and columns, a place a thread;
//   copy_async<Bytes, Columns>(rows, g): begins to copy for each place what the AsyncCopy g(row, column) says, 4 or 16
//     aligned bytes, into the team's memory, which is undefined until it was waited for; commit(): they are a group;
//   wait<Left>(): until all groups but the last `Left` have arrived;
//   warps(g): g(warp) for each of its warps; OfWarps<S>: an S for each, states(warp).
// items, wait and warps end in a barrier of the team.
//
// Its Warp offers, all lanes together:
//   index(); lanes(g): g(lane) for each lane; Values<U, N>: N registers of each lane, values.at(lane, i);
//   load(f, i, address): registers i … i+3 of f from four 8 × 8 matrices: address(8m + r) is row r of matrix m, and
//   lane l
//     gets elements 2(l mod 4) and the next of row l/4; load_transposed: of column l/4;
//   multiply<A>(c, i, a, j, b, k): accumulator i of c (16 × 8, fp32) += factor j of a (16 × 16) · factor k of b (16 ×
//   8); quad_sum(v, i), quad_max(v, i): value i of the four lanes that share rows, the same in each; pack<A>(low,
//   high): two values rounded to A in one register; exp2(x).
// Factors of 16 columns are two registers a row and half: see left_fragment and right_fragment in op/mma_fragments.hpp.

/// One copy of MatrixTeam::copy_async: nothing is read where it is not valid, and zeros are written.
struct AsyncCopy {
    void* to;          ///< in the team's memory
    const void* from;  ///< in device memory
    bool valid;        ///< whether there is something to copy
};

/// A row and a column.
struct FragmentPlace {
    int row, column;  ///< of a 16 × 8 accumulator
};

/// Which element of a 16 × 8 accumulator is value i < 4 of lane `lane` (PTX ISA, Matrix Fragments for mma.m16n8k16).
PROMPTKD_HD constexpr FragmentPlace accumulator_place(int lane, int i) {
    return {lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2};
}

namespace detail {

/// A number as a type, which std::integral_constant is on the host alone.
template <int N>
struct Constant {
    PROMPTKD_HD constexpr operator int() const { return N; }
};

/// f(0), …, f(N−1), each with a constant of its own: registers have no addresses.
template <int N, class F>
PROMPTKD_HD void unrolled(const F& f) {
    [&]<int... i>(std::integer_sequence<int, i...>) { (f(Constant<i>()), ...); }
    (std::make_integer_sequence<int, N>());
}

/// 16 bytes from one aligned place to another.
PROMPTKD_HD inline void copy_chunk(void* to, const void* from) {
    struct [[gnu::may_alias]] alignas(16) Chunk {
        std::uint32_t x[4];
    };
    *static_cast<Chunk*>(to) = *static_cast<const Chunk*>(from);
}

/// A register with two values to an aligned place.
PROMPTKD_HD inline void store_pair(void* to, std::uint32_t pair) {
    struct [[gnu::may_alias]] Pair {
        std::uint32_t bits;
    };
    *static_cast<Pair*>(to) = Pair{pair};
}

}  // namespace detail

}  // namespace promptkd
