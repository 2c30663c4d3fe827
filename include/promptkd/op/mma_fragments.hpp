// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/matrix_team.hpp>

namespace promptkd {

namespace detail {

/// `Rows` rows of a matrix with `Columns` columns of 16 bits in a team's memory. Eight rows in a row begin in different
/// banks: loads of 8 × 8 matrices do not collide.
template <int Rows, int Columns>
struct MemoryTile {
    static constexpr int ld = Columns + 8, values = Rows * ld, steps = Columns / 16, chunks = Columns / 8;

    /// Fragments of 16 rows from `rows` as left factors, all columns: registers 4c … 4c+3 are columns 16c … 16c+15.
    template <class Warp, class Fragments, class A>
    PROMPTKD_HD static void load_left(Warp& warp, Fragments& f, const A* rows) {
        unrolled<steps>([&](auto c) {
            warp.load(f, 4 * c, [=](int lane) { return rows + lane % 16 * ld + 16 * c + lane / 16 * 8; });
        });
    }

    /// Accumulators `at` and `at + 1` of c (16 × 16) += left · rowsᵀ, 16 rows from `rows`.
    template <class Warp, class Accumulators, class Fragments, class A>
    PROMPTKD_HD static void add_products(Warp& warp, Accumulators& c, int at, const Fragments& left, const A* rows) {
        unrolled<steps>([&](auto step) {
            typename Warp::template Values<std::uint32_t, 4> right;
            warp.load(right, 0,
                      [=](int lane) { return rows + (lane / 16 * 8 + lane % 8) * ld + 16 * step + lane / 8 % 2 * 8; });
            warp.template multiply<A>(c, at, left, step, right, 0);
            warp.template multiply<A>(c, at + 1, left, step, right, 1);
        });
    }

    /// c (16 × Columns) += factor l of left (16 × 16) · 16 rows from `rows`.
    template <class Warp, class Accumulators, class Fragments, class A>
    PROMPTKD_HD static void add_mix(Warp& warp, Accumulators& c, const Fragments& left, int l, const A* rows) {
        unrolled<steps>([&](auto step) {
            typename Warp::template Values<std::uint32_t, 4> right;
            warp.load_transposed(right, 0, [=](int lane) { return rows + lane % 16 * ld + 16 * step + lane / 16 * 8; });
            warp.template multiply<A>(c, 2 * step, left, l, right, 0);
            warp.template multiply<A>(c, 2 * step + 1, left, l, right, 1);
        });
    }

    /// factor(lane, half)·c (16 × Columns), rounded, to 16 rows from `rows`: a lane holds values of row lane/4, its
    /// half 0, and of row lane/4 + 8.
    template <class A, class Warp, class Accumulators, class Factor>
    PROMPTKD_HD static void store(Warp& warp, const Accumulators& c, A* rows, const Factor& factor) {
        warp.lanes([&](int lane) {
            unrolled<2>([&](auto half) {
                const float scale = factor(lane, half);
                const FragmentPlace place = accumulator_place(lane, 2 * half);
                A* to = rows + place.row * ld + place.column;
                unrolled<Columns / 8>([&](auto block) {
                    const int i = 4 * block + 2 * half;
                    store_pair(to + 8 * block,
                               Warp::template pack<A>(scale * c.at(lane, i), scale * c.at(lane, i + 1)));
                });
            });
        });
    }
};

/// Of lane `lane`: accumulators `from` and `from + 1` of c, a 16 × 16 matrix, rounded, as left factor `to` of f.
template <class A, class Warp, class Accumulators, class Fragments>
PROMPTKD_HD void pack_left(const Accumulators& c, int from, Fragments& f, int to, int lane) {
    unrolled<4>([&](auto r) {
        const int i = 4 * (from + r / 2) + 2 * (r % 2);
        f.at(lane, 4 * to + r) = Warp::template pack<A>(c.at(lane, i), c.at(lane, i + 1));
    });
}

/// Sets all values of each lane.
template <int N, class Warp, class Values, class U>
PROMPTKD_HD void fill(Warp& warp, Values& values, U value) {
    warp.lanes([&](int lane) { unrolled<N>([&](auto i) { values.at(lane, i) = value; }); });
}

}  // namespace detail

}  // namespace promptkd
