// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "svg.hpp"

#include <nlohmann/json.hpp>

#include <map>

namespace promptkd::cli {

namespace detail_svg {

/// Colours that the colour-blind can tell apart (Okabe and Ito, 2008), in the order of a table's rows.
inline std::string colour(std::size_t i) {
    static const char* const colours[] = {"#999999", "#56b4e9", "#e69f00", "#0072b2", "#009e73", "#cc79a7"};
    return colours[i % (sizeof colours / sizeof *colours)];
}

inline std::string open_svg(double width, double height) {
    return format(
        "<svg xmlns='http://www.w3.org/2000/svg' width='%.0f' height='%.0f' viewBox='0 0 %.0f %.0f' "
        "font-family='sans-serif' font-size='12'>\n",
        width, height, width, height);
}

inline std::string label(double x, double y, const std::string& text, const char* anchor, const char* more = "") {
    return format("<text x='%.1f' y='%.1f' text-anchor='%s' %s>", x, y, anchor, more) + escaped(text) + "</text>\n";
}

/// Names with their colours, one below the other.
inline std::string legend(const nlohmann::json& rows, double x, double y) {
    std::string out;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        out += format("<rect x='%.1f' y='%.1f' width='10' height='10' fill='%s'/>\n", x, y - 9, colour(i).c_str());
        out += label(x + 15, y, rows[i]["name"].get<std::string>(), "start");
        y += 17;
    }
    return out;
}

}  // namespace detail_svg

/// Bars of a report's table: a group a column, a bar a row from 0 to 100 %, a black line where a published number is.
inline std::string bars_plot(const nlohmann::json& table) {
    using namespace detail_svg;
    const auto& rows = table["rows"];
    const std::size_t groups = table["columns"].size(), bars = rows.size();
    const double bar = groups > 4 ? 13 : 30, gap = 26, group = static_cast<double>(bars) * bar + gap, left = 34,
                 top = 12, height = 190;
    const double plot = group * static_cast<double>(groups), width = left + plot + 150;
    std::string out = open_svg(width, height + (groups > 4 ? 110 : 48));
    for (int tick = 0; tick <= 100; tick += 20) {
        const double y = top + height * (1 - tick / 100.0);
        out += format("<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' stroke='#e3e3e3'/>\n", left, y, left + plot, y);
        out += label(left - 5, y + 4, std::to_string(tick), "end", "fill='#666'");
    }
    for (std::size_t g = 0; g < groups; ++g) {
        const double x0 = left + group * static_cast<double>(g) + gap / 2;
        for (std::size_t b = 0; b < bars; ++b) {
            const auto& cell = rows[b]["cells"][g];
            if (!cell.is_object()) continue;
            const double x = x0 + bar * static_cast<double>(b), value = cell["mean"].get<double>();
            out += format("<rect x='%.1f' y='%.1f' width='%.1f' height='%.1f' fill='%s'/>\n", x + 1,
                          top + height * (1 - value / 100), bar - 2, height * value / 100, colour(b).c_str());
            if (bar > 20)
                out += format("<text x='%.1f' y='%.1f' text-anchor='middle' font-size='9.5'>%.1f</text>\n", x + bar / 2,
                              top + height * (1 - value / 100) - 3, value);
            if (!cell.contains("published")) continue;
            const double y = top + height * (1 - cell["published"].get<double>() / 100);
            out += format("<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' stroke='black' stroke-width='2'/>\n", x, y,
                          x + bar, y);
        }
        const double middle = x0 + (group - gap) / 2, below = top + height + 16;
        const std::string name = table["columns"][g].get<std::string>();
        if (groups > 4)
            out += format("<text transform='translate(%.1f %.1f) rotate(-40)' text-anchor='end'>%s</text>\n",
                          middle + 4, below - 2, escaped(name).c_str());
        else
            out += label(middle, below, name, "middle");
    }
    return out + legend(rows, left + plot + 12, top + 12) + "</svg>\n";
}

/// Lines of a report's few-shot table against the number of images a class (logarithmic).
inline std::string shots_plot(const nlohmann::json& table) {
    using namespace detail_svg;
    const auto& shots = table["shots"];
    const double last = std::log2(std::max(2.0, shots.back().get<double>()));
    std::vector<Curve> curves;
    for (std::size_t r = 0; r < table["rows"].size(); ++r) {
        Curve curve{table["rows"][r]["name"].get<std::string>(), colour(r), {}};
        for (std::size_t k = 0; k < shots.size(); ++k) {
            const auto& cell = table["rows"][r]["cells"][k];
            if (cell.is_object())
                curve.points.emplace_back(std::log2(shots[k].get<double>()) / last, cell["mean"].get<double>());
        }
        curves.push_back(std::move(curve));
    }
    std::string out = open_svg(470, 270) + panel(curves, "accuracy, %, by images a class", 50, 28, 400, 200, false);
    for (const auto& k : shots)
        out += label(50 + 400 * std::log2(k.get<double>()) / last, 246, k.dump(), "middle", "fill='#666'");
    return out + "</svg>\n";
}

/// A panel of loss curves (logarithmic) for each kind of run and data set, a curve a seed.
inline std::string loss_plots(const nlohmann::json& runs) {
    using namespace detail_svg;
    std::map<std::string, std::vector<Curve>> panels;
    std::vector<std::string> order;
    for (const auto& run : runs) {
        std::string name = run["stage"].get<std::string>() + ", " + run["data"].get<std::string>();
        if (run["folder"].get<std::string>().find("/shots") != std::string::npos)
            name += ", " + run["shots"].dump() + (run["shots"] == 1 ? " image" : " images");
        std::vector<Curve>& curves = panels[name];
        if (curves.empty()) order.push_back(name);
        Curve curve{"seed " + run["seed"].dump(), colour(curves.size() + 1), {}};
        for (const auto& point : run["loss"]) curve.points.emplace_back(point[0].get<double>(), point[1].get<double>());
        curves.push_back(std::move(curve));
    }
    std::string out;
    for (const std::string& name : order)
        out += open_svg(470, 250) + panel(panels[name], "loss: " + name, 60, 28, 395, 180, true) +
               label(257, 234, "training progress", "middle", "fill='#666'") + "</svg>\n";
    return out;
}

}  // namespace promptkd::cli
