// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>

#include <cstdint>
#include <vector>

namespace promptkd {

/// A class for each pixel; 255 stands for none in files of labels.
struct LabelMap {
    Index height = 0, width = 0;       ///< rows and columns of pixels
    std::vector<std::uint8_t> labels;  ///< (height, width)

    LabelMap() = default;
    /// All of class 0.
    LabelMap(Index h, Index w) : height(h), width(w), labels(static_cast<std::size_t>(h * w)) {}
};

}  // namespace promptkd
