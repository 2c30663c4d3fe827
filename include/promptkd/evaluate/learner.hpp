// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/compiled.hpp>
#include <promptkd/evaluate/evaluate.hpp>
#include <promptkd/learner/trainer.hpp>

#include <algorithm>

namespace promptkd {

/// Logits of a labelled data set with the trainer's present prompts → base/new-style metrics among the trainer's own
/// classes.
template <Device D>
Metrics evaluate_learner(D& device, LearnerTrainer<D>& trainer, const Dataset& data, const Preprocessing& input,
                         Index batch) {
    using T = typename D::Scalar;
    const Index classes = trainer.classes();
    Buffer<D, T> logits(device, batch * classes);
    EvaluationOptions options;
    options.batch = batch;
    trainer.begin_evaluation();
    const FeatureSet<T> set = collect_features(device, data, input, classes, options, [&](const T* images, Index n) {
        trainer.logits(images, n, logits.data());
        return static_cast<const T*>(logits.data());
    });
    std::vector<Index> best;
    for (Index i = 0; i < set.size(); ++i) {
        const auto row = set.values.begin() + static_cast<std::ptrdiff_t>(i * classes);
        best.push_back(std::max_element(row, row + static_cast<std::ptrdiff_t>(classes)) - row);
    }
    Metrics metrics = compute_metrics(set.labels, best, classes);
    metrics.unreadable = set.unreadable;
    return metrics;
}

PROMPTKD_COMPILED_FUNCTION(Metrics evaluate_learner(Cpu<float>&, LearnerTrainer<Cpu<float>>&, const Dataset&,
                                                    const Preprocessing&, Index));

}  // namespace promptkd
