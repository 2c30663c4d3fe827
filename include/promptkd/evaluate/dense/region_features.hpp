// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/evaluate/dense/boxes.hpp>
#include <promptkd/evaluate/dense/planes.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace promptkd {

/// How RoIAlign samples a box (He et al., 2017, Mask R-CNN, section 3).
struct RoiOptions {
    double scale = 1;     ///< cells of the map a pixel: 1/patch
    Index output = 1;     ///< cells of the result a side
    Index samples = 0;    ///< samples of a cell along each side; 0: ⌈side/output⌉
    bool aligned = true;  ///< coordinates half a cell less; else sides of at least 1
};

namespace detail {

/// Bilinear reads of a map at (y, x): up to four cells and their shares; none outside (−1, side).
struct BilinearRead {
    Index cells[4] = {0, 0, 0, 0};
    double shares[4] = {0, 0, 0, 0};

    BilinearRead(Index height, Index width, double y, double x) {
        if (y < -1 || y > static_cast<double>(height) || x < -1 || x > static_cast<double>(width)) return;
        y = std::max(y, 0.0);
        x = std::max(x, 0.0);
        Index y0 = std::min(static_cast<Index>(y), height - 1), x0 = std::min(static_cast<Index>(x), width - 1);
        const Index y1 = std::min(y0 + 1, height - 1), x1 = std::min(x0 + 1, width - 1);
        const double dy = y0 == height - 1 ? 0 : y - static_cast<double>(y0);
        const double dx = x0 == width - 1 ? 0 : x - static_cast<double>(x0);
        cells[0] = y0 * width + x0;
        cells[1] = y0 * width + x1;
        cells[2] = y1 * width + x0;
        cells[3] = y1 * width + x1;
        shares[0] = (1 - dy) * (1 - dx);
        shares[1] = (1 - dy) * dx;
        shares[2] = dy * (1 - dx);
        shares[3] = dy * dx;
    }
};

}  // namespace detail

/// Values (channels, output, output) of a box, in pixels of the image, in a map (channels, height, width): the mean of
/// bilinear samples in each cell of the box (torchvision's roi_align).
inline Planes roi_align(const Planes& map, const Box& box, const RoiOptions& options) {
    const double shift = options.aligned ? 0.5 : 0;
    const double left = box.x0 * options.scale - shift, top = box.y0 * options.scale - shift;
    double width = box.x1 * options.scale - shift - left, height = box.y1 * options.scale - shift - top;
    if (!options.aligned) {
        width = std::max(width, 1.0);
        height = std::max(height, 1.0);
    }
    const Index n = options.output;
    const double cell_h = height / static_cast<double>(n), cell_w = width / static_cast<double>(n);
    const auto samples = [&](double cell) {
        return options.samples > 0 ? options.samples : static_cast<Index>(std::ceil(cell));
    };
    const Index down = samples(cell_h), across = samples(cell_w);
    const double count = static_cast<double>(std::max<Index>(down * across, 1));
    Planes out(map.count, n, n);
    for (Index i = 0; i < n * n; ++i) {
        std::vector<double> sums(static_cast<std::size_t>(map.count), 0.0);
        for (Index s = 0; s < down * across; ++s) {
            const auto at = [](double from, double cell, Index k, Index of) {
                return from + (static_cast<double>(k) + 0.5) * cell / static_cast<double>(of);
            };
            const double y = at(top + static_cast<double>(i / n) * cell_h, cell_h, s / across, down);
            const double x = at(left + static_cast<double>(i % n) * cell_w, cell_w, s % across, across);
            const detail::BilinearRead read(map.height, map.width, y, x);
            for (Index c = 0; c < map.count; ++c)
                for (int k = 0; k < 4; ++k)
                    sums[static_cast<std::size_t>(c)] += read.shares[k] * map.row(c, 0)[read.cells[k]];
        }
        for (Index c = 0; c < map.count; ++c)
            out.row(c, 0)[i] = static_cast<float>(sums[static_cast<std::size_t>(c)] / count);
    }
    return out;
}

/// The mean (channels) of a map over the cells of a mask (height, width). Throws Error for an empty mask and another
/// size.
inline std::vector<float> pool_mask(const Planes& map, const std::vector<std::uint8_t>& mask) {
    require(static_cast<Index>(mask.size()) == map.pixels(), "a mask of ", mask.size(), " cells for a map of ",
            map.pixels());
    const auto cells = std::count_if(mask.begin(), mask.end(), [](std::uint8_t m) { return m != 0; });
    require(cells > 0, "a mask without any cell has no features");
    std::vector<float> out;
    for (Index c = 0; c < map.count; ++c) {
        double sum = 0;
        for (std::size_t i = 0; i < mask.size(); ++i)
            if (mask[i] != 0) sum += map.row(c, 0)[i];
        out.push_back(static_cast<float>(sum / static_cast<double>(cells)));
    }
    return out;
}

}  // namespace promptkd
