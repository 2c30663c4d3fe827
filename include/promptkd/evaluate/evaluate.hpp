// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/class_subset.hpp>
#include <promptkd/data/loader.hpp>
#include <promptkd/device/memory.hpp>
#include <promptkd/device/parallel/communicator.hpp>
#include <promptkd/evaluate/metrics.hpp>
#include <promptkd/format/mapping_guard.hpp>
#include <promptkd/op/cosine.hpp>
#include <promptkd/train/image_feed.hpp>

#include <cmath>
#include <concepts>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Image features of a data set with their labels, on the host.
template <class T>
struct FeatureSet {
    Index embed = 0;             ///< e
    std::vector<T> values;       ///< (n, e)
    std::vector<Index> labels;   ///< (n), −1 where unlabelled
    std::vector<Index> indices;  ///< (n), positions in the data set
    Index unreadable = 0;        ///< images that could not be decoded, not part of n

    /// n, the number of images.
    Index size() const { return static_cast<Index>(labels.size()); }
};

/// How evaluation reads images, and whom it tells about it.
struct EvaluationOptions {
    Index batch = 64;                              ///< images a call of the encoder
    int loader_threads = 2;                        ///< that decode and preprocess
    std::function<void(Index, Index)> progress;    ///< (images done, images in all), after each batch
    std::function<void(const std::string&)> warn;  ///< an image cannot be read
};

/// What turns images into features (or logits): a Classifier, or a FeatureFunction.
///   preprocessing(): of the images it takes;
///   embed(): values of a row that it makes;
///   further_inputs(), prepare(batch): of an encoder that takes further inputs of each image, see LoaderOptions;
///   encode(images, n): (n, embed) rows in device memory, of device images (n, 3, height, width).
template <class E, class D>
concept FeatureEncoder = requires(E& encoder, const typename D::Scalar* images, Index n) {
    { encoder.preprocessing() } -> std::convertible_to<Preprocessing>;
    { encoder.embed() } -> std::convertible_to<Index>;
    { encoder.encode(images, n) } -> std::convertible_to<const typename D::Scalar*>;
};

/// A FeatureEncoder made of a function encode(images, n).
template <class F>
class FeatureFunction {
public:
    /// `function` makes rows of `embed` values of images as `input` makes them.
    FeatureFunction(const Preprocessing& input, Index embed, F function)
        : input_(input), embed_(embed), function_(std::forward<F>(function)) {}
    /// See FeatureEncoder.
    const Preprocessing& preprocessing() const { return input_; }
    /// See FeatureEncoder.
    Index embed() const { return embed_; }
    /// See FeatureEncoder.
    template <class T>
    const T* encode(const T* images, Index n) {
        return function_(images, n);
    }

private:
    Preprocessing input_;
    Index embed_;
    F function_;
};

namespace detail {

/// Throws Error naming the image whose row of `rows` (batch, …) holds NaN or infinity, and where a file that they were
/// made of was cut short.
template <class T>
void require_finite_rows(const std::vector<T>& rows, const Batch& batch, const Dataset& data) {
    require_intact_mappings();
    const auto width = rows.size() / static_cast<std::size_t>(batch.size);
    for (std::size_t k = 0; k < rows.size(); ++k)
        require(std::isfinite(static_cast<double>(rows[k])), data.item_name(batch.indices[k / width]),
                ": the model makes NaN or infinity of this image");
}

}  // namespace detail

/// Calls f(batch, rows) with what `encoder` makes of the images `range` of `data`, batch by batch in their order: rows
/// (batch.size, embed) on the host. f returns whether to go on. Returns how many images could not be read; with `range`
/// at the beginning of the data it throws Error when that is all of them.
template <Device D, FeatureEncoder<D> Encoder, class F>
Index visit_features(D& device, Encoder& encoder, const Dataset& data, const Slice& range,
                     const EvaluationOptions& options, const F& f) {
    using T = typename D::Scalar;
    ImageFeed<D> feed(device, options.batch, encoder.preprocessing());
    LoaderOptions loading;
    loading.batch = options.batch;
    loading.preprocessing = encoder.preprocessing();
    loading.threads = options.loader_threads;
    loading.warn = options.warn;
    if constexpr (requires { encoder.further_inputs(); }) loading.further = encoder.further_inputs();
    BatchLoader loader(data, loading);
    std::vector<Index> order = in_order(range.count);
    for (Index& i : order) i += range.first;
    loader.start(std::move(order), 0, range.first);
    std::vector<T> host;
    while (const Batch* batch = loader.next()) {
        if constexpr (requires { encoder.prepare(*batch); }) encoder.prepare(*batch);
        const T* features = encoder.encode(feed.upload(*batch), batch->size);
        host.resize(static_cast<std::size_t>(batch->size * encoder.embed()));
        device.download(host.data(), features, host.size() * sizeof(T));
        detail::require_finite_rows(host, *batch, data);
        if (!f(*batch, host)) break;
    }
    return loader.unreadable();
}

