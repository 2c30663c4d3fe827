// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/closed_form/features.hpp>
#include <promptkd/distill/closed_form/moments.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace promptkd {

/// How far an image is from all distillation images, in the student's raw features x (e_s): ℓ(x) = (x−m)Γ(x−m)ᵀ + 1/N,
/// the leverage of a ridge regression, equal to a Mahalanobis distance up to a factor (Lee et al., NeurIPS 2018). What
/// a student learned is trusted with weight 1/(1 + (ℓ/cutoff)⁴): 1 on known ground, 0 far from it.
struct Guard {
    Index width = 0;                ///< e_s
    Index images = 0;               ///< N
    std::vector<double> mean;       ///< m (e_s)
    std::vector<double> precision;  ///< Γ = (C + 0.1·(trace(C)/e_s)·I)⁻¹ (e_s, e_s)
    double cutoff = 0;              ///< c_g: 95 % of the distillation images are nearer, each judged without itself

    /// ℓ(x) of each of the n rows of x (n, e_s).
    std::vector<double> distances(Cpu<double>& host, std::vector<double> x) const {
        const Index n = static_cast<Index>(x.size()) / width;
        for (Index i = 0; i < n; ++i)
            for (Index j = 0; j < width; ++j)
                x[static_cast<std::size_t>(i * width + j)] -= mean[static_cast<std::size_t>(j)];
        const std::vector<double> y = detail::HostProduct{n, width, width}(host, x, precision);
        std::vector<double> out(static_cast<std::size_t>(n), 1 / static_cast<double>(images));
        for (Index i = 0; i < n; ++i)
            for (Index j = 0; j < width; ++j)
                out[static_cast<std::size_t>(i)] +=
                    x[static_cast<std::size_t>(i * width + j)] * y[static_cast<std::size_t>(i * width + j)];
        return out;
    }

    /// 1/(1 + (ℓ/c_g)⁴)
    double weight(double distance) const {
        const double ratio = distance / cutoff;
        return 1 / (1 + ratio * ratio * ratio * ratio);
    }
};

/// The quantile of `values` at `share` in [0, 1], by linear interpolation between neighbours.
inline double quantile(std::vector<double> values, double share) {
    require(!values.empty(), "a quantile of no values");
    std::sort(values.begin(), values.end());
    const double place = share * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
}

/// The guard of images with these moments; its cutoff is taken from the features `subset` (n, e_s) of some of them.
/// Throws Error when all images have equal features.
inline Guard fit_guard(const FeatureMoments& moments, const std::vector<double>& subset, Cpu<double>& host) {
    constexpr double ridge = 0.1;
    constexpr double share = 0.95;
    const Index e = moments.width;
    moments.require_variation();
    Guard guard{e, moments.images, moments.mean(), {}, 0};
    const std::vector<double> scatter = moments.scatter();
    double trace = 0;
    for (Index i = 0; i < e; ++i) trace += scatter[static_cast<std::size_t>(i * e + i)];
    const double added = ridge * trace / static_cast<double>(e);
    const SymmetricEigen eigen = symmetric_eigen(scatter, e);
    std::vector<double> scaled = eigen.vectors;
    for (Index i = 0; i < e; ++i)
        for (Index j = 0; j < e; ++j)
            scaled[static_cast<std::size_t>(i * e + j)] /=
                std::max(0.0, eigen.values[static_cast<std::size_t>(j)]) + added;
    guard.precision = detail::HostProduct{e, e, e, false, true}(host, scaled, eigen.vectors);
    std::vector<double> distances = guard.distances(host, subset);
    for (double& l : distances) l /= std::max(1 - l, 1e-9);  // each image judged without itself
    guard.cutoff = quantile(std::move(distances), share);
    return guard;
}

}  // namespace promptkd
