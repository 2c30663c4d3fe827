// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>

#include <cstdint>
#include <vector>

namespace promptkd {

/// How a file stores its colours, as far as a resize before the conversion to RGB depends on it.
enum class StoredColours {
    plain,      ///< values that can be averaged: RGB, grey
    indexed,    ///< numbers of a palette, or one bit a pixel
    with_alpha  ///< values and their opacity
};

/// An 8-bit RGB image in host memory: `height` rows of `width` pixels, three interleaved bytes each, no padding.
struct Image {
    Index height = 0;                  ///< rows of pixels
    Index width = 0;                   ///< columns of pixels
    std::vector<std::uint8_t> pixels;  ///< (height, width, 3): red, green, blue
    /// (height, width): opacity, empty where the file tells of none; the pixels are as stored, whatever it is
    std::vector<std::uint8_t> alpha;
    StoredColours stored = StoredColours::plain;  ///< in the file; of what was made of it: plain

    Image() = default;
    /// A black image of `h` rows and `w` columns.
    Image(Index h, Index w) : height(h), width(w), pixels(static_cast<std::size_t>(h * w * 3)) {}

    /// Row `y` of pixels.
    const std::uint8_t* row(Index y) const { return pixels.data() + y * width * 3; }
    /// Row `y` of pixels.
    std::uint8_t* row(Index y) { return pixels.data() + y * width * 3; }
};

}  // namespace promptkd
