// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/report/cells.hpp>
#include <promptkd/experiment/reproduction/plan.hpp>
#include <promptkd/experiment/reproduction/stage_result.hpp>

#include <algorithm>
#include <utility>

namespace promptkd::detail {

/// The results of a plan's stages by row, data set and number of shots.
class CollectedResults {
public:
    /// A result for each stage of the plan. Both must outlive this.
    CollectedResults(const ReproductionPlan& plan, const std::vector<StageResult>& results)
        : plan_(plan), results_(results) {}

    /// Rows of the tables: the models as they are, then what was learned.
    std::vector<std::string> rows() const {
        std::vector<std::string> names;
        for (const char* wanted : {"CLIP teacher", "CLIP", "CLIP student"})
            for (const ReproductionStage& stage : plan_.stages)
                if (stage.row == wanted) add_once(names, stage.row);
        for (const ReproductionStage& stage : plan_.stages) add_once(names, stage.row);
        return names;
    }

    /// A figure of every finished test of a row on a data set, learned from so many images a class (0: any number).
    SeedValues values(const std::string& row, const std::string& key, FigureField figure, Index shots = 0) const {
        SeedValues found;
        for (std::size_t i = 0; i < results_.size(); ++i) {
            const ReproductionStage& stage = plan_.stages[i];
            if (stage.row != row || (shots > 0 && stage.shots > 0 && stage.shots != shots)) continue;
            const auto test = results_[i].tests.find(key);
            if (test == results_[i].tests.end()) continue;
            const std::optional<double>& value = test->second.*figure;
            if (value) found[stage.seed] = *value;
        }
        return found;
    }

    /// By seed the mean over the data sets, once a seed is there for all of them.
    SeedValues average(const std::string& row, FigureField figure, Index shots = 0) const {
        std::map<std::uint64_t, std::pair<double, std::size_t>> sums;
        for (const TestSet& target : plan_.targets)
            for (const auto& [seed, value] : values(row, target.key, figure, shots)) {
                sums[seed].first += value;
                ++sums[seed].second;
            }
        SeedValues means;
        for (const auto& [seed, sum] : sums)
            if (sum.second == plan_.targets.size()) means[seed] = sum.first / static_cast<double>(sum.second);
        return means;
    }

    HalvesValues halves(const std::string& row, const std::string& key) const {
        return {values(row, key, &TestFigures::base), values(row, key, &TestFigures::novel),
                values(row, key, &TestFigures::harmonic_mean)};
    }

    HalvesValues average_halves(const std::string& row) const {
        HalvesValues means{average(row, &TestFigures::base), average(row, &TestFigures::novel), {}};
        for (const auto& [seed, base] : means.base)
            if (means.novel.count(seed) != 0) means.harmonic[seed] = harmonic_mean(base, means.novel.at(seed));
        return means;
    }

private:
    static void add_once(std::vector<std::string>& names, const std::string& name) {
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }

    const ReproductionPlan& plan_;
    const std::vector<StageResult>& results_;
};

}  // namespace promptkd::detail
