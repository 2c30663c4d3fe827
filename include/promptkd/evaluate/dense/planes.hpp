// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>
#include <promptkd/core/label_map.hpp>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace promptkd {

/// Values of pixels on the host: `count` planes (channels, classes, queries) of height × width.
struct Planes {
    Index count = 0, height = 0, width = 0;  ///< planes; rows and columns of each
    std::vector<float> values;               ///< (count, height, width)

    Planes() = default;
    /// Zeros.
    Planes(Index n, Index h, Index w) : count(n), height(h), width(w), values(static_cast<std::size_t>(n * h * w)) {}
    /// `all` (n, h, w). Throws Error unless it has so many values.
    Planes(Index n, Index h, Index w, std::vector<float> all) : count(n), height(h), width(w), values(std::move(all)) {
        require(static_cast<Index>(values.size()) == n * h * w, "planes: ", values.size(), " values, expected ", n,
                " x ", h, " x ", w);
    }

    /// Pixels of a plane.
    Index pixels() const { return height * width; }
    /// Row `y` of plane `p`.
    float* row(Index p, Index y) { return values.data() + (p * height + y) * width; }
    /// Row `y` of plane `p`.
    const float* row(Index p, Index y) const { return values.data() + (p * height + y) * width; }
};

/// A rectangle of pixels.
struct PixelRect {
    Index top = 0, left = 0, height = 0, width = 0;  ///< its first row and column, its sides

    /// Whether both are the same.
    bool operator==(const PixelRect&) const = default;
};

namespace detail {

/// Where a line of `to` values reads one of `from`: value i is (1 − share)·x[first] + share·x[second].
struct LinearReads {
    std::vector<Index> first, second;
    std::vector<float> share;

    LinearReads(Index from, Index to) {
        const double scale = static_cast<double>(from) / static_cast<double>(to);
        for (Index i = 0; i < to; ++i) {
            const double at = std::max(0.0, (static_cast<double>(i) + 0.5) * scale - 0.5);
            const Index low = std::min(static_cast<Index>(at), from - 1);
            first.push_back(low);
            second.push_back(std::min(low + 1, from - 1));
            share.push_back(static_cast<float>(at - static_cast<double>(low)));
        }
    }
};

}  // namespace detail

/// A part of an enlarged map, and where it goes.
struct EnlargedPart {
    Index height = 0, width = 0;        ///< to which the map is enlarged
    Index from_top = 0, from_left = 0;  ///< where the part begins that is used
    PixelRect to;                       ///< where it is added
};

/// Adds `map`, enlarged bilinearly (half-pixel centres, no antialiasing, coordinates below 0 clamped), to the planes of
/// `out`: the part that `part` says. Throws Error when the parts do not lie inside.
inline void add_enlarged(const Planes& map, const EnlargedPart& part, Planes& out) {
    const PixelRect& to = part.to;
    require(map.count == out.count && map.pixels() > 0, "enlarging ", map.count, " planes of ", map.height, " x ",
            map.width, " into ", out.count);
    require(part.from_top >= 0 && part.from_left >= 0 && part.from_top + to.height <= part.height &&
                part.from_left + to.width <= part.width && to.top >= 0 && to.left >= 0 &&
                to.top + to.height <= out.height && to.left + to.width <= out.width,
            "enlarging: a part of ", to.width, " x ", to.height, " pixels does not lie inside");
    const detail::LinearReads down(map.height, part.height), across(map.width, part.width);
    std::vector<float> wide(static_cast<std::size_t>(map.height * to.width));
    for (Index p = 0; p < map.count; ++p) {
        for (Index y = 0; y < map.height; ++y) {
            const float* const in = map.row(p, y);
            float* const line = wide.data() + y * to.width;
            for (Index x = 0; x < to.width; ++x) {
                const auto at = static_cast<std::size_t>(x + part.from_left);
                const float low = in[across.first[at]];
                line[x] = low + across.share[at] * (in[across.second[at]] - low);
            }
        }
        for (Index y = 0; y < to.height; ++y) {
            const auto at = static_cast<std::size_t>(y + part.from_top);
            const float *low = wide.data() + down.first[at] * to.width,
                        *high = wide.data() + down.second[at] * to.width;
            const float share = down.share[at];
            float* const line = out.row(p, to.top + y) + to.left;
            for (Index x = 0; x < to.width; ++x) line[x] += low[x] + share * (high[x] - low[x]);
        }
    }
}

/// `map` enlarged or reduced bilinearly to height × width, as add_enlarged() does it.
inline Planes resize_planes(const Planes& map, Index height, Index width) {
    Planes out(map.count, height, width);
    add_enlarged(map, {height, width, 0, 0, {0, 0, height, width}}, out);
    return out;
}

/// For each pixel the plane with the largest value, the first of equal ones. Throws Error for more than 255 planes.
inline LabelMap largest_plane(const Planes& x) {
    require(x.count > 0 && x.count <= 255, "a label map has 1 to 255 classes, not ", x.count);
    LabelMap out(x.height, x.width);
    std::vector<float> best(x.values.begin(), x.values.begin() + x.pixels());
    for (Index p = 1; p < x.count; ++p) {
        const float* const values = x.row(p, 0);
        for (Index i = 0; i < x.pixels(); ++i)
            if (values[i] > best[static_cast<std::size_t>(i)]) {
                best[static_cast<std::size_t>(i)] = values[i];
                out.labels[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(p);
            }
    }
    return out;
}

}  // namespace promptkd
