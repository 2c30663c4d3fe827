// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "options.hpp"
#include "progress.hpp"

#include <promptkd/clip/checkpoint/weights_file.hpp>
#include <promptkd/clip/class_texts.hpp>
#include <promptkd/clip/class_vectors.hpp>
#include <promptkd/clip/image_tower.hpp>
#include <promptkd/data/open.hpp>
#include <promptkd/evaluate/evaluate.hpp>
#include <promptkd/evaluate/metrics_json.hpp>
#include <promptkd/evaluate/sharded.hpp>
#include <promptkd/learner/registry.hpp>
#include <promptkd/text/tokenizer.hpp>

namespace promptkd::cli {

/// Weights, prompts or checkpoints in any format that the library reads; warnings go to standard error.
inline TensorMap load_weights(const std::string& path, WeightsOptions options = {}) {
    options.warn = [](const std::string& text) { std::fprintf(stderr, "warning: %s\n", text.c_str()); };
    options.names = {"--activation", "--model-config FILE"};
    options.learner_of = &name_of_learner;
    return promptkd::read_weights(path, options);
}
inline TensorMap read_weights(const std::string& path) { return load_weights(path); }
inline TensorMap load_weights(const Common& c) { return load_weights(c.weights, c.weights_options); }

/// Learned prompts of any published method as fixed prompts of the two branches.
inline TensorMap load_prompts(const std::string& path) { return fixed_prompts(load_weights(path)); }

/// Class vectors (classes, embed; 0: any size) from a file (tensor `class_vectors`). Throws Error when they do not
/// belong to these classes or are not normalised.
inline HostTensor read_class_vectors(const std::string& path, Index classes, Index embed = 0) {
    const TensorMap map = read_weights(path);
    const HostTensor& vectors = map.at("class_vectors");
    const Index size = embed > 0 || vectors.shape.size() != 2 ? embed : vectors.shape[1];
    require(vectors.shape == Shape{classes, size}, path, ": 'class_vectors' has shape ", to_string(vectors.shape),
            ", expected ", to_string(Shape{classes, size}), " for ", classes, " class names",
            embed > 0 ? " and this teacher" : "");
    const std::vector<double> values = vectors.to<double>();
    for (Index i = 0; i < classes; ++i) {
        double square = 0;
        for (Index j = 0; j < vectors.shape[1]; ++j)
            square += std::pow(values[static_cast<std::size_t>(i * vectors.shape[1] + j)], 2);
        require(std::abs(square - 1) < 1e-2, path, ": row ", i, " of 'class_vectors' has length ", std::sqrt(square),
                ", expected 1: class vectors are normalised text features");
    }
    return vectors;
}

/// {"accuracy", …} of one half, or for an empty `classes` those of all classes with "base", "new" and "harmonic_mean".
template <Device D, class T>
nlohmann::json evaluation_json(D& device, const FeatureSet<T>& set, const std::vector<T>& vectors,
                               const std::vector<std::string>& names, const std::string& classes) {
    const Index n = static_cast<Index>(names.size());
    if (!classes.empty()) {
        const ClassSubset half = parse_class_subset(classes);
        const auto range = class_range(n, half);
        const std::vector<std::string> part(names.begin() + range.first, names.begin() + range.second);
        nlohmann::json result = to_json(evaluate_subset(device, set, vectors, n, half), part);
        result["classes"] = classes;
        return result;
    }
    if (n < 2) return to_json(evaluate_subset(device, set, vectors, n, ClassSubset::all), names);
    const BaseNewAll r = evaluate_base_new_all(device, set, vectors, n);
    nlohmann::json result = to_json(r.all, names);
    result["base"] = r.base.accuracy, result["new"] = r.novel.accuracy, result["all"] = r.all.accuracy;
    result["harmonic_mean"] = r.harmonic();
    return result;
}

/// One line for people.
inline std::string evaluation_line(const nlohmann::json& r) {
    char text[160];
    if (r.contains("harmonic_mean"))
        std::snprintf(text, sizeof text, "base %.2f   new %.2f   harmonic mean %.2f   all %.2f   (%lld images)",
                      r["base"].get<double>(), r["new"].get<double>(), r["harmonic_mean"].get<double>(),
                      r["all"].get<double>(), static_cast<long long>(r["n"].get<Index>()));
    else
        std::snprintf(text, sizeof text, "accuracy %.2f   macro-F1 %.2f   (%lld images)", r["accuracy"].get<double>(),
                      r["macro_f1"].get<double>(), static_cast<long long>(r["n"].get<Index>()));
    return text;
}

/// Features of a data set through `encode`, with progress.
template <Device D, class Encode>
FeatureSet<typename D::Scalar> features_with_progress(D& device, const Ranks<D>& ranks, const Dataset& data,
                                                      Index resolution, Index embed, Index batch,
                                                      const std::string& what, Encode&& encode) {
    ProgressLine line(what, "images", slice_of(data.size(), ranks.rank(), ranks.size()).count);
    EvaluationOptions options;
    options.batch = batch;
    options.progress = [&](Index done, Index) { line.update(done); };
    options.warn = [&](const std::string& text) { line.finish(), std::fprintf(stderr, "warning: %s\n", text.c_str()); };
    return collect_features(device, ranks, data, resolution, embed, options, encode);
}
template <Device D, class Encode>
FeatureSet<typename D::Scalar> features_with_progress(D& device, const Dataset& data, Index resolution, Index embed,
                                                      Index batch, const std::string& what, Encode&& encode) {
    return features_with_progress(device, Ranks<D>(), data, resolution, embed, batch, what, encode);
}

}  // namespace promptkd::cli
