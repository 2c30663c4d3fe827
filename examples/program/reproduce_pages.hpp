// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "reproduce_plots.hpp"

#include <map>

namespace promptkd::cli {

/// A report of `reproduce` (see ReproduceReport) as Markdown and as one HTML page without links to anything.
class ReproducePages {
public:
    explicit ReproducePages(const nlohmann::json& report) : report_(report) {}

    std::string markdown() const {
        std::string out = "# " + title() + "\n\n" + summary() + "\n" + markdown_tables();
        out += "\n## Recipes\n\n| data | stage | settings |\n|---|---|---|\n";
        for (const auto& recipe : report_["recipes"])
            out += "| " + text(recipe["data"]) + " | " + text(recipe["stage"]) + " | " + settings(recipe) + " |\n";
        out += "\n## Weights\n\n| role | file | architecture | SHA-256 |\n|---|---|---|---|\n";
        for (const auto& w : report_["weights"])
            out += "| " + text(w["role"]) + " | " + text(w["file"]) + " | " + w.value("architecture", "") + " | `" +
                   text(w["sha256"]) + "` |\n";
        out +=
            "\n## Runs\n\n| run | data | seed | images | steps | loss, first and last |\n|---|---|---|---|---|---|\n";
        for (const auto& run : report_["runs"]) {
            out += "|";
            for (const std::string& cell : run_cells(run)) out += " " + cell + " |";
            out += "\n";
        }
        return out;
    }

    /// The tables of results alone.
    std::string markdown_tables() const {
        std::string out;
        for (const auto& table : report_["tables"]) {
            out += "\n## " + text(table["title"]) + "\n\n| accuracy, % |";
            for (const auto& column : table["columns"]) out += " " + text(column) + " |";
            out += "\n|---|";
            for (std::size_t i = 0; i < table["columns"].size(); ++i) out += "---|";
            out += "\n";
            for (const Line& line : lines(table)) {
                out += "| " + line.name + " |";
                for (const std::string& cell : line.cells) out += " " + cell + " |";
                out += "\n";
            }
        }
        return out;
    }

    std::string html() const {
        std::string out = "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n<title>" +
                          escaped(title()) + "</title>\n<style>\n" + style + "</style>\n</head>\n<body>\n<h1>" +
                          escaped(title()) + "</h1>\n<p>" + escaped(summary()) + "</p>\n";
        for (const auto& table : report_["tables"]) out += html_table(table);
        out += "<h2>Training</h2>\n<div class='plots'>\n" + loss_plots(report_["runs"]) + "</div>\n";
        out += "<h2>Recipes</h2>\n<table>\n<tr><th>data</th><th>stage</th><th>settings</th></tr>\n";
        for (const auto& recipe : report_["recipes"])
            out += row({text(recipe["data"]), text(recipe["stage"]), settings(recipe)}, "");
        out +=
            "</table>\n<h2>Weights</h2>\n<table>\n<tr><th>role</th><th>file</th><th>architecture</th>"
            "<th>SHA-256</th></tr>\n";
        for (const auto& w : report_["weights"])
            out += row({text(w["role"]), text(w["file"]), w.value("architecture", ""), text(w["sha256"])}, "sum");
        out +=
            "</table>\n<h2>Runs</h2>\n<table>\n<tr><th>run</th><th>data</th><th>seed</th><th>images</th>"
            "<th>steps</th><th>loss, first and last</th></tr>\n";
        for (const auto& run : report_["runs"]) out += row(run_cells(run), "");
        return out + "</table>\n</body>\n</html>\n";
    }

private:
    /// A printed line of a table.
    struct Line {
        std::string name, kind;  ///< kind: "ours", "published", "difference"
        std::vector<std::string> cells;
    };

    static std::string text(const nlohmann::json& value) {
        return value.is_string() ? value.get<std::string>() : value.dump();
    }
    static std::string number(double value, const char* format = "%.2f") {
        char out[32];
        std::snprintf(out, sizeof out, format, value);
        return out;
    }

    std::string title() const { return text(report_["method"]) + ", " + text(report_["protocol"]); }

