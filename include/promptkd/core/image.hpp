// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>

#include <cstdint>
#include <vector>

namespace promptkd {

/// An 8-bit RGB image in host memory: `height` rows of `width` pixels, three interleaved bytes each, no padding.
struct Image {
    Index height = 0;
    Index width = 0;
    std::vector<std::uint8_t> pixels;

    Image() = default;
    Image(Index h, Index w) : height(h), width(w), pixels(static_cast<std::size_t>(h * w * 3)) {}

    const std::uint8_t* row(Index y) const { return pixels.data() + y * width * 3; }
    std::uint8_t* row(Index y) { return pixels.data() + y * width * 3; }
};

}  // namespace promptkd
