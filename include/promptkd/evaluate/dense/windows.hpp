// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/evaluate/dense/planes.hpp>

#include <algorithm>
#include <vector>

namespace promptkd {

/// What a window does whose side is no multiple of the patch.
enum class OddWindow {
    stretch,  ///< the last pixels are left out, the grid is stretched over the whole window (SCLIP, NACLIP)
    pad       ///< zeros all around it, cut off again afterwards (ClearCLIP)
};

/// "stretch" or "pad".
inline OddWindow parse_odd_window(const std::string& name) {
    require(name == "stretch" || name == "pad", "'", name,
            "' is nothing that odd windows do; there are stretch and pad");
    return name == "pad" ? OddWindow::pad : OddWindow::stretch;
}

/// How an image is cut into windows.
struct WindowOptions {
    Index window = 0;                    ///< side of a window in pixels; 0: the whole image is one
    Index stride = 0;                    ///< pixels from one to the next; 0: half a window
    OddWindow odd = OddWindow::stretch;  ///< at sides that are no multiple of the patch
};

/// Pixels from a window to the next. Throws Error for a stride that leaves some out.
inline Index window_stride(const WindowOptions& options) {
    require(options.window >= 0 && options.stride >= 0, "windows have a side and a stride above 0");
    const Index stride = options.stride > 0 ? options.stride : std::max<Index>(1, options.window / 2);
    require(options.window == 0 || stride <= options.window, "windows of ", options.window, " pixels every ", stride,
            " pixels leave some out; use a stride of at most the window");
    return stride;
}

namespace detail {

/// Begins and ends of windows along a side of `length` pixels.
inline std::vector<std::pair<Index, Index>> window_ends(Index length, Index window, Index stride) {
    const Index count = std::max<Index>(length - window + stride - 1, 0) / stride + 1;
    std::vector<std::pair<Index, Index>> out;
    for (Index i = 0; i < count; ++i) {
        const Index end = std::min(i * stride + window, length);
        out.emplace_back(std::max<Index>(end - window, 0), end);
    }
    return out;
}

}  // namespace detail

/// The windows of an image of height × width pixels, row by row (mmsegmentation's slide_inference): all of the same
/// size, those of the last row and column moved back inside. Throws Error for a stride that leaves pixels out.
inline std::vector<PixelRect> windows_of(Index height, Index width, const WindowOptions& options) {
    if (options.window == 0) return {{0, 0, height, width}};
    const Index stride = window_stride(options);
    std::vector<PixelRect> out;
    for (const auto& [top, bottom] : detail::window_ends(height, options.window, stride))
        for (const auto& [left, right] : detail::window_ends(width, options.window, stride))
            out.push_back({top, left, bottom - top, right - left});
    return out;
}

}  // namespace promptkd
