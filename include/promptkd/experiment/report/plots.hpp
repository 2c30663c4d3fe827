// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/report/report.hpp>
#include <promptkd/experiment/report/svg.hpp>

#include <array>

namespace promptkd {

namespace detail {

/// Colours that the colour-blind can tell apart (Okabe and Ito, 2008), in the order of a table's rows.
inline std::string plot_colour(std::size_t i) {
    constexpr std::array<const char*, 6> colours{"#999999", "#56b4e9", "#e69f00", "#0072b2", "#009e73", "#cc79a7"};
    return colours[i % colours.size()];
}

constexpr const char* grey_text = "fill='#666'";

/// Bars of a table: a group a column, a bar a row from 0 to 100 %, a black line where a published number is.
class BarPlot {
public:
    explicit BarPlot(const ReportTable& table)
        : table_(table),
          narrow_(table.columns.size() > 4),
          bar_(narrow_ ? 13 : 30),
          group_(static_cast<double>(table.rows.size()) * bar_ + gap),
          width_(group_ * static_cast<double>(table.columns.size())) {}

    std::string svg() const {
        std::string out = svg::open(left + width_ + 150, height + (narrow_ ? 110 : 48)) + percent_lines();
        for (std::size_t column = 0; column < table_.columns.size(); ++column)
            out += bars(column) + column_name(column);
        return out + legend(left + width_ + 12, top + 12) + "</svg>\n";
    }

private:
    static constexpr double left = 34, top = 12, height = 190, gap = 26;

    /// Where the first bar of a column begins.
    double begin(std::size_t column) const { return left + group_ * static_cast<double>(column) + gap / 2; }
    static double y_of(double percent) { return top + height * (1 - percent / 100); }

    std::string percent_lines() const {
        std::string out;
        for (int tick = 0; tick <= 100; tick += 20) {
            const double y = top + height * (1 - tick / 100.0);
            out += svg::horizontal_line(left, y, width_, "stroke='#e3e3e3'");
            out += svg::label(left - 5, y + 4, std::to_string(tick), "end", grey_text);
        }
        return out;
    }

    std::string bars(std::size_t column) const {
        std::string out;
        for (std::size_t row = 0; row < table_.rows.size(); ++row) {
            const auto& cell = table_.rows[row].cells[column];
            if (!cell) continue;
            const double x = begin(column) + bar_ * static_cast<double>(row);
            const double y = y_of(cell->mean);
            out += svg::rectangle({x + 1, y, bar_ - 2, height * cell->mean / 100}, plot_colour(row));
            if (!narrow_)
                out += svg::format("<text x='%.1f' y='%.1f' text-anchor='middle' font-size='9.5'>%.1f</text>\n",
                                   x + bar_ / 2, y - 3, cell->mean);
            if (cell->published)
                out += svg::horizontal_line(x, y_of(*cell->published), bar_, "stroke='black' stroke-width='2'");
        }
        return out;
    }

    std::string column_name(std::size_t column) const {
        const double middle = begin(column) + (group_ - gap) / 2;
        const double below = top + height + 16;
        const std::string& name = table_.columns[column];
        if (!narrow_) return svg::label(middle, below, name, "middle");
        return svg::format("<text transform='translate(%.1f %.1f) rotate(-40)' text-anchor='end'>", middle + 4,
                           below - 2) +
               escape_markup(name) + "</text>\n";
    }

    /// Names of the rows with their colours, one below the other.
    std::string legend(double x, double y) const {
        std::string out;
        for (std::size_t row = 0; row < table_.rows.size(); ++row) {
            out += svg::format("<rect x='%.1f' y='%.1f' width='10' height='10' fill='%s'/>\n", x, y - 9,
                               plot_colour(row).c_str());
            out += svg::label(x + 15, y, table_.rows[row].name, "start");
            y += 17;
        }
        return out;
    }

    const ReportTable& table_;
    bool narrow_;                 ///< many columns: narrow bars without numbers, names aslant
    double bar_, group_, width_;  ///< widths of a bar, of a column with its gap, of the plot
};

/// The training's name above its loss: stage, data set, and the images a class where several numbers are tried.
inline std::string loss_panel_name(const ReportRun& run) {
    std::string name = run.stage + ", " + run.data;
    if (run.folder.find("/shots") != std::string::npos)
        name += ", " + std::to_string(run.shots) + (run.shots == 1 ? " image" : " images");
    return name;
}

}  // namespace detail

/// The bars of a table as one picture.
inline std::string bar_plot(const ReportTable& table) { return detail::BarPlot(table).svg(); }

/// Lines of a few-shot table against the number of images a class (logarithmic).
inline std::string shots_plot(const ReportTable& table) {
    const double last = std::log2(std::max(2.0, static_cast<double>(table.shots.back())));
    const auto place = [last](Index shots) { return std::log2(static_cast<double>(shots)) / last; };
    std::vector<Curve> curves;
    for (std::size_t row = 0; row < table.rows.size(); ++row) {
        Curve curve{table.rows[row].name, detail::plot_colour(row), {}};
        for (std::size_t k = 0; k < table.shots.size(); ++k) {
            const auto& cell = table.rows[row].cells[k];
            if (cell) curve.points.emplace_back(place(table.shots[k]), cell->mean);
        }
        curves.push_back(std::move(curve));
    }
    std::string out = svg::open(470, 270) +
                      svg::panel(curves, "accuracy, %, by images a class", {50, 28, 400, 200}, AxisScale::linear);
    for (const Index shots : table.shots)
        out += svg::label(50 + 400 * std::log2(static_cast<double>(shots)) / last, 246, std::to_string(shots), "middle",
                          detail::grey_text);
    return out + "</svg>\n";
}

/// A panel of loss curves (logarithmic) for each kind of training and data set, a curve a seed.
inline std::string loss_plots(const std::vector<ReportRun>& runs) {
    std::vector<std::pair<std::string, std::vector<Curve>>> panels;
    for (const ReportRun& run : runs) {
        const std::string name = detail::loss_panel_name(run);
        auto panel =
            std::find_if(panels.begin(), panels.end(), [&name](const auto& other) { return other.first == name; });
        if (panel == panels.end()) panel = panels.insert(panels.end(), {name, {}});
        std::vector<Curve>& curves = panel->second;
        curves.push_back({"seed " + std::to_string(run.seed), detail::plot_colour(curves.size() + 1), run.loss});
    }
    std::string out;
    for (const auto& [name, curves] : panels)
        out += svg::open(470, 250) + svg::panel(curves, "loss: " + name, {60, 28, 395, 180}, AxisScale::logarithmic) +
               svg::label(257, 234, "training progress", "middle", detail::grey_text) + "</svg>\n";
    return out;
}

}  // namespace promptkd
