// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>
#include <promptkd/image/resample.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace promptkd {

/// How position embeddings are brought to another number of patches. All sample at (i + ½)·old/new − ½.
enum class PositionFilter {
    bicubic_antialiased,  ///< a = −0.5, stretched where the grid shrinks, weights normalised: open_clip, timm
    bicubic,              ///< a = −0.75, no antialiasing: Hugging Face, MaskCLIP, CLIPSelf
    bilinear,             ///< no antialiasing: Meta's Perception Encoder
    bicubic_shifted       ///< bicubic, but at (i + ½)·old/(new + 0.1) − ½: DINO, SCLIP, ClearCLIP, NACLIP
};

/// Patches of an image from top to bottom and from left to right.
struct GridSize {
    Index rows = 0, columns = 0;  ///< patches

    /// Number of patches.
    Index cells() const { return rows * columns; }
    /// Whether both are equal.
    bool operator==(const GridSize&) const = default;
};

namespace detail {

/// Weights (to, from): values of a line of `to` cells as sums of one of `from`.
inline std::vector<double> position_weights(Index from, Index to, PositionFilter filter) {
    const double shift = filter == PositionFilter::bicubic_shifted ? 0.1 : 0.0;
    const double scale = static_cast<double>(from) / (static_cast<double>(to) + shift);
    const bool antialiased = filter == PositionFilter::bicubic_antialiased;
    const double stretch = antialiased ? std::max(scale, 1.0) : 1.0;
    const double reach = filter == PositionFilter::bilinear ? 1.0 : 2.0 * stretch;
    std::vector<double> weights(static_cast<std::size_t>(to * from), 0.0);
    for (Index i = 0; i < to; ++i) {
        double* const row = weights.data() + i * from;
        const double center = (static_cast<double>(i) + 0.5) * scale - 0.5;
        double sum = 0;
        const auto last = static_cast<Index>(std::floor(center + reach));
        for (auto k = static_cast<Index>(std::ceil(center - reach)); k <= last; ++k) {
            if (antialiased && (k < 0 || k >= from)) continue;
            const double x = (static_cast<double>(k) - center) / stretch;
            const double weight = filter == PositionFilter::bilinear ? std::max(0.0, 1 - std::abs(x))
                                                                     : cubic(x, antialiased ? -0.5 : -0.75);
            row[std::clamp<Index>(k, 0, from - 1)] += weight;  // without antialiasing the edge is repeated
            sum += weight;
        }
        for (Index k = 0; k < from; ++k) row[k] /= sum;
    }
    return weights;
}

}  // namespace detail

/// Position embeddings (`leading` + from², width) of a square of patches, row by row behind those of `leading` tokens,
/// which stay, at to.rows × to.columns patches: fp32. Throws Error when the shape is another.
inline HostTensor resize_positions(const HostTensor& positions, Index leading, GridSize to, PositionFilter filter) {
    require(positions.shape.size() == 2 && positions.shape[0] > leading && to.rows > 0 && to.columns > 0,
            "position embeddings of shape ", to_string(positions.shape), " cannot be interpolated");
    const Index width = positions.shape[1], cells = positions.shape[0] - leading;
    const auto from = static_cast<Index>(std::lround(std::sqrt(static_cast<double>(cells))));
    require(from * from == cells, "position embeddings of ", cells, " patches are not those of a square");
    const std::vector<double> in = positions.to<double>();
    const std::vector<double> down = detail::position_weights(from, to.rows, filter);
    const std::vector<double> across = detail::position_weights(from, to.columns, filter);
    std::vector<double> rows(static_cast<std::size_t>(to.rows * from * width), 0.0);  // (to.rows, from, width)
    for (Index y = 0; y < to.rows; ++y)
        for (Index k = 0; k < from; ++k) {
            const double weight = down[static_cast<std::size_t>(y * from + k)];
            if (weight == 0) continue;
            const double* const source = in.data() + (leading + k * from) * width;
            double* const sum = rows.data() + y * from * width;
            for (Index j = 0; j < from * width; ++j) sum[j] += weight * source[j];
        }
    const Index all_cells = to.rows * to.columns;
    std::vector<double> all(static_cast<std::size_t>((leading + all_cells) * width), 0.0);
    std::copy_n(in.data(), leading * width, all.data());
    for (Index cell = 0; cell < all_cells; ++cell) {
        double* const sum = all.data() + (leading + cell) * width;
        const double* const line = rows.data() + cell / to.columns * from * width;
        for (Index k = 0; k < from; ++k) {
            const double weight = across[static_cast<std::size_t>(cell % to.columns * from + k)];
            for (Index j = 0; j < width; ++j) sum[j] += weight * line[k * width + j];
        }
    }
    return make_tensor(std::vector<float>(all.begin(), all.end()), {leading + all_cells, width});
}

/// The same at to² patches.
inline HostTensor resize_positions(const HostTensor& positions, Index leading, Index to, PositionFilter filter) {
    return resize_positions(positions, leading, GridSize{to, to}, filter);
}

}  // namespace promptkd
