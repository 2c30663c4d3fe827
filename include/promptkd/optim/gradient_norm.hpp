// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/optim/rate_groups.hpp>

#include <algorithm>
#include <vector>

namespace promptkd {

namespace detail {

/// Σ g² of one part of the gradients.
template <class T>
struct SumOfSquares {
    const T* gradients;
    T* sums;
    Index n, part;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const T* g = gradients + row * part;
        const T sum = team.sum(n - row * part < part ? n - row * part : part,
                               [g](const auto& lane) { return lane.value(lane.load(g) * lane.load(g)); });
        team.once([this, row, sum] { sums[row] = sum; });
    }
};

template <class T>
struct ScaleGradients {
    T* gradients;
    const T* factor;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        if (*factor != T(1)) lane.store(gradients, lane.value(lane.load(gradients) * *factor));
    }
};

/// The norm, and min(1, largest/norm).
template <class T>
struct ClippingFactor {
    const T* sums;
    T *norm, *factor;
    Index parts;
    T largest;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index) const {
        const T* all = sums;
        const T square = team.sum(parts, [all](const auto& lane) { return lane.load(all); });
        team.once([this, square] {
            using std::sqrt;
            *norm = sqrt(square);
            *factor = *norm > largest ? largest / *norm : T(1);
        });
    }
};

}  // namespace detail

/// Clipping by the global norm: the gradients of all parameters together are multiplied by min(1, largest/‖g‖) (Pascanu
/// et al., ICML 2013). The norm is summed in a fixed order; everything stays on the device.
template <Device D>
class GradientNorm {
public:
    using T = typename D::Scalar;

    /// Of the parameters in `groups`. `params` is bound and outlives this.
    GradientNorm(ParamSet<D>& params, std::vector<RateGroup> groups, double largest)
        : params_(&params),
          groups_(std::move(groups)),
          largest_(largest),
          sums_(params.device(), std::max<Index>(1, count_parts())),
          result_(params.device(), 2) {}

    /// g ← g·min(1, largest/‖g‖)
    void clip() {
        D& device = params_->device();
        Index first = 0;
        for (const RateGroup& g : groups_) {
            const Index parts = parts_of(g);
            device.rows(parts, part,
                        detail::SumOfSquares<T>{params_->gradients() + g.first, sums_.data() + first, g.count, part});
            first += parts;
        }
        device.rows(1, first,
                    detail::ClippingFactor<T>{sums_.data(), result_.data(), result_.data() + 1, first,
                                              static_cast<T>(largest_)});
        for (const RateGroup& g : groups_)
            device.map(g.count, detail::ScaleGradients<T>{params_->gradients() + g.first, result_.data() + 1});
    }

    /// ‖g‖ as it was before the last clip() (waits for the device).
    double value() const { return static_cast<double>(result_.to_host()[0]); }

private:
    static constexpr Index part = 4096;

    static Index parts_of(const RateGroup& g) { return (g.count + part - 1) / part; }
    Index count_parts() const {
        Index parts = 0;
        for (const RateGroup& g : groups_) parts += parts_of(g);
        return parts;
    }

    ParamSet<D>* params_;
    std::vector<RateGroup> groups_;
    double largest_;
    Buffer<D, T> sums_, result_;
};

}  // namespace promptkd
