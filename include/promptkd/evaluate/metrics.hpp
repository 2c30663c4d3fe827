// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>

#include <string>
#include <vector>

namespace promptkd {

/// Classification results, percentages in [0, 100].
struct Metrics {
    Index n = 0;                    ///< images evaluated
    Index unreadable = 0;           ///< images that could not be decoded, not part of n
    double accuracy = 0;            ///< correct / n
    double error_rate = 0;          ///< 100 − accuracy
    double macro_f1 = 0;            ///< mean F1 over the classes present in the true labels
    double mean_per_class = 0;      ///< mean accuracy over the classes present in the true labels
    Index classes = 0;              ///< N
    std::vector<double> per_class;  ///< (N): accuracy of each class; 0 where the class has no image
    std::vector<Index> support;     ///< (N): images of each class
    std::vector<Index> confusion;   ///< (N, N) row-major: images of class i predicted as class j
};

/// Metrics of `predicted` against `truth` (both (n), labels 0 … classes−1). F1 of a class = 2tp / (2tp + fp + fn).
/// Throws Error when the lengths differ, nothing is given, or a label is out of range.
inline Metrics compute_metrics(const std::vector<Index>& truth, const std::vector<Index>& predicted, Index classes) {
    require(truth.size() == predicted.size(), "metrics: ", truth.size(), " labels but ", predicted.size(),
            " predictions");
    require(!truth.empty(), "metrics: there is no labelled image to evaluate");
    require(classes >= 1, "metrics: there must be at least one class");
    Metrics m;
    m.n = static_cast<Index>(truth.size());
    m.classes = classes;
    m.per_class.resize(static_cast<std::size_t>(classes));
    m.support.resize(static_cast<std::size_t>(classes));
    m.confusion.resize(static_cast<std::size_t>(classes * classes));
    std::vector<Index> claimed(static_cast<std::size_t>(classes));
    for (std::size_t i = 0; i < truth.size(); ++i) {
        const Index t = truth[i], p = predicted[i];
        require(t >= 0 && t < classes, "metrics: label ", t, " of image ", i, " is outside 0 … ", classes - 1);
        require(p >= 0 && p < classes, "metrics: prediction ", p, " for image ", i, " is outside 0 … ", classes - 1);
        ++m.confusion[static_cast<std::size_t>(t * classes + p)];
        ++m.support[static_cast<std::size_t>(t)];
        ++claimed[static_cast<std::size_t>(p)];
    }
    Index correct = 0, present = 0;
    double f1 = 0, recall = 0;
    for (Index c = 0; c < classes; ++c) {
        const auto k = static_cast<std::size_t>(c);
        if (m.support[k] == 0) continue;
        const Index hits = m.confusion[static_cast<std::size_t>(c * classes + c)];
        m.per_class[k] = 100.0 * static_cast<double>(hits) / static_cast<double>(m.support[k]);
        f1 += 200.0 * static_cast<double>(hits) / static_cast<double>(m.support[k] + claimed[k]);
        recall += m.per_class[k];
        correct += hits;
        ++present;
    }
    m.accuracy = 100.0 * static_cast<double>(correct) / static_cast<double>(m.n);
    m.error_rate = 100.0 - m.accuracy;
    m.macro_f1 = f1 / static_cast<double>(present);
    m.mean_per_class = recall / static_cast<double>(present);
    return m;
}

/// Harmonic mean 2bn / (b + n) of base and new accuracy; 0 when both are 0.
inline double harmonic_mean(double base, double novel) {
    return base + novel > 0 ? 2 * base * novel / (base + novel) : 0;
}

}  // namespace promptkd
