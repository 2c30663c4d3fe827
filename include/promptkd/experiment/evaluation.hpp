// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/evaluate/evaluate.hpp>
#include <promptkd/evaluate/sharded.hpp>
#include <promptkd/experiment/results.hpp>
#include <promptkd/experiment/stage.hpp>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// How a stage of a run reads its images, and whom it tells.
struct EncodingStage {
    std::string name;    ///< of the stage, for the observer
    Index batch = 64;    ///< images a call of the encoder
    Observer& observer;  ///< whom it tells
};

/// Features of all images through `encoder` (encode(device images, n), resolution(), embed()), the images divided among
/// the ranks.
template <Device D, class Encoder>
FeatureSet<typename D::Scalar> encode_images(D& device, Encoder& encoder, const Dataset& data, const EncodingStage& how,
                                             const Ranks<D>& ranks = {}) {
    using T = typename D::Scalar;
    Stage stage(how.name, "images", slice_of(data.size(), ranks.rank(), ranks.size()).count, how.observer);
    EvaluationOptions options;
    options.batch = how.batch;
    options.progress = [&](Index done, Index) { stage.update(done); };
    options.warn = [&](const std::string& text) { how.observer.on_warning(text); };
    FeatureSet<T> set = collect_features(device, ranks, encoder, data, options);
    stage.end();
    return set;
}

/// Whether each half of so many classes has two classes and an image among these, so that its figure says something.
template <class T>
bool shows_halves(const FeatureSet<T>& set, Index classes) {
    if (!has_halves(classes)) return false;
    const auto [first, last] = class_range(classes, ClassSubset::novel);
    const auto novel = [&, begin = first](Index label) { return label >= begin; };
    const auto base = [&, begin = first](Index label) { return label >= 0 && label < begin; };
    return std::any_of(set.labels.begin(), set.labels.end(), novel) &&
           std::any_of(set.labels.begin(), set.labels.end(), base);
}

/// Results among the classes `names` with their `vectors` (classes, embed): of one half, or where `subset` is empty of
/// all classes and, where each half has two classes and images, of both halves. Throws Error for a half of one class.
template <Device D, class T>
EvaluationResult evaluate_features(D& device, const FeatureSet<T>& set, const std::vector<T>& vectors,
                                   const std::vector<std::string>& names, std::optional<ClassSubset> subset = {}) {
    const Index n = static_cast<Index>(names.size());
    EvaluationResult result;
    result.subset = subset;
    if (subset) {
        const auto range = class_range(n, *subset);
        require(range.second - range.first > 1, "the classes '", name_of(*subset), "' of ", n,
                " are one class alone, so there is nothing to decide");
        result.class_names.assign(names.begin() + range.first, names.begin() + range.second);
        result.metrics = evaluate_subset(device, set, vectors, n, *subset);
        return result;
    }
    result.class_names = names;
    if (!shows_halves(set, n)) {
        result.metrics = evaluate_subset(device, set, vectors, n, ClassSubset::all);
        return result;
    }
    BaseNewAll all = evaluate_base_new_all(device, set, vectors, n);
    result.halves = BaseNew{all.base.accuracy, all.novel.accuracy};
    result.metrics = std::move(all.all);
    return result;
}

}  // namespace promptkd
