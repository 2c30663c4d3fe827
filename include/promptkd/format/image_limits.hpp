// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>

#include <cstddef>
#include <string>

namespace promptkd {

/// What an image reader accepts.
struct ImageLimits {
    Index max_pixels = 178956970;                       ///< Pillow's limit; checked before anything is decoded
    std::size_t max_file_bytes = std::size_t{1} << 30;  ///< of the compressed file
};

namespace detail {

/// Throws Error unless height · width is within the limit (both come from a file's header).
inline void check_dimensions(Index height, Index width, const ImageLimits& limits, const std::string& name) {
    require(height > 0 && width > 0, name, ": the image is empty (", width, "x", height, " pixels)");
    require(width <= limits.max_pixels / height, name, ": ", width, "x", height, " pixels are more than the limit of ",
            limits.max_pixels, "; refused before decoding");
}

}  // namespace detail

}  // namespace promptkd
