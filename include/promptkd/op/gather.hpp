// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/device.hpp>

#include <cstdint>

namespace promptkd {

/// Where learnable prompts stand in a (rows, d) activation: prompt j occupies the rows table[j·stride + b], b < uses
/// (one for each image of a batch, or one in all for a text prefix that is shared by the classes). Negative rows are
/// unused. `table` is in device memory.
struct Placement {
    Index prompts = 0;
    Index uses = 0;
    Index stride = 0;
    const std::int32_t* table = nullptr;
};

namespace detail {

template <class T, class A, bool Add>
struct PlacePrompts {
    Placement place;
    const T* prompts;
    A* x;
    Index d;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index i) const {
        const Division use = divide(i, place.uses);
        const Index j = use.quotient, at = place.table[j * place.stride + use.remainder];
        if (at < 0) return;
        A* row = x + at * d;
        const T* p = prompts + j * d;
        team.each(d, [=](const auto& lane) {
            if constexpr (Add)
                lane.store(row, lane.value(lane.load(row) + lane.load(p)));
            else
                lane.store(row, lane.load(p));
        });
    }
};

template <class T, class A>
struct CollectPrompts {
    Placement place;
    const A* dx;
    T* d_prompts;
    Index d;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index j) const {
        const A* g = dx;
        T* out = d_prompts + j * d;
        const std::int32_t* at = place.table + j * place.stride;
        const Index uses = place.uses, width = d;
        // The loop over uses is outside: g++ 12 -O3 may lose a conditional assignment of a pack.
        for (Index b = 0; b < uses; ++b) {
            if (at[b] < 0) continue;
            const A* row = g + static_cast<Index>(at[b]) * width;
            team.each(width, [=](const auto& lane) { lane.store(out, lane.value(lane.load(out) + lane.load(row))); });
        }
    }
};

template <class A>
struct ClearRows {
    Placement place;
    A* x;
    Index d;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index i) const {
        const Division use = divide(i, place.uses);
        const Index at = place.table[use.quotient * place.stride + use.remainder];
        if (at < 0) return;
        A* row = x + at * d;
        team.each(d, [=](const auto& lane) { lane.store(row, lane.fill(0)); });
    }
};

template <class From, class To, bool Add>
struct MoveRows {
    const From* x;
    To* y;
    const std::int32_t* positions;
    Index prefix, length, d;
    bool scatter;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index i) const {
        const Index row = prefix + i * length + (positions ? static_cast<Index>(positions[i]) : 0);
        const From* from = x + (scatter ? i : row) * d;
        To* to = y + (scatter ? row : i) * d;
        team.each(d, [=](const auto& lane) {
            if constexpr (Add)
                lane.store(to, lane.value(lane.load(to) + lane.load(from)));
            else
                lane.store(to, lane.load(from));
        });
    }
};

}  // namespace detail

/// x[row] = prompts[j] for every row of the placement (prompts: place.prompts × d).
template <Device D, class T, class A>
void overwrite_prompts(D& device, const Placement& place, const T* prompts, A* x, Index d) {
    device.rows(place.prompts * place.uses, d, detail::PlacePrompts<T, A, false>{place, prompts, x, d});
}

/// x[row] += prompts[j] for every row of the placement.
template <Device D, class T, class A>
void add_prompts(D& device, const Placement& place, const T* prompts, A* x, Index d) {
    device.rows(place.prompts * place.uses, d, detail::PlacePrompts<T, A, true>{place, prompts, x, d});
}

/// d_prompts[j] += Σ_b dx[row(j, b)].
template <Device D, class T, class A>
void collect_prompt_gradients(D& device, const Placement& place, const A* dx, T* d_prompts, Index d) {
    device.rows(place.prompts, place.uses * d, detail::CollectPrompts<T, A>{place, dx, d_prompts, d});
}

/// dx[row] = 0: an overwritten row passes nothing to the block below.
template <Device D, class A>
void clear_prompt_rows(D& device, const Placement& place, A* dx, Index d) {
    device.rows(place.prompts * place.uses, d, detail::ClearRows<A>{place, dx, d});
}

}  // namespace promptkd
