// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/format/file.hpp>

#include <nlohmann/json.hpp>

#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// The curve of losses in a run's log (a StepRecord a line): for every `count` steps the part of the run's `steps` that
/// they end, and their mean loss. Steps behind the last whole group are left out. Throws Error for a file that cannot
/// be read.
inline std::vector<std::pair<double, double>> mean_losses(const std::string& path, double steps, Index count = 50) {
    std::vector<std::pair<double, double>> means;
    std::istringstream log(read_file(path));
    double sum = 0;
    Index taken = 0;
    for (std::string line; std::getline(log, line);) {
        const nlohmann::json record = nlohmann::json::parse(line);
        sum += record.at("loss").get<double>();
        if (++taken < count) continue;
        means.emplace_back((record.at("step").get<double>() + 1) / steps, sum / static_cast<double>(count));
        sum = 0;
        taken = 0;
    }
    return means;
}

}  // namespace promptkd
