// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/report/plots.hpp>
#include <promptkd/experiment/report/text.hpp>

namespace promptkd {

namespace detail {

constexpr const char* page_style =
    "body { font: 15px/1.45 system-ui, sans-serif; color: #1c1e21; max-width: 1160px; margin: 2em auto; padding: 0 "
    "1em }\n"
    "h1 { font-size: 1.5em; margin-bottom: .3em }\n"
    "h2 { font-size: 1.15em; margin: 1.6em 0 .6em; border-bottom: 1px solid #ddd; padding-bottom: .2em }\n"
    "table { border-collapse: collapse; font-size: .92em }\n"
    "th, td { text-align: left; padding: .25em .8em .25em 0; border-bottom: 1px solid #eee; vertical-align: top }\n"
    "th { border-bottom: 1px solid #999; font-weight: 600 }\n"
    ".figures td:not(:first-child), .figures th:not(:first-child) { text-align: right; white-space: nowrap; "
    "font-variant-numeric: tabular-nums }\n"
    "td:first-child { white-space: nowrap }\n"
    ".published td, .difference td { color: #6b7280; font-size: .93em }\n"
    ".published td:first-child, .difference td:first-child { padding-left: 1.2em }\n"
    ".sum td:last-child { font-family: monospace; font-size: .74em; vertical-align: middle }\n"
    ".plots { display: flex; flex-wrap: wrap; gap: 1.5em; align-items: flex-start }\n"
    "svg { max-width: 100%; height: auto }\n";

inline std::string html_cells(const std::vector<std::string>& cells, const char* element) {
    std::string out;
    for (const std::string& cell : cells)
        out += concat("<", element, ">") + escape_markup(cell) + concat("</", element, ">");
    return out + "</tr>\n";
}

/// A table's line; `style`: its class, or "".
inline std::string html_row(const std::vector<std::string>& cells, const std::string& style = "") {
    return "<tr" + (style.empty() ? "" : " class='" + style + "'") + ">" + html_cells(cells, "td");
}

inline std::string html_head(const std::vector<std::string>& cells) { return "<tr>" + html_cells(cells, "th"); }

inline std::string html_heading(const std::string& text) { return "<h2>" + escape_markup(text) + "</h2>\n"; }

inline const char* style_of(LineKind kind) {
    constexpr const char* names[] = {"ours", "published", "difference"};
    return names[static_cast<int>(kind)];
}

/// A table of results beside its plot.
inline std::string html_results(const ReportTable& table) {
    std::string out = html_heading(table.title) + "<div class='plots'>\n<table class='figures'>\n" +
                      html_head(with_first("accuracy, %", table.columns));
    for (const TableLine& line : printed_lines(table))
        out += html_row(with_first(line.name, line.cells), style_of(line.kind));
    return out + "</table>\n" + (table.shots.empty() ? bar_plot(table) : shots_plot(table)) + "</div>\n";
}

inline std::string html_recipes(const std::vector<ReportRecipe>& recipes) {
    std::string out = html_heading("Recipes") + "<table>\n" + html_head({"data", "stage", "settings"});
    for (const ReportRecipe& recipe : recipes) out += html_row({recipe.data, recipe.stage, printed_settings(recipe)});
    return out + "</table>\n";
}

inline std::string html_files(const std::vector<InputFile>& files) {
    std::string out = html_heading("Weights") + "<table>\n" + html_head({"role", "file", "architecture", "SHA-256"});
    for (const InputFile& file : files)
        out += html_row({file.role, file.name(), file.architecture, file.sha256}, "sum");
    return out + "</table>\n";
}

inline std::string html_runs(const std::vector<ReportRun>& runs) {
    std::string out = html_heading("Runs") + "<table>\n" +
                      html_head({"run", "data", "seed", "images", "steps", "loss, first and last"});
    for (const ReportRun& run : runs) out += html_row(run_cells(run));
    return out + "</table>\n";
}

}  // namespace detail

/// The whole report as one HTML page with its plots, without links to anything and without scripts.
inline std::string to_html(const ReproductionReport& report) {
    const std::string title = escape_markup(detail::report_title(report));
    std::string out = "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n<title>" + title +
                      "</title>\n<style>\n" + detail::page_style + "</style>\n</head>\n<body>\n<h1>" + title +
                      "</h1>\n<p>" + escape_markup(detail::report_summary(report)) + "</p>\n";
    for (const ReportTable& table : report.tables) out += detail::html_results(table);
    out += detail::html_heading("Training") + "<div class='plots'>\n" + loss_plots(report.runs) + "</div>\n";
    return out + detail::html_recipes(report.recipes) + detail::html_files(report.weights) +
           detail::html_runs(report.runs) + "</body>\n</html>\n";
}

}  // namespace promptkd