    std::string summary() const {
        std::string seeds;
        for (const auto& seed : report_["seeds"]) seeds += (seeds.empty() ? "" : ", ") + seed.dump();
        const bool one = report_["seeds"].size() == 1;
        std::string out = concat(one ? "Seed " : "Mean and standard deviation over the seeds ", seeds,
                                 "; test accuracy in percent of ", text(report_["selection"]), ". ");
        if (report_["protocol"] == "base-to-novel")
            out += "The harmonic mean is that of the mean base and mean new accuracy. ";
        bool compared = false;
        for (const auto& table : report_["tables"])
            for (const auto& line : lines(table)) compared = compared || line.kind == "published";
        out += compared ? "Published numbers: CLIP ViT-B/16 (PromptKD's teacher: ViT-L/14), mean of three seeds. "
                        : "Nothing was published for these data sets in this protocol. ";
        if (!report_["complete"].get<bool>())
            out +=
                concat("INCOMPLETE: ", report_["done"].dump(), " of ", report_["stages"].dump(), " stages are done. ");
        return out + "Computed by " + text(report_["library"]) + ".";
    }

    static std::vector<Line> lines(const nlohmann::json& table) {
        std::vector<Line> out;
        for (const auto& row : table["rows"]) {
            Line ours{text(row["name"]), "ours", {}}, published{"published", "published", {}},
                difference{"difference", "difference", {}};
            bool compared = false;
            for (const auto& cell : row["cells"]) {
                const bool there = cell.is_object();
                ours.cells.push_back(!there ? "–"
                                     : cell.contains("standard_deviation")
                                         ? number(cell["mean"]) + " ± " + number(cell["standard_deviation"])
                                         : number(cell["mean"]));
                const bool has = there && cell.contains("published");
                compared = compared || has;
                published.cells.push_back(has ? number(cell["published"]) : "");
                difference.cells.push_back(has ? number(cell["difference"], "%+.2f") : "");
            }
            out.push_back(std::move(ours));
            if (compared) out.push_back(std::move(published)), out.push_back(std::move(difference));
        }
        return out;
    }

    static std::string settings(const nlohmann::json& recipe) {
        std::string out;
        for (const auto& [key, value] : recipe["settings"].items()) {
            if ((key == "images" || key == "test-images" || key == "gaussian-mean" || key == "gaussian-deviation") &&
                value == 0)
                continue;
            std::string shown = text(value);
            if (value.is_number_float()) shown = number(value.get<double>(), "%g");
            out += (out.empty() ? "" : ", ") + key + " " + shown;
        }
        return out;
    }

    static std::vector<std::string> run_cells(const nlohmann::json& run) {
        return {text(run["folder"]), text(run["data"]),
                run["seed"].dump(),  run["images"].dump(),
                run["steps"].dump(), number(run["first_loss"], "%.4g") + " → " + number(run["last_loss"], "%.4g")};
    }

    static std::string row(const std::vector<std::string>& cells, const std::string& kind) {
        std::string out = "<tr" + (kind.empty() ? "" : " class='" + kind + "'") + ">";
        for (const std::string& cell : cells) out += "<td>" + escaped(cell) + "</td>";
        return out + "</tr>\n";
    }

    static std::string html_table(const nlohmann::json& table) {
        std::string out = "<h2>" + escaped(text(table["title"])) +
                          "</h2>\n<div class='plots'>\n<table class='figures'>\n<tr><th>accuracy, %</th>";
        for (const auto& column : table["columns"]) out += "<th>" + escaped(text(column)) + "</th>";
        out += "</tr>\n";
        for (const Line& line : lines(table)) {
            std::vector<std::string> cells = {line.name};
            cells.insert(cells.end(), line.cells.begin(), line.cells.end());
            out += row(cells, line.kind);
        }
        return out + "</table>\n" + (table.contains("shots") ? shots_plot(table) : bars_plot(table)) + "</div>\n";
    }

    static constexpr const char* style =
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

    const nlohmann::json& report_;
};

}  // namespace promptkd::cli
