// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/image.hpp>
#include <promptkd/evaluate/dense/boxes.hpp>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace promptkd {

/// Connected pixels of a mask.
struct Component {
    std::vector<Index> pixels;  ///< row·width + column
    Box box;                    ///< around them, end exclusive
};

namespace detail {

/// The pixels that hang together with `start`, by 8 neighbours, all with its value; their `free` marks are cleared.
template <class V>
Component flood(const std::vector<V>& values, Index height, Index width, Index start, std::vector<bool>& free) {
    Component out;
    Index x0 = width, y0 = height, x1 = 0, y1 = 0;
    std::vector<Index> open{start};
    free[static_cast<std::size_t>(start)] = false;
    while (!open.empty()) {
        const Index at = open.back();
        open.pop_back();
        out.pixels.push_back(at);
        const Index y = at / width, x = at % width;
        x0 = std::min(x0, x);
        y0 = std::min(y0, y);
        x1 = std::max(x1, x + 1);
        y1 = std::max(y1, y + 1);
        for (Index ny = std::max<Index>(0, y - 1); ny <= std::min(height - 1, y + 1); ++ny)
            for (Index nx = std::max<Index>(0, x - 1); nx <= std::min(width - 1, x + 1); ++nx) {
                const Index next = ny * width + nx;
                const auto i = static_cast<std::size_t>(next);
                if (!free[i] || values[i] != values[static_cast<std::size_t>(start)]) continue;
                free[i] = false;
                open.push_back(next);
            }
    }
    out.box = {static_cast<double>(x0), static_cast<double>(y0), static_cast<double>(x1), static_cast<double>(y1)};
    return out;
}

}  // namespace detail

/// Connected components, by 8 neighbours, of equal values other than 0 in `values` (height, width), of at least `least`
/// pixels, in the order in which rows meet them.
template <class V>
std::vector<Component> connected_components(const std::vector<V>& values, Index height, Index width, Index least = 1) {
    require(static_cast<Index>(values.size()) == height * width, "components: ", values.size(), " values of ", height,
            " x ", width, " pixels");
    std::vector<bool> free(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) free[i] = values[i] != V{};
    std::vector<Component> out;
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (!free[i]) continue;
        Component one = detail::flood(values, height, width, static_cast<Index>(i), free);
        if (static_cast<Index>(one.pixels.size()) >= least) out.push_back(std::move(one));
    }
    return out;
}

/// 1 where a pixel's largest channel is above `least`, else 0: (height, width).
inline std::vector<std::uint8_t> foreground_of(const Image& picture, int least) {
    std::vector<std::uint8_t> out;
    for (std::size_t i = 0; i < picture.pixels.size(); i += 3)
        out.push_back(std::max({picture.pixels[i], picture.pixels[i + 1], picture.pixels[i + 2]}) > least ? 1 : 0);
    return out;
}

}  // namespace promptkd
