// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/matrix.hpp>
#include <promptkd/device/device.hpp>

#include <cstdint>

namespace promptkd {

/// Where learnable prompts stand in a (rows, d) activation: prompt j occupies the rows table[j·stride + b], b < uses
/// (one for each image of a batch, or one in all for a text prefix that is shared by the classes). Negative rows are
/// unused. `table` is in device memory.
struct Placement {
    Index prompts = 0;                    ///< vectors that are placed
    Index uses = 0;                       ///< places of each
    Index stride = 0;                     ///< of the table
    const std::int32_t* table = nullptr;  ///< rows that they go to, in device memory
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
        // The loop over uses is outside, so that a use that is absent skips whole stores: see store_or_add.
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

/// x[row] = prompts[j] for every row of the placement: prompts (place.prompts, d), x (rows, d).
template <Device D, class A>
void overwrite_prompts(D& device, const Placement& place, ConstMatrix<typename D::Scalar> prompts, Matrix<A> x) {
    require_contiguous(prompts, place.prompts, x.columns, "prompts to be placed");
    require_contiguous(x, x.rows, x.columns, "placing prompts: x");
    device.rows(place.prompts * place.uses, x.columns,
                detail::PlacePrompts<typename D::Scalar, A, false>{place, prompts.data, x.data, x.columns});
}

/// x[row] += prompts[j] for every row of the placement, shapes likewise.
template <Device D, class A>
void add_prompts(D& device, const Placement& place, ConstMatrix<typename D::Scalar> prompts, Matrix<A> x) {
    require_contiguous(prompts, place.prompts, x.columns, "prompts to be added");
    require_contiguous(x, x.rows, x.columns, "adding prompts: x");
    device.rows(place.prompts * place.uses, x.columns,
                detail::PlacePrompts<typename D::Scalar, A, true>{place, prompts.data, x.data, x.columns});
}

/// d_prompts[j] += Σ_b dx[row(j, b)]: d_prompts (place.prompts, d), dx (rows, d), whose elements may have another type.
template <Device D, class X, class T>
void collect_prompt_gradients(D& device, const Placement& place, Matrix<X> dx, Matrix<T> d_prompts) {
    require_contiguous(d_prompts, place.prompts, dx.columns, "gradients of prompts");
    require_contiguous(dx, dx.rows, d_prompts.columns, "gradients of prompts: dx");
    device.rows(place.prompts, place.uses * dx.columns,
                detail::CollectPrompts<T, std::remove_const_t<X>>{place, dx.data, d_prompts.data, dx.columns});
}

/// dx[row] = 0: an overwritten row passes nothing to the block below.
template <Device D, class A>
void clear_prompt_rows(D& device, const Placement& place, Matrix<A> dx) {
    require_contiguous(dx, dx.rows, dx.columns, "clearing rows of prompts: dx");
    device.rows(place.prompts * place.uses, dx.columns, detail::ClearRows<A>{place, dx.data, dx.columns});
}

}  // namespace promptkd
