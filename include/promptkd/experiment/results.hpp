// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/class_subset.hpp>
#include <promptkd/evaluate/metrics.hpp>
#include <promptkd/train/loop.hpp>

#include <cmath>
#include <optional>
#include <string>
#include <vector>

namespace promptkd {

/// Accuracy (%) on the base and on the new classes, each half among its own classes alone.
struct BaseNew {
    double base = 0, novel = 0;  ///< accuracies in percent
    /// Harmonic mean of the two.
    double harmonic() const { return harmonic_mean(base, novel); }
};

/// What an evaluation found.
struct EvaluationResult {
    Metrics metrics;                       ///< of the classes of `subset`, or of all
    std::vector<std::string> class_names;  ///< of the classes in `metrics`
    std::optional<ClassSubset> subset;     ///< the half that was asked for
    std::optional<BaseNew> halves;         ///< where both were evaluated
};

/// Which epoch a model selection has chosen.
struct EpochSelection {
    Index epoch = 0, epochs = 0;  ///< the chosen one (from 1), of so many
    double accuracy = 0;          ///< on the validation images
    Index images = 0;             ///< their number
};

/// What every training leaves.
struct TrainingOutcome {
    TrainingResult training;                  ///< what the training did
    Index images = 0, classes = 0;            ///< that it learned from
    std::optional<EpochSelection> selection;  ///< where the best epoch was chosen
};

/// Mean and standard deviation (of a sample; 0 for a single value) of one figure over several runs.
struct Spread {
    double mean = 0, standard_deviation = 0;  ///< over the seeds
};

/// Throws Error when there is no value.
inline Spread spread_of(const std::vector<double>& values) {
    require(!values.empty(), "mean over runs: there is no run");
    double sum = 0, square = 0;
    for (const double x : values) sum += x;
    const double n = static_cast<double>(values.size()), mean = sum / n;
    for (const double x : values) square += (x - mean) * (x - mean);
    return {mean, n > 1 ? std::sqrt(square / (n - 1)) : 0.0};
}

}  // namespace promptkd
