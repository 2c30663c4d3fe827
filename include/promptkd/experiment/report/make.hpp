// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/report/tables.hpp>

namespace promptkd {

namespace detail {

/// Whether a setting of a stage is part of its recipe: not what the report says elsewhere, nor what is not set.
inline bool is_recipe_setting(const std::string& key, const nlohmann::json& value) {
    for (const char* other : {"weights", "vocab", "seed", "protocol", "data"})
        if (key == other) return false;
    return key.rfind("teacher", 0) != 0 && value != "";
}

/// The recipes of a plan's trainings, each once.
inline std::vector<ReportRecipe> report_recipes(const std::vector<ReproductionStage>& stages) {
    std::vector<ReportRecipe> recipes;
    for (const ReproductionStage& stage : stages) {
        if (stage.kind == StageKind::zero_shot) continue;
        ReportRecipe recipe{stage.key, stage.row, nlohmann::json::object()};
        for (const auto& [key, value] : stage.identity.items())
            if (is_recipe_setting(key, value)) recipe.settings[key] = value;
        const bool seen = std::any_of(recipes.begin(), recipes.end(), [&recipe](const ReportRecipe& other) {
            return other.data == recipe.data && other.stage == recipe.stage && other.settings == recipe.settings;
        });
        if (!seen) recipes.push_back(std::move(recipe));
    }
    return recipes;
}

/// The loss of each step in a training's log.jsonl; lines that are damaged or have none are left out.
inline std::vector<double> logged_losses(const std::string& path) {
    std::vector<double> losses;
    if (!std::filesystem::exists(path)) return losses;
    const std::string log = read_file(path);
    for (std::size_t begin = 0, end; (end = log.find('\n', begin)) != std::string::npos; begin = end + 1) {
        const nlohmann::json line = nlohmann::json::parse(log.substr(begin, end - begin), nullptr, false);
        if (line.is_object() && line.contains("loss") && line["loss"].is_number())
            losses.push_back(line["loss"].get<double>());
    }
    return losses;
}

/// At most a hundred points (part of the run, mean loss) of a run of `steps` steps.
inline std::vector<std::pair<double, double>> loss_curve(const std::vector<double>& losses, Index steps) {
    const std::size_t group = static_cast<std::size_t>(std::max<Index>(1, (steps + 99) / 100));
    std::vector<std::pair<double, double>> points;
    for (std::size_t begin = 0; begin + group <= losses.size(); begin += group) {
        double sum = 0;
        for (std::size_t i = begin; i < begin + group; ++i) sum += losses[i];
        points.emplace_back(static_cast<double>(begin + group) / static_cast<double>(std::max<Index>(1, steps)),
                            sum / static_cast<double>(group));
    }
    return points;
}

inline ReportRun report_run(const std::string& out, const ReproductionStage& stage, const StageTraining& training) {
    const Progress& at = training.result.progress;
    ReportRun run;
    run.folder = stage.folder;
    run.stage = stage.row;
    run.data = stage.key;
    run.seed = stage.seed;
    run.shots = stage.shots;
    run.images = training.images;
    run.unreadable = at.unreadable;
    run.steps = at.step;
    run.epochs = at.epoch;
    run.first_loss = at.first_loss;
    run.last_loss = at.last_loss;
    run.loss = loss_curve(logged_losses(out + "/" + stage.folder + "/log.jsonl"), stage.steps);
    return run;
}

}  // namespace detail

/// The report of a reproduction from the results that are there, one for each stage of the plan.
inline ReproductionReport make_report(const ReproductionPlan& plan, const std::vector<StageResult>& results) {
    require(results.size() == plan.stages.size(), "report: ", results.size(), " results for ", plan.stages.size(),
            " stages");
    ReproductionReport report;
    report.protocol = plan.spec.protocol;
    report.method = plan.spec.distils() ? "PromptKD" : plan.learner;
    report.library = std::string("promptkd ") + version;
    report.selection = "the model of the last epoch";
    report.seeds = plan.spec.seeds;
    report.stages = static_cast<Index>(plan.stages.size());
    report.weights = plan.files;
    for (const TestSet& target : plan.targets)
        if (!target.problem.empty()) report.incomplete.push_back(target.key + ": " + target.problem);
    if (!plan.source.problem.empty()) report.incomplete.push_back(plan.source.key + ": " + plan.source.problem);
    report.tables = report_tables(plan, results);
    report.recipes = detail::report_recipes(plan.stages);
    for (std::size_t i = 0; i < results.size(); ++i) {
        if (is_done(plan.stages[i], results[i])) ++report.done;
        if (results[i].training)
            report.runs.push_back(detail::report_run(plan.spec.out, plan.stages[i], *results[i].training));
    }
    return report;
}

}  // namespace promptkd
