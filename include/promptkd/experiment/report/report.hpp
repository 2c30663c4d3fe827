// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/reproduction/files.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// One accuracy of a table in percent: over the seeds, and what was published.
struct ReportCell {
    std::map<std::uint64_t, double> values;  ///< by seed; under 0 what has no seed (a model without training)
    double mean = 0;
    std::optional<double> standard_deviation;  ///< of a sample (n − 1); absent for one value
    std::optional<double> published;

    std::optional<double> difference() const {
        return published ? std::optional<double>(mean - *published) : std::nullopt;
    }
};

/// A model or method of a table: a cell a column, absent where nothing has been measured yet.
struct ReportRow {
    std::string name;
    std::vector<std::optional<ReportCell>> cells;
};

struct ReportTable {
    std::string title;
    std::vector<std::string> columns;
    std::vector<ReportRow> rows;
    std::vector<Index> shots;  ///< few-shot: the images a class of each column
};

/// The settings of a training, equal for all seeds.
struct ReportRecipe {
    std::string data, stage;
    nlohmann::json settings;
};

/// One training with its loss.
struct ReportRun {
    std::string folder, stage, data;
    std::uint64_t seed = 0;
    Index shots = 0, images = 0, unreadable = 0, steps = 0, epochs = 0;
    double first_loss = 0, last_loss = 0;
    std::vector<std::pair<double, double>> loss;  ///< at most a hundred means: (part of the run, loss)
};

/// The report of a reproduction. It holds nothing that differs between two equal runs.
struct ReproductionReport {
    Protocol protocol = Protocol::base_to_novel;
    std::string method;     ///< "PromptKD", or the learner's name
    std::string library;    ///< name and version of what computed it
    std::string selection;  ///< which model of a training is tested
    std::vector<std::uint64_t> seeds;
    Index stages = 0, done = 0;
    std::vector<InputFile> weights;
    std::vector<ReportTable> tables;
    std::vector<ReportRecipe> recipes;
    std::vector<ReportRun> runs;

    bool complete() const { return done == stages; }
};

}  // namespace promptkd
