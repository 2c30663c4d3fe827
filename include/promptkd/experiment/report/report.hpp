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
    std::map<std::uint64_t, double> values;    ///< by seed; under 0 what has no seed (a model without training)
    double mean = 0;                           ///< over the seeds
    std::optional<double> standard_deviation;  ///< of a sample (n − 1); absent for one value
    std::optional<double> published;           ///< the published figure

    /// Mean minus published.
    std::optional<double> difference() const {
        return published ? std::optional<double>(mean - *published) : std::nullopt;
    }
};

/// A model or method of a table: a cell a column, absent where nothing has been measured yet.
struct ReportRow {
    std::string name;                              ///< first column
    std::vector<std::optional<ReportCell>> cells;  ///< a column each; empty: not done
};

/// One table of a report.
struct ReportTable {
    std::string title;                 ///< above the table
    std::vector<std::string> columns;  ///< headings
    std::vector<ReportRow> rows;       ///< lines
    std::vector<Index> shots;          ///< few-shot: the images a class of each column
};

/// The settings of a training, equal for all seeds.
struct ReportRecipe {
    std::string data, stage;  ///< data set and stage
    nlohmann::json settings;  ///< of its training
};

/// One training with its loss.
struct ReportRun {
    std::string folder, stage, data;  ///< where its files are, what was trained on what
    std::uint64_t seed = 0;           ///< of the run
    /// images a class, images, skipped ones, steps and epochs done
    Index shots = 0, images = 0, unreadable = 0, steps = 0, epochs = 0;
    double first_loss = 0, last_loss = 0;         ///< of the first and of the last step
    std::vector<std::pair<double, double>> loss;  ///< at most a hundred means: (part of the run, loss)
};

/// The report of a reproduction. It holds nothing that differs between two equal runs.
struct ReproductionReport {
    Protocol protocol = Protocol::base_to_novel;  ///< what was reproduced
    std::string method;                           ///< "PromptKD", or the learner's name
    std::string library;                          ///< name and version of what computed it
    std::string selection;                        ///< which model of a training is tested
    std::vector<std::uint64_t> seeds;             ///< of the runs
    Index stages = 0, done = 0;                   ///< stages of the plan, and how many are done
    std::vector<InputFile> weights;               ///< files that were read
    std::vector<std::string> incomplete;          ///< data sets that are not the published ones, and why
    std::vector<ReportTable> tables;              ///< results
    std::vector<ReportRecipe> recipes;            ///< settings
    std::vector<ReportRun> runs;                  ///< trainings

    /// Whether every stage is done.
    bool complete() const { return done == stages; }
};

}  // namespace promptkd
