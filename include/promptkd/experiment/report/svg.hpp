// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/report/markup.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// A curve of a plot.
struct Curve {
    std::string name;                               ///< in the legend
    std::string colour;                             ///< as SVG writes it: "#0072b2"
    std::vector<std::pair<double, double>> points;  ///< (x, y), x in [0, 1] of the plot's width
};

/// A rectangle of a picture in pixels; y grows downwards.
struct PlotArea {
    double left = 0, top = 0, width = 0, height = 0;  ///< in units of the picture
};

/// How a plot's y axis is divided.
enum class AxisScale { linear, logarithmic };

/// Pieces of SVG pictures as text.
namespace svg {

/// Numbers and fixed words by a printf pattern. A text from outside is joined with escape_markup() instead: it may be
/// long.
template <class... Values>
std::string format(const char* pattern, Values... values) {
    char text[512];
    std::snprintf(text, sizeof text, pattern, values...);
    return text;
}

/// The first line of a picture of that size.
inline std::string open(double width, double height) {
    return format(
        "<svg xmlns='http://www.w3.org/2000/svg' width='%.0f' height='%.0f' viewBox='0 0 %.0f %.0f' "
        "font-family='sans-serif' font-size='12'>\n",
        width, height, width, height);
}

/// A text at (x, y); `anchor`: start, middle or end; `attributes`: further ones.
inline std::string label(double x, double y, const std::string& text, const char* anchor, const char* attributes = "") {
    return format("<text x='%.1f' y='%.1f' text-anchor='%s' %s>", x, y, anchor, attributes) + escape_markup(text) +
           "</text>\n";
}

/// A line from (x, y), `width` long.
inline std::string horizontal_line(double x, double y, double width, const char* attributes) {
    return format("<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' %s/>\n", x, y, x + width, y, attributes);
}

/// A filled rectangle.
inline std::string rectangle(const PlotArea& area, const std::string& colour) {
    return format("<rect x='%.1f' y='%.1f' width='%.1f' height='%.1f' fill='", area.left, area.top, area.width,
                  area.height) +
           escape_markup(colour) + "'/>\n";
}

}  // namespace svg

namespace detail {

/// The range of a plot's values, with a margin of 5 % on both sides.
class AxisRange {
public:
    AxisRange(const std::vector<Curve>& curves, AxisScale scale) : scale_(scale) {
        bool empty = true;
        for (const Curve& curve : curves)
            for (const auto& point : curve.points) {
                const double y = scaled(point.second);
                low_ = empty ? y : std::min(low_, y);
                high_ = empty ? y : std::max(high_, y);
                empty = false;
            }
        if (empty) high_ = 1;
        const double margin = std::max(1e-9, 0.05 * (high_ - low_));
        low_ -= margin;
        high_ += margin;
    }

    /// Where `y` lies between the ends: 0 … 1.
    double part(double y) const { return (scaled(y) - low_) / (high_ - low_); }
    /// The value at `quarters` quarters of the range.
    double at(int quarters) const {
        const double value = low_ + (high_ - low_) * quarters / 4.0;
        return scale_ == AxisScale::logarithmic ? std::pow(10.0, value) : value;
    }

private:
    double scaled(double y) const { return scale_ == AxisScale::logarithmic ? std::log10(std::max(y, 1e-12)) : y; }

    AxisScale scale_;
    double low_ = 0, high_ = 0;
};

}  // namespace detail

namespace svg {

/// A plot of curves in a part of a picture: title, five lines with their values, curves, and their names as a legend.
inline std::string panel(const std::vector<Curve>& curves, const std::string& title, const PlotArea& area,
                         AxisScale scale) {
    const detail::AxisRange range(curves, scale);
    std::string out = format("<text x='%.0f' y='%.0f' font-weight='bold'>", area.left, area.top - 10) +
                      escape_markup(title) + "</text>\n";
    for (int i = 0; i <= 4; ++i) {
        const double y = area.top + area.height * (1 - i / 4.0);
        out += horizontal_line(area.left, y, area.width, "stroke='#ddd'");
        out += format("<text x='%.1f' y='%.1f' text-anchor='end' font-size='11'>%.4g</text>\n", area.left - 6, y + 4,
                      range.at(i));
    }
    double legend = area.top + 14;
    for (const Curve& curve : curves) {
        const std::string colour = escape_markup(curve.colour);
        out += "<polyline fill='none' stroke='" + colour + "' stroke-width='1.8' points='";
        for (const auto& [x, y] : curve.points)
            out += format("%.1f,%.1f ", area.left + area.width * x, area.top + area.height * (1 - range.part(y)));
        out += "'/>\n";
        out += format("<text x='%.1f' y='%.1f' fill='", area.left + area.width - 4, legend) + colour +
               "' font-size='12' text-anchor='end'>" + escape_markup(curve.name) + "</text>\n";
        legend += 15;
    }
    return out;
}

}  // namespace svg
}  // namespace promptkd
