// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/report/report.hpp>

namespace promptkd {

/// {"mean", "standard_deviation", "seeds": {seed: value}, "published", "difference"}, the last four where they are
/// known; null for a cell without values.
inline nlohmann::json to_json(const std::optional<ReportCell>& cell) {
    if (!cell) return nullptr;
    nlohmann::json seeds = nlohmann::json::object();
    for (const auto& [seed, value] : cell->values)
        if (seed > 0) seeds[std::to_string(seed)] = value;
    nlohmann::json json = {{"mean", cell->mean}};
    if (cell->standard_deviation) json["standard_deviation"] = *cell->standard_deviation;
    if (!seeds.empty()) json["seeds"] = std::move(seeds);
    if (cell->published) {
        json["published"] = *cell->published;
        json["difference"] = *cell->difference();
    }
    return json;
}

/// Title, columns and rows.
inline nlohmann::json to_json(const ReportTable& table) {
    nlohmann::json rows = nlohmann::json::array();
    for (const ReportRow& row : table.rows) {
        nlohmann::json cells = nlohmann::json::array();
        for (const auto& cell : row.cells) cells.push_back(to_json(cell));
        rows.push_back({{"name", row.name}, {"cells", std::move(cells)}});
    }
    nlohmann::json json = {{"title", table.title}, {"columns", table.columns}, {"rows", std::move(rows)}};
    if (!table.shots.empty()) json["shots"] = table.shots;
    return json;
}

/// Path and hash.
inline nlohmann::json to_json(const InputFile& file) {
    nlohmann::json json = {{"role", file.role}, {"file", file.name()}, {"sha256", file.sha256}};
    if (!file.architecture.empty()) json["architecture"] = file.architecture;
    return json;
}

/// Data set, stage and settings.
inline nlohmann::json to_json(const ReportRecipe& recipe) {
    return {{"data", recipe.data}, {"stage", recipe.stage}, {"settings", recipe.settings}};
}

/// What one training did.
inline nlohmann::json to_json(const ReportRun& run) {
    nlohmann::json loss = nlohmann::json::array();
    for (const auto& [part, mean] : run.loss) loss.push_back({part, mean});
    return {{"folder", run.folder},
            {"stage", run.stage},
            {"data", run.data},
            {"seed", run.seed},
            {"shots", run.shots},
            {"images", run.images},
            {"unreadable", run.unreadable},
            {"steps", run.steps},
            {"epochs", run.epochs},
            {"first_loss", run.first_loss},
            {"last_loss", run.last_loss},
            {"loss", std::move(loss)}};
}

namespace detail {

template <class Item>
nlohmann::json json_list(const std::vector<Item>& items) {
    nlohmann::json list = nlohmann::json::array();
    for (const Item& item : items) list.push_back(to_json(item));
    return list;
}

}  // namespace detail

/// The whole report as JSON.
inline nlohmann::json to_json(const ReproductionReport& report) {
    nlohmann::json json = {{"protocol", name_of(report.protocol)},
                           {"method", report.method},
                           {"library", report.library},
                           {"selection", report.selection},
                           {"seeds", report.seeds},
                           {"stages", report.stages},
                           {"done", report.done},
                           {"complete", report.complete()},
                           {"weights", detail::json_list(report.weights)},
                           {"tables", detail::json_list(report.tables)},
                           {"recipes", detail::json_list(report.recipes)},
                           {"runs", detail::json_list(report.runs)}};
    if (!report.incomplete.empty()) json["incomplete"] = report.incomplete;
    return json;
}

}  // namespace promptkd
