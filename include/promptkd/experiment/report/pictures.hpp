// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/report/svg.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace promptkd {

/// RFC 4648, with padding.
inline std::string base64(const std::string& bytes) {
    constexpr const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        std::uint32_t group = 0;
        for (std::size_t j = 0; j < 3; ++j)
            group = group << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0u);
        for (std::size_t j = 0; j < 4; ++j) out += i + j > bytes.size() ? '=' : digits[group >> (18 - 6 * j) & 63];
    }
    return out;
}

/// A picture of a training: losses (logarithmic) above accuracies in percent, both against `axis`.
inline std::string training_picture(const std::vector<Curve>& losses, const std::vector<Curve>& accuracies,
                                    const std::string& axis) {
    return "<svg xmlns='http://www.w3.org/2000/svg' width='720' height='560' font-family='sans-serif' "
           "font-size='13'>\n<rect width='100%' height='100%' fill='white'/>\n" +
           svg::panel(losses, "distillation loss", {70, 40, 620, 200}, AxisScale::logarithmic) +
           svg::panel(accuracies, "test accuracy, %", {70, 300, 620, 200}, AxisScale::linear) +
           "<text x='380' y='535' text-anchor='middle'>" + escape_markup(axis) + "</text>\n</svg>\n";
}

/// One picture of a gallery: a PNG file's bytes, what the student says and what it is.
struct GalleryItem {
    std::string png, predicted, truth;  ///< the picture's bytes, predicted class, true class
    double probability = 0;             ///< of the predicted class
};

/// A picture of images in rows, with the predicted class (green: right, red: wrong) and, where that is wrong, the true
/// one below.
inline std::string gallery_picture(const std::vector<GalleryItem>& items, int columns = 6) {
    constexpr int cell = 130;
    const int rows = (static_cast<int>(items.size()) + columns - 1) / columns;
    std::string out = svg::format(
        "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' font-family='sans-serif' font-size='12'>\n",
        columns * cell, rows * (cell + 20) + 10);
    out += "<rect width='100%' height='100%' fill='white'/>\n";
    for (std::size_t i = 0; i < items.size(); ++i) {
        const GalleryItem& item = items[i];
        const int x = static_cast<int>(i) % columns * cell + 15;
        const int y = static_cast<int>(i) / columns * (cell + 20) + 10;
        const bool right = item.predicted == item.truth;
        out += svg::format(
                   "<image x='%d' y='%d' width='100' height='100' style='image-rendering:pixelated' "
                   "href='data:image/png;base64,",
                   x, y) +
               base64(item.png) + "'/>\n";
        out += svg::format("<text x='%d' y='%d' fill='%s'>", x, y + 115, right ? "#1a7f37" : "#c62828") +
               escape_markup(item.predicted) + svg::format(" %.0f%%</text>\n", 100 * item.probability);
        if (!right)
            out += svg::format("<text x='%d' y='%d' fill='#555'>is ", x, y + 130) + escape_markup(item.truth) +
                   "</text>\n";
    }
    return out + "</svg>\n";
}

}  // namespace promptkd