/// What `encoder` makes of every image of `data`, in its order. Throws Error when there is no image.
template <Device D, FeatureEncoder<D> Encoder>
FeatureSet<typename D::Scalar> collect_features(D& device, Encoder& encoder, const Dataset& data,
                                                const EvaluationOptions& options = {}) {
    using T = typename D::Scalar;
    require(data.size() > 0, data.name, ": there is no image to evaluate");
    FeatureSet<T> set;
    set.embed = encoder.embed();
    set.values.reserve(static_cast<std::size_t>(data.size() * set.embed));
    const auto keep = [&](const Batch& batch, const std::vector<T>& rows) {
        set.values.insert(set.values.end(), rows.begin(), rows.end());
        set.labels.insert(set.labels.end(), batch.labels.begin(), batch.labels.end());
        set.indices.insert(set.indices.end(), batch.indices.begin(), batch.indices.end());
        if (options.progress) options.progress(set.size(), data.size());
        return true;
    };
    set.unreadable = visit_features(device, encoder, data, {0, data.size()}, options, keep);
    return set;
}

/// The same with a function encode(images, n) in place of the encoder.
template <Device D, class Encode>
FeatureSet<typename D::Scalar> collect_features(D& device, const Dataset& data, const Preprocessing& input, Index embed,
                                                const EvaluationOptions& options, Encode&& encode) {
    FeatureFunction<Encode&> encoder(input, embed, encode);
    return collect_features(device, encoder, data, options);
}

/// For each row of `features` (n, embed) the class whose vector (classes, embed) has the largest cosine.
template <Device D, class T>
std::vector<Index> nearest_classes(D& device, const std::vector<T>& features, const std::vector<T>& vectors,
                                   Index embed) {
    constexpr Index group = 1024;
    const Index n = static_cast<Index>(features.size()) / embed, classes = static_cast<Index>(vectors.size()) / embed;
    Buffer<D, T> w(device, vectors), x(device, std::min(n, group) * embed),
        logits(device, std::min(n, group) * classes);
    std::vector<T> host(static_cast<std::size_t>(logits.size()));
    std::vector<Index> best;
    for (Index first = 0; first < n; first += group) {
        const Index rows = std::min(group, n - first);
        device.upload(x.data(), features.data() + first * embed, static_cast<std::size_t>(rows * embed) * sizeof(T));
        cosine_logits(device, ConstMatrix<T>(x.matrix(rows, embed)), ConstMatrix<T>(w.matrix(classes, embed)), 1.0,
                      logits.matrix(rows, classes));
        device.download(host.data(), logits.data(), static_cast<std::size_t>(rows * classes) * sizeof(T));
        for (Index i = 0; i < rows; ++i) {
            const auto row = host.begin() + static_cast<std::ptrdiff_t>(i * classes);
            best.push_back(std::max_element(row, row + static_cast<std::ptrdiff_t>(classes)) - row);
        }
    }
    return best;
}

/// Metrics of a subset of the classes: its images, classified among its class vectors alone (PromptKD's base and new).
/// `vectors` (classes, embed) are those of all classes. Throws Error when the subset has no labelled image.
template <Device D, class T>
Metrics evaluate_subset(D& device, const FeatureSet<T>& set, const std::vector<T>& vectors, Index classes,
                        ClassSubset subset) {
    const auto [first, last] = class_range(classes, subset);
    std::vector<T> features;
    std::vector<Index> truth;
    for (Index i = 0; i < set.size(); ++i) {
        const Index label = set.labels[static_cast<std::size_t>(i)];
        if (label < first || label >= last) continue;
        const auto row = set.values.begin() + static_cast<std::ptrdiff_t>(i * set.embed);
        features.insert(features.end(), row, row + static_cast<std::ptrdiff_t>(set.embed));
        truth.push_back(label - first);
    }
    require(!truth.empty(), "there is no labelled image of the classes '", name_of(subset), "' to evaluate");
    const std::vector<T> part(vectors.begin() + static_cast<std::ptrdiff_t>(first * set.embed),
                              vectors.begin() + static_cast<std::ptrdiff_t>(last * set.embed));
    Metrics metrics = compute_metrics(truth, nearest_classes(device, features, part, set.embed), last - first);
    metrics.unreadable = set.unreadable;
    return metrics;
}

/// Base, new and all-class results of one model.
struct BaseNewAll {
    Metrics base;   ///< the first half of the classes, images and class vectors
    Metrics novel;  ///< the second half
    Metrics all;    ///< all classes
    /// Harmonic mean of base and new accuracy.
    double harmonic() const { return harmonic_mean(base.accuracy, novel.accuracy); }
};

/// evaluate_subset() for base, new and all classes.
template <Device D, class T>
BaseNewAll evaluate_base_new_all(D& device, const FeatureSet<T>& set, const std::vector<T>& vectors, Index classes) {
    return {evaluate_subset(device, set, vectors, classes, ClassSubset::base),
            evaluate_subset(device, set, vectors, classes, ClassSubset::novel),
            evaluate_subset(device, set, vectors, classes, ClassSubset::all)};
}

}  // namespace promptkd
