// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/report/report.hpp>

#include <promptkd/core/error.hpp>
#include <promptkd/format/json_text.hpp>

#include <cstdio>

namespace promptkd::detail {

/// What a printed line of a table holds.
enum class LineKind { measured, published, difference };

/// A printed line of a table.
struct TableLine {
    LineKind kind = LineKind::measured;
    std::string name;
    std::vector<std::string> cells;
};

inline std::string printed(double value, const char* format = "%.2f") {
    char out[32];
    std::snprintf(out, sizeof out, format, value);
    return out;
}

/// "mean ± deviation", "mean", or a dash where nothing has been measured.
inline std::string printed(const std::optional<ReportCell>& cell) {
    if (!cell) return "–";
    const std::string mean = printed(cell->mean);
    return cell->standard_deviation ? mean + " ± " + printed(*cell->standard_deviation) : mean;
}

/// Whether something was published for a cell of the row.
inline bool is_compared(const ReportRow& row) {
    for (const auto& cell : row.cells)
        if (cell && cell->published) return true;
    return false;
}

/// The lines of a table: what was measured, and below it what was published and the difference.
inline std::vector<TableLine> printed_lines(const ReportTable& table) {
    std::vector<TableLine> out;
    for (const ReportRow& row : table.rows) {
        TableLine measured{LineKind::measured, row.name, {}};
        TableLine published{LineKind::published, "published", {}};
        TableLine difference{LineKind::difference, "difference", {}};
        for (const auto& cell : row.cells) {
            const bool known = cell && cell->published;
            measured.cells.push_back(printed(cell));
            published.cells.push_back(known ? printed(*cell->published) : "");
            difference.cells.push_back(known ? printed(*cell->difference(), "%+.2f") : "");
        }
        out.push_back(std::move(measured));
        if (!is_compared(row)) continue;
        out.push_back(std::move(published));
        out.push_back(std::move(difference));
    }
    return out;
}

inline std::string report_title(const ReproductionReport& report) {
    return report.method + ", " + name_of(report.protocol);
}

/// What the numbers are, in a few sentences.
inline std::string report_summary(const ReproductionReport& report) {
    std::string seeds;
    for (const std::uint64_t seed : report.seeds) seeds += (seeds.empty() ? "" : ", ") + std::to_string(seed);
    const bool one = report.seeds.size() == 1;
    std::string out = concat(one ? "Seed " : "Mean and standard deviation over the seeds ", seeds,
                             "; test accuracy in percent of ", report.selection, ". ");
    if (report.protocol == Protocol::base_to_novel)
        out += "The harmonic mean is that of the mean base and mean new accuracy. ";
    bool compared = false;
    for (const ReportTable& table : report.tables)
        for (const ReportRow& row : table.rows) compared = compared || is_compared(row);
    out += compared ? "Published numbers: CLIP ViT-B/16 (PromptKD's teacher: ViT-L/14), mean of three seeds. "
                    : "Nothing was published for these data sets in this protocol. ";
    for (const std::string& set : report.incomplete) out += "NOT THE PUBLISHED DATA SET: " + set + ". ";
    if (!report.complete()) out += concat("INCOMPLETE: ", report.done, " of ", report.stages, " stages are done. ");
    return out + "Computed by " + report.library + ".";
}

/// A recipe's settings on one line; those that are zero and then mean "all" or "none" are left out.
inline std::string printed_settings(const ReportRecipe& recipe) {
    std::string out;
    for (const auto& [key, value] : recipe.settings.items()) {
        const bool optional =
            key == "images" || key == "test-images" || key == "gaussian-mean" || key == "gaussian-deviation";
        if (optional && value == 0) continue;
        const std::string shown = value.is_string()         ? value.template get<std::string>()
                                  : value.is_number_float() ? printed(value.template get<double>(), "%g")
                                                            : json_text(value);
        out += (out.empty() ? "" : ", ") + key + " " + shown;
    }
    return out;
}

inline std::vector<std::string> with_first(const std::string& first, const std::vector<std::string>& rest) {
    std::vector<std::string> all = {first};
    all.insert(all.end(), rest.begin(), rest.end());
    return all;
}

/// The cells of a training's line.
inline std::vector<std::string> run_cells(const ReportRun& run) {
    return {run.folder,
            run.data,
            std::to_string(run.seed),
            std::to_string(run.images),
            std::to_string(run.steps),
            printed(run.first_loss, "%.4g") + " → " + printed(run.last_loss, "%.4g")};
}

}  // namespace promptkd::detail
