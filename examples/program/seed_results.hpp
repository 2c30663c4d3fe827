// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "options.hpp"

#include <promptkd/experiment/results.hpp>

#include <cstdio>
#include <utility>

namespace promptkd::cli {

/// Mean and standard deviation of one result over the runs; empty where a run lacks it.
inline nlohmann::json spread(const nlohmann::json& runs, const char* key) {
    std::vector<double> values;
    for (const auto& run : runs) {
        if (!run.contains(key)) return nlohmann::json::object();
        values.push_back(run.at(key).get<double>());
    }
    const Spread found = spread_of(values);
    return {{"mean", found.mean}, {"standard_deviation", found.standard_deviation}, {"values", values}};
}

/// All runs with the spread of their results, which is printed too.
inline nlohmann::json summary_over_seeds(const Output& output, const nlohmann::json& runs) {
    nlohmann::json summary = {{"runs", runs}};
    for (const char* key : {"base", "new", "harmonic_mean", "all", "accuracy"}) {
        const nlohmann::json s = spread(runs, key);
        if (!s.contains("mean")) continue;
        summary[key] = s;
        if (std::string(key) == "accuracy" && summary.contains("all")) continue;  // the same number
        char line[120];
        std::snprintf(line, sizeof line, "%s: %.2f ± %.2f over %zu seeds", key, s["mean"].get<double>(),
                      s["standard_deviation"].get<double>(), runs.size());
        output.text() << line << std::endl;
    }
    return summary;
}

/// What a command writes for its runs: result.json in each output folder, the spread over several seeds above them, and
/// --json.
class SeedResults {
public:
    /// The output folder is there. Throws Error where nothing can be written: before the work.
    SeedResults(const Common& common, const std::vector<std::uint64_t>& seeds)
        : common_(common), several_(seeds.size() > 1) {
        if (launch().is_root()) require_writable(common.out + "/result.json");
    }

    /// The result of one run, in the folder `out`.
    void add(const std::string& out, nlohmann::json result) {
        write(out, result);
        runs_.push_back(std::move(result));
    }

    /// After the last run. `more` is added to the summary over several seeds.
    void finish(const nlohmann::json& more) const {
        if (!several_) return common_.output.write(runs_[0]);
        nlohmann::json summary = summary_over_seeds(common_.output, runs_);
        summary.update(more);
        write(common_.out, summary);
        common_.output.write(summary);
    }

private:
    static void write(const std::string& out, const nlohmann::json& result) {
        if (launch().is_root()) write_atomically(out + "/result.json", json_text(result, 2) + "\n");
    }

    const Common& common_;
    bool several_;
    nlohmann::json runs_ = nlohmann::json::array();
};

}  // namespace promptkd::cli
