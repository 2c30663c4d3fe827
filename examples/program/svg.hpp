// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/image.hpp>
#include <promptkd/format/file.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

namespace promptkd::cli {

/// A curve of a plot: points (x, y) with x in [0, 1] of the plot's width.
struct Curve {
    std::string name, colour;
    std::vector<std::pair<double, double>> points;
};

inline std::string escaped(const std::string& text) {
    std::string out;
    for (const char c : text)
        out += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '"' ? "&quot;" : std::string(1, c);
    return out;
}

namespace detail_svg {

template <class... Args>
std::string format(const char* pattern, Args... args) {
    char text[512];
    std::snprintf(text, sizeof text, pattern, args...);
    return text;
}

/// One panel of the plot: axes with a few ticks, curves, legend.
inline std::string panel(const std::vector<Curve>& curves, const std::string& title, double left, double top,
                         double width, double height, bool logarithmic) {
    double low = 1e300, high = -1e300;
    const auto scaled = [&](double y) { return logarithmic ? std::log10(std::max(y, 1e-12)) : y; };
    for (const Curve& c : curves)
        for (const auto& p : c.points) low = std::min(low, scaled(p.second)), high = std::max(high, scaled(p.second));
    if (low > high) low = 0, high = 1;
    const double margin = std::max(1e-9, 0.05 * (high - low));
    low -= margin, high += margin;
    std::string out =
        format("<text x='%.0f' y='%.0f' font-weight='bold'>%s</text>\n", left, top - 10, escaped(title).c_str());
    for (int i = 0; i <= 4; ++i) {
        const double y = top + height * (1 - i / 4.0), v = low + (high - low) * i / 4.0;
        out += format("<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' stroke='#ddd'/>\n", left, y, left + width, y);
        out += format("<text x='%.1f' y='%.1f' text-anchor='end' font-size='11'>%.4g</text>\n", left - 6, y + 4,
                      logarithmic ? std::pow(10.0, v) : v);
    }
    double legend = top + 14;
    for (const Curve& c : curves) {
        out += format("<polyline fill='none' stroke='%s' stroke-width='1.8' points='", c.colour.c_str());
        for (const auto& p : c.points)
            out += format("%.1f,%.1f ", left + width * p.first,
                          top + height * (1 - (scaled(p.second) - low) / (high - low)));
        out += "'/>\n";
        out += format("<text x='%.1f' y='%.1f' fill='%s' font-size='12' text-anchor='end'>%s</text>\n",
                      left + width - 4, legend, c.colour.c_str(), escaped(c.name).c_str());
        legend += 15;
    }
    return out;
}

inline std::string base64(const std::string& bytes) {
    static const char* const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        std::uint32_t group = 0;
        for (std::size_t j = 0; j < 3; ++j)
            group = group << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0u);
        for (std::size_t j = 0; j < 4; ++j) out += i + j > bytes.size() ? '=' : digits[group >> (18 - 6 * j) & 63];
    }
    return out;
}

}  // namespace detail_svg

/// Loss (logarithmic) above accuracy, both against training progress.
inline void write_curves(const std::string& path, const std::vector<Curve>& losses,
                         const std::vector<Curve>& accuracies, const std::string& axis) {
    std::string svg =
        "<svg xmlns='http://www.w3.org/2000/svg' width='720' height='560' font-family='sans-serif' "
        "font-size='13'>\n<rect width='100%' height='100%' fill='white'/>\n";
    svg += detail_svg::panel(losses, "distillation loss", 70, 40, 620, 200, true);
    svg += detail_svg::panel(accuracies, "test accuracy, %", 70, 300, 620, 200, false);
    svg += detail_svg::format("<text x='380' y='535' text-anchor='middle'>%s</text>\n</svg>\n", escaped(axis).c_str());
    write_atomically(path, svg);
}

/// One picture of a gallery: a PNG file's bytes, what the student says and what it is.
struct GalleryItem {
    std::string png, predicted, truth;
    double probability = 0;
};

/// Test images with predicted (green: right, red: wrong) and true class.
inline void write_gallery(const std::string& path, const std::vector<GalleryItem>& items, int columns = 6) {
    const int cell = 130, rows = (static_cast<int>(items.size()) + columns - 1) / columns;
    std::string svg = detail_svg::format(
        "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' font-family='sans-serif' font-size='12'>\n",
        columns * cell, rows * (cell + 20) + 10);
    svg += "<rect width='100%' height='100%' fill='white'/>\n";
    for (std::size_t i = 0; i < items.size(); ++i) {
        const int x = static_cast<int>(i) % columns * cell + 15, y = static_cast<int>(i) / columns * (cell + 20) + 10;
        const bool right = items[i].predicted == items[i].truth;
        svg += detail_svg::format(
                   "<image x='%d' y='%d' width='100' height='100' style='image-rendering:pixelated' "
                   "href='data:image/png;base64,",
                   x, y) +
               detail_svg::base64(items[i].png) + "'/>\n";
        svg += detail_svg::format("<text x='%d' y='%d' fill='%s'>%s %.0f%%</text>\n", x, y + 115,
                                  right ? "#1a7f37" : "#c62828", escaped(items[i].predicted).c_str(),
                                  100 * items[i].probability);
        if (!right)
            svg += detail_svg::format("<text x='%d' y='%d' fill='#555'>is %s</text>\n", x, y + 130,
                                      escaped(items[i].truth).c_str());
    }
    write_atomically(path, svg + "</svg>\n");
}

}  // namespace promptkd::cli
