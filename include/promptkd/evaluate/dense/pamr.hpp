// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/evaluate/dense/planes.hpp>
#include <promptkd/op/formulas.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace promptkd {

/// Pixel-adaptive mask refinement (Araslanov & Roth, 2020, section 3.3).
struct PamrOptions {
    Index steps = 10;                     ///< times that logits are averaged
    std::vector<Index> dilations{8, 16};  ///< distances of the neighbours, in pixels
};

namespace detail {

/// The eight neighbours of a pixel at each dilation, the border repeated.
class PamrNeighbours {
public:
    PamrNeighbours(Index height, Index width, const std::vector<Index>& dilations)
        : height_(height), width_(width), dilations_(dilations) {}

    Index count() const { return 8 * static_cast<Index>(dilations_.size()); }
    /// The pixel that is neighbour k of (y, x).
    Index at(Index k, Index y, Index x) const {
        static constexpr std::array<std::array<Index, 2>, 8> steps{
            {{-1, -1}, {-1, 0}, {-1, 1}, {0, -1}, {0, 1}, {1, -1}, {1, 0}, {1, 1}}};
        const Index dilation = dilations_[static_cast<std::size_t>(k / 8)];
        const auto& step = steps[static_cast<std::size_t>(k % 8)];
        return std::clamp<Index>(y + step[0] * dilation, 0, height_ - 1) * width_ +
               std::clamp<Index>(x + step[1] * dilation, 0, width_ - 1);
    }

private:
    Index height_, width_;
    const std::vector<Index>& dilations_;
};

/// Adds −|difference|/(1e-8 + 0.1·std) of one channel to the affinities (neighbours) of a pixel.
inline void add_affinity(const float* channel, Index centre, const std::vector<Index>& around, Index dilations,
                         std::vector<double>& affinity) {
    const double own = channel[centre];
    double sum = own * static_cast<double>(dilations), squares = 0;
    for (const Index i : around) sum += channel[i];
    const double n = static_cast<double>(around.size()) + static_cast<double>(dilations), mean = sum / n;
    for (const Index i : around) squares += (channel[i] - mean) * (channel[i] - mean);
    squares += static_cast<double>(dilations) * (own - mean) * (own - mean);
    const double scale = 1e-8 + 0.1 * std::sqrt(squares / (n - 1));
    for (std::size_t k = 0; k < around.size(); ++k) affinity[k] -= std::abs(channel[around[k]] - own) / scale;
}

/// Weights (pixels, neighbours): the softmax of the mean affinity over the channels.
inline std::vector<float> pamr_weights(const Planes& image, const PamrNeighbours& neighbours, Index dilations) {
    std::vector<float> weights(static_cast<std::size_t>(image.pixels() * neighbours.count()));
    std::vector<Index> around(static_cast<std::size_t>(neighbours.count()));
    std::vector<double> affinity(around.size());
    for (Index y = 0; y < image.height; ++y)
        for (Index x = 0; x < image.width; ++x) {
            for (std::size_t k = 0; k < around.size(); ++k) around[k] = neighbours.at(static_cast<Index>(k), y, x);
            std::fill(affinity.begin(), affinity.end(), 0.0);
            for (Index c = 0; c < image.count; ++c)
                add_affinity(image.row(c, 0), y * image.width + x, around, dilations, affinity);
            for (double& a : affinity) a /= static_cast<double>(image.count);
            softmax_on_host(affinity.data(), static_cast<Index>(affinity.size()));
            float* const out = weights.data() + (y * image.width + x) * neighbours.count();
            for (std::size_t k = 0; k < affinity.size(); ++k) out[k] = static_cast<float>(affinity[k]);
        }
    return weights;
}

}  // namespace detail

/// `logits` (n, height, width), each step replaced by the weighted sum of the neighbours', the pixel itself not among
/// them; weights from the `image` (channels, height, width) of the same size. Throws Error for sizes that differ.
inline Planes refine_by_pamr(const Planes& image, Planes logits, const PamrOptions& options) {
    require(image.height == logits.height && image.width == logits.width, "PAMR: logits of ", logits.width, " x ",
            logits.height, " pixels for an image of ", image.width, " x ", image.height);
    require(!options.dilations.empty(), "PAMR needs at least one dilation");
    for (const Index dilation : options.dilations) require(dilation > 0, "PAMR: a dilation of ", dilation);
    const detail::PamrNeighbours neighbours(image.height, image.width, options.dilations);
    const Index dilations = static_cast<Index>(options.dilations.size()), count = neighbours.count();
    const std::vector<float> weights = detail::pamr_weights(image, neighbours, dilations);
    Planes next(logits.count, logits.height, logits.width);
    for (Index step = 0; step < options.steps; ++step) {
        for (Index y = 0; y < logits.height; ++y)
            for (Index x = 0; x < logits.width; ++x) {
                const Index pixel = y * logits.width + x;
                for (Index p = 0; p < logits.count; ++p) next.row(p, 0)[pixel] = 0;
                for (Index k = 0; k < count; ++k) {
                    const Index from = neighbours.at(k, y, x);
                    const float weight = weights[static_cast<std::size_t>(pixel * count + k)];
                    for (Index p = 0; p < logits.count; ++p) next.row(p, 0)[pixel] += weight * logits.row(p, 0)[from];
                }
            }
        std::swap(next, logits);
    }
    return logits;
}

}  // namespace promptkd
