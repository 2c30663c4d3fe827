// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/report/results.hpp>

namespace promptkd {

namespace detail {

/// What was published of a row on average over the targets; nothing unless it is for each of them.
inline std::optional<PublishedAccuracy> published_average(const std::vector<TestSet>& targets, const std::string& row) {
    const auto method = method_of(row);
    if (!method) return std::nullopt;
    PublishedAccuracy sum;
    for (const TestSet& target : targets) {
        const auto one = published_accuracy(target.key, *method);
        if (!one) return std::nullopt;
        sum.base += one->base;
        sum.novel += one->novel;
    }
    const double n = static_cast<double>(targets.size());
    sum.base /= n;
    sum.novel /= n;
    sum.harmonic_mean = harmonic_mean(sum.base, sum.novel);
    return sum;
}

/// The published average of a protocol with a source, where the targets are those that it is over: all of them, and no
/// others.
inline std::optional<double> published_over_targets(const ReproductionPlan& plan, const std::string& row) {
    const bool variants = plan.spec.protocol == Protocol::domain_generalization;
    const auto method = method_of(row);
    const std::size_t wanted = variants ? 4 : 10;
    if (!method || plan.targets.size() != wanted) return std::nullopt;
    for (const TestSet& target : plan.targets) {
        const BenchmarkInfo* benchmark = find_benchmark(target.key);
        if (!benchmark || target.key == "imagenet" || is_test_only(*benchmark) != variants) return std::nullopt;
    }
    return variants ? published_domain_generalization(*method) : published_cross_dataset(*method);
}

inline std::string average_title(const ReproductionPlan& plan) {
    const auto incomplete = std::count_if(plan.targets.begin(), plan.targets.end(),
                                          [](const TestSet& target) { return !target.problem.empty(); });
    const std::string mark = incomplete > 0 ? concat(" (", incomplete, " incomplete)") : "";
    return concat("average of ", plan.targets.size(), " data sets", mark);
}

/// Base-to-novel: a table for each data set, and one of their average.
inline std::vector<ReportTable> halves_tables(const ReproductionPlan& plan, const CollectedResults& results) {
    const std::vector<std::string> columns = {"base", "new", "harmonic mean"};
    std::vector<ReportTable> tables;
    for (const TestSet& target : plan.targets) {
        ReportTable table{target.title(), columns, {}, {}};
        for (const std::string& row : results.rows()) {
            std::optional<PublishedAccuracy> published;
            if (const auto method = method_of(row)) published = published_accuracy(target.key, *method);
            table.rows.push_back({row, halves_cells(results.halves(row, target.key), published)});
        }
        tables.push_back(std::move(table));
    }
    if (plan.targets.size() < 2) return tables;
    ReportTable table{average_title(plan), columns, {}, {}};
    for (const std::string& row : results.rows())
        table.rows.push_back({row, halves_cells(results.average_halves(row), published_average(plan.targets, row))});
    tables.push_back(std::move(table));
    return tables;
}

/// Cross-dataset and domain generalisation: a column for each target, and one of their average.
inline ReportTable targets_table(const ReproductionPlan& plan, const CollectedResults& results) {
    ReportTable table{"accuracy, prompts learned on " + plan.source.title(), {}, {}, {}};
    for (const TestSet& target : plan.targets) table.columns.push_back(target.title());
    const bool many = plan.targets.size() > 1;
    if (many) table.columns.push_back("average");
    for (const std::string& name : results.rows()) {
        ReportRow row{name, {}};
        for (const TestSet& target : plan.targets)
            row.cells.push_back(make_cell(results.values(name, target.key, &TestFigures::accuracy)));
        if (many)
            row.cells.push_back(
                make_cell(results.average(name, &TestFigures::accuracy), published_over_targets(plan, name)));
        table.rows.push_back(std::move(row));
    }
    return table;
}

/// The numbers of images a class of a plan, in its order.
inline std::vector<Index> shots_of(const ReproductionPlan& plan) {
    std::vector<Index> shots;
    for (const ReproductionStage& stage : plan.stages)
        if (stage.shots > 0 && std::find(shots.begin(), shots.end(), stage.shots) == shots.end())
            shots.push_back(stage.shots);
    return shots;
}

/// A few-shot table: a column for each number of images a class, with the cells values(row, shots).
template <class Values>
ReportTable shots_table(const std::string& title, const std::vector<Index>& shots, const CollectedResults& results,
                        const Values& values) {
    ReportTable table{title, {}, {}, shots};
    for (const Index k : shots) table.columns.push_back(concat(k, k == 1 ? " image" : " images"));
    for (const std::string& name : results.rows()) {
        ReportRow row{name, {}};
        for (const Index k : shots) row.cells.push_back(make_cell(values(name, k)));
        table.rows.push_back(std::move(row));
    }
    return table;
}

/// Few-shot: a table for each data set, and one of their average.
inline std::vector<ReportTable> shots_tables(const ReproductionPlan& plan, const CollectedResults& results) {
    const std::vector<Index> shots = shots_of(plan);
    std::vector<ReportTable> tables;
    for (const TestSet& target : plan.targets)
        tables.push_back(shots_table(target.title(), shots, results, [&](const std::string& row, Index k) {
            return results.values(row, target.key, &TestFigures::accuracy, k);
        }));
    if (plan.targets.size() > 1)
        tables.push_back(shots_table(average_title(plan), shots, results, [&](const std::string& row, Index k) {
            return results.average(row, &TestFigures::accuracy, k);
        }));
    return tables;
}

}  // namespace detail

/// The tables of a protocol from the results that are there, one for each stage of the plan, beside the published
/// figures.
inline std::vector<ReportTable> report_tables(const ReproductionPlan& plan, const std::vector<StageResult>& results) {
    const detail::CollectedResults collected(plan, results);
    if (plan.spec.protocol == Protocol::base_to_novel) return detail::halves_tables(plan, collected);
    if (has_source(plan.spec.protocol)) return {detail::targets_table(plan, collected)};
    return detail::shots_tables(plan, collected);
}

}  // namespace promptkd
