// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>

#include <cstdint>
#include <vector>

namespace promptkd {

/// An 8-bit RGB image in host memory: `height` rows of `width` pixels, three interleaved bytes each, no padding.
struct Image {
    Index height = 0;                  ///< rows of pixels
    Index width = 0;                   ///< columns of pixels
    std::vector<std::uint8_t> pixels;  ///< (height, width, 3): red, green, blue

    Image() = default;
    /// A black image of `h` rows and `w` columns.
    Image(Index h, Index w) : height(h), width(w), pixels(static_cast<std::size_t>(h * w * 3)) {}

    /// Row `y` of pixels.
    const std::uint8_t* row(Index y) const { return pixels.data() + y * width * 3; }
    /// Row `y` of pixels.
    std::uint8_t* row(Index y) { return pixels.data() + y * width * 3; }
};

}  // namespace promptkd
