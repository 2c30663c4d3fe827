// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/report/markup.hpp>
#include <promptkd/experiment/report/text.hpp>

namespace promptkd {

namespace detail {

/// "| a | b |" and a line's end.
inline std::string markdown_row(const std::vector<std::string>& cells) {
    std::string out = "|";
    for (const std::string& cell : cells) out += " " + escape_markdown(cell) + " |";
    return out + "\n";
}

/// A heading and the first two lines of the table below it.
inline std::string markdown_head(const std::string& heading, const std::vector<std::string>& columns) {
    std::string rule = "|";
    for (std::size_t i = 0; i < columns.size(); ++i) rule += "---|";
    return "\n## " + escape_markdown(heading) + "\n\n" + markdown_row(columns) + rule + "\n";
}

}  // namespace detail

/// The tables of results alone.
inline std::string markdown_tables(const ReproductionReport& report) {
    std::string out;
    for (const ReportTable& table : report.tables) {
        out += detail::markdown_head(table.title, detail::with_first("accuracy, %", table.columns));
        for (const detail::TableLine& line : detail::printed_lines(table))
            out += detail::markdown_row(detail::with_first(line.name, line.cells));
    }
    return out;
}

/// The whole report as Markdown.
inline std::string to_markdown(const ReproductionReport& report) {
    std::string out =
        "# " + detail::report_title(report) + "\n\n" + detail::report_summary(report) + "\n" + markdown_tables(report);
    out += detail::markdown_head("Recipes", {"data", "stage", "settings"});
    for (const ReportRecipe& recipe : report.recipes)
        out += detail::markdown_row({recipe.data, recipe.stage, detail::printed_settings(recipe)});
    out += detail::markdown_head("Weights", {"role", "file", "architecture", "SHA-256"});
    for (const InputFile& file : report.weights)
        out += detail::markdown_row({file.role, file.name(), file.architecture, "`" + file.sha256 + "`"});
    out += detail::markdown_head("Runs", {"run", "data", "seed", "images", "steps", "loss, first and last"});
    for (const ReportRun& run : report.runs) out += detail::markdown_row(detail::run_cells(run));
    return out;
}

}  // namespace promptkd
