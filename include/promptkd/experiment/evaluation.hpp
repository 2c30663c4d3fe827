// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/evaluate/evaluate.hpp>
#include <promptkd/evaluate/mixed_student.hpp>
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

/// `batch`, or the number of images where that is less: memory is planned for what there is.
inline Index fitting_batch(Index batch, const Dataset& data) { return std::clamp<Index>(data.size(), 1, batch); }

/// Features of all images through `encoder` (encode(device images, n), preprocessing(), embed()), the images divided
/// among the ranks.
template <Device D, class Encoder>
FeatureSet<typename D::Scalar> encode_images(D& device, Encoder& encoder, const Dataset& data, const EncodingStage& how,
                                             const Ranks<D>& ranks = {}) {
    using T = typename D::Scalar;
    Stage stage(how.name, "images", slice_of(data.size(), ranks.rank(), ranks.size()).count, how.observer);
    EvaluationOptions options;
    options.batch = how.batch;
    options.progress = [&](Index done, Index) { stage.update(done); };
    options.warn = [&](const std::string& text) { how.observer.on_skipped(text); };
    FeatureSet<T> set = collect_features(device, ranks, encoder, data, options);
    stage.end();
    return set;
}

namespace detail {

/// Throws Error when a subset of the classes is one class alone.
inline void require_choice(Index classes, ClassSubset subset) {
    const auto range = class_range(classes, subset);
    require(range.second - range.first > 1, "the classes '", name_of(subset), "' of ", classes,
            " are one class alone, so there is nothing to decide");
}

}  // namespace detail

/// Whether each half of so many classes has two classes and an image among these, so that its figure says something.
template <class Set>
bool shows_halves(const Set& set, Index classes) {
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
        detail::require_choice(n, *subset);
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

namespace detail {

/// Metrics of the images of one half of the classes, decided among its own classes.
inline Metrics subset_metrics(const std::vector<Index>& labels, const std::vector<Index>& best,
                              const std::pair<Index, Index>& range) {
    std::vector<Index> truth, predicted;
    for (std::size_t i = 0; i < labels.size(); ++i) {
        if (labels[i] < range.first || labels[i] >= range.second) continue;
        truth.push_back(labels[i] - range.first);
        predicted.push_back(best[i]);
    }
    require(!truth.empty(), "there is no labelled image of these classes to evaluate");
    return compute_metrics(truth, predicted, range.second - range.first);
}

/// The likeliest class of each image in each of some ranges of classes, and what the mixture thought of the images.
template <class T>
struct MixtureAnswers {
    std::vector<std::vector<Index>> best;  ///< of each range, counted from its beginning
    std::vector<double> weight, distance;  ///< see MixturePrediction

    MixtureAnswers(MixedStudent& student, const FeatureSet<T>& rows, const std::vector<std::pair<Index, Index>>& ranges)
        : best(ranges.size()) {
        constexpr Index group = 512;
        for (Index first = 0; first < rows.size(); first += group) {
            const Index n = std::min(group, rows.size() - first);
            const MixturePrediction p = student.predict(rows.values.data() + first * rows.embed, n);
            weight.insert(weight.end(), p.weight.begin(), p.weight.end());
            distance.insert(distance.end(), p.distance.begin(), p.distance.end());
            for (std::size_t r = 0; r < ranges.size(); ++r) {
                const std::vector<Index> found =
                    best_columns(p.probabilities, student.mixture().classes, ranges[r].first, ranges[r].second);
                best[r].insert(best[r].end(), found.begin(), found.end());
            }
        }
    }
};

}  // namespace detail

/// evaluate_features() for rows of a MixtureEncoder: of some classes alone, the mixture's probabilities in their
/// columns are compared.
template <class T>
EvaluationResult evaluate_mixture(MixedStudent& student, const FeatureSet<T>& rows,
                                  const std::vector<std::string>& names, std::optional<ClassSubset> subset = {}) {
    const Index n = static_cast<Index>(names.size());
    if (subset) detail::require_choice(n, *subset);
    const bool halves = !subset && shows_halves(rows, n);
    std::vector<std::pair<Index, Index>> ranges = {class_range(n, subset.value_or(ClassSubset::all))};
    if (halves) ranges.insert(ranges.end(), {class_range(n, ClassSubset::base), class_range(n, ClassSubset::novel)});
    const detail::MixtureAnswers<T> answers(student, rows, ranges);
    EvaluationResult result;
    result.subset = subset;
    result.class_names.assign(names.begin() + ranges[0].first, names.begin() + ranges[0].second);
    result.metrics = detail::subset_metrics(rows.labels, answers.best[0], ranges[0]);
    result.metrics.unreadable = rows.unreadable;
    if (halves)
        result.halves = BaseNew{detail::subset_metrics(rows.labels, answers.best[1], ranges[1]).accuracy,
                                detail::subset_metrics(rows.labels, answers.best[2], ranges[2]).accuracy};
    for (std::size_t i = 0; i < answers.weight.size(); ++i)
        result.images.push_back({"", result.class_names[static_cast<std::size_t>(answers.best[0][i])],
                                 answers.weight[i], answers.distance[i]});
    return result;
}

}  // namespace promptkd
