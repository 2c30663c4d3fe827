// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/sole_use.hpp>
#include <promptkd/device/compiled.hpp>
#include <promptkd/evaluate/classification.hpp>
#include <promptkd/evaluate/classifier_weights.hpp>
#include <promptkd/evaluate/mixed_student.hpp>
#include <promptkd/format/mapping_guard.hpp>
#include <promptkd/op/cosine.hpp>
#include <promptkd/op/formulas.hpp>

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// A student read back from its bundle: images in, class probabilities out. Needs no text encoder, teacher or
/// vocabulary.
///
/// One thread at a time: a second one gets an Error. For several threads, several classifiers on the same
/// ClassifierWeights, each with a device of its own, or a ClassifierPool (evaluate/classifier_pool.hpp).
template <Device D>
class Classifier {
public:
    using T = typename D::Scalar;

    /// Plans for `max_batch` images a call. WeightStorage::packed pays from the second call on. Throws Error when
    /// `bundle` is not a student bundle or its parts do not fit together; see read_bundle().
    Classifier(D& device, const TensorMap& bundle, Index max_batch = 1, WeightStorage storage = WeightStorage::native)
        : Classifier(device, read_bundle(bundle), max_batch, storage) {}

    /// The same from the parts of a bundle. Low-rank updates are merged into the weights, unless a mixture reads these
    /// too.
    Classifier(D& device, const BundleParts& parts, Index max_batch = 1, WeightStorage storage = WeightStorage::native)
        : Classifier(device, std::make_shared<const ClassifierWeights<D>>(device, parts, max_batch, storage)) {}

    /// The same with weights that others use too. `device` may be another one that sees their memory, such as a Cpu of
    /// this thread. Throws Error for null.
    Classifier(D& device, std::shared_ptr<const ClassifierWeights<D>> weights);

    Classifier(const Classifier&) = delete;
    Classifier& operator=(const Classifier&) = delete;

    /// What it computes with.
    const std::shared_ptr<const ClassifierWeights<D>>& weights() const { return weights_; }
    /// The classes, in the order of class_vectors() and of probabilities, equal names told apart.
    const std::vector<std::string>& class_names() const { return weights_->class_names(); }
    /// Number of classes N.
    Index classes() const { return weights_->classes(); }
    /// Normalised class vectors (N, e) on the host.
    const std::vector<T>& class_vectors() const { return weights_->class_vectors(); }
    /// Height and width of the images.
    Index resolution() const { return weights_->model().vision().resolution(); }
    /// What the images go through.
    const Preprocessing& preprocessing() const { return weights_->model().preprocessing(); }
    /// Size e of the features.
    Index embed() const { return student().config().embed; }
    /// Images a call of encode(), probabilities() and mix() at most.
    Index max_batch() const { return weights_->max_batch(); }

    /// Probabilities (n, N) of n images of any size, computed max_batch() at a time: those of probabilities().
    std::vector<T> classify(std::span<const Image> images);

    /// The `k` most likely classes of an image of any size, the likeliest first; of equal ones the first class.
    std::vector<ClassProbability> top_k(const Image& image, Index k) { return judge(image, k).top; }

    /// The same with what a mixture thinks of the image.
    Classification judge(const Image& image, Index k);

    /// The same of several images that preprocess_image(image, preprocessing()) has made, in other threads, say;
    /// computed max_batch() at a time. Throws Error for images of another size.
    std::vector<Classification> judge_prepared(std::span<const Image> prepared, Index k);

    /// Normalised features (batch, embed) of device images (batch, 3, resolution, resolution), valid until the next
    /// call. Throws Error for more images than were planned.
    const T* encode(const T* images, Index batch) {
        const SoleUse::Scope alone(use_, "a Classifier", instead);
        return forward(images, batch);
    }

    /// Probabilities (batch, classes) on the host of device images: softmax(exp(s_s)·u_s·Wᵀ), or those of the mixture
    /// with the zero-shot student where the bundle has one. Throws Error for results that are not finite.
    std::vector<T> probabilities(const T* images, Index batch);

    /// Whether the bundle mixes the student with its zero-shot self.
    bool is_mixed() const { return mixed_ != nullptr; }
    /// Whether the student knows how familiar an image is.
    bool has_guard() const { return is_mixed() && mixed_->mixture().guard.has_value(); }
    /// The mixture; only where is_mixed().
    MixedStudent& mixed() { return *mixed_; }
    /// What makes the rows that mixed() takes; only where is_mixed().
    MixtureEncoder<D>& mixture_encoder() { return *mixture_encoder_; }
    /// What the mixture says of device images, part by part; only where is_mixed().
    MixturePrediction mix(const T* images, Index batch) {
        const SoleUse::Scope alone(use_, "a Classifier", instead);
        return predict_mixed(images, batch);
    }

private:
    static constexpr const char* instead = "give each thread its own on the same weights(), or use a ClassifierPool";

    /// What is known of a batch of images.
    struct Judged {
        std::vector<double> probabilities, weight, distance;
    };

    const Student<D>& student() const { return weights_->student(); }

    const T* forward(const T* images, Index batch) {
        require_images(*device_, images, batch, max_batch());
        arena_.reset();
        student().forward_inference(Workspace<D>{*device_, arena_}, student().pixels(images, batch),
                                    features_.matrix(batch, embed()));
        return features_.data();
    }

    MixturePrediction predict_mixed(const T* images, Index batch);
    std::vector<T> predict(const T* images, Index batch);
    Judged judge_batch(std::span<const Image> images, bool prepared = false);
    Classification ranked(const Judged& judged, std::size_t i, Index k) const;

    D* device_;
    std::shared_ptr<const ClassifierWeights<D>> weights_;
    Arena<D> arena_;
    Buffer<D, T> features_, logits_;
    std::unique_ptr<detail::ImageInput<D>> input_;  // made for the first image
    std::unique_ptr<MixedStudent> mixed_;
    std::unique_ptr<MixtureEncoder<D>> mixture_encoder_;
    SoleUse use_;
};

template <Device D>
Classifier<D>::Classifier(D& device, std::shared_ptr<const ClassifierWeights<D>> weights)
    : device_(&device), weights_(std::move(weights)), arena_(device) {
    require(weights_ != nullptr, "a Classifier without weights");
    features_ = Buffer<D, T>(device, max_batch() * embed());
    logits_ = Buffer<D, T>(device, max_batch() * classes());
    arena_.plan([&] { forward(nullptr, max_batch()); });
    if (!weights_->mixture()) return;
    const Mixture& mixture = *weights_->mixture();
    mixture_encoder_ =
        std::make_unique<MixtureEncoder<D>>(device, student(), mixture, max_batch(), weights_->plain_model());
    mixed_ = std::make_unique<MixedStudent>(mixture, weights_->mixture_vectors());
}

template <Device D>
MixturePrediction Classifier<D>::predict_mixed(const T* images, Index batch) {
    require_images(*device_, images, batch, max_batch());
    std::vector<T> rows(static_cast<std::size_t>(batch * mixture_encoder_->embed()));
    device_->download(rows.data(), mixture_encoder_->encode(images, batch), rows.size() * sizeof(T));
    return mixed_->predict(rows.data(), batch);
}

template <Device D>
std::vector<typename Classifier<D>::T> Classifier<D>::predict(const T* images, Index batch) {
    const T* features = forward(images, batch);
    cosine_logits(*device_, ConstMatrix<T>(features, batch, embed()), weights_->device_class_vectors(),
                  student().logit_scale(), logits_.matrix(batch, classes()));
    std::vector<T> p(static_cast<std::size_t>(batch * classes()));
    device_->download(p.data(), logits_.data(), p.size() * sizeof(T));
    for (Index i = 0; i < batch; ++i) softmax_on_host(p.data() + i * classes(), classes());
    return p;
}

template <Device D>
std::vector<typename Classifier<D>::T> Classifier<D>::probabilities(const T* images, Index batch) {
    const SoleUse::Scope alone(use_, "a Classifier", instead);
    std::vector<T> p;
    if (mixed_) {
        const std::vector<double> mixed = predict_mixed(images, batch).probabilities;
        p.assign(mixed.begin(), mixed.end());
    } else {
        p = predict(images, batch);
    }
    detail::require_finite(std::vector<double>(p.begin(), p.end()), classes());
    return p;
}

template <Device D>
typename Classifier<D>::Judged Classifier<D>::judge_batch(std::span<const Image> images, bool prepared) {
    const SoleUse::Scope alone(use_, "a Classifier", instead);
    if (!input_) input_ = std::make_unique<detail::ImageInput<D>>(*device_, preprocessing(), max_batch());
    const T* const pixels = prepared ? input_->upload_prepared(images) : input_->upload(images);
    const Index n = static_cast<Index>(images.size());
    Judged out;
    if (mixed_) {
        MixturePrediction mixed = predict_mixed(pixels, n);
        out = {std::move(mixed.probabilities), std::move(mixed.weight), std::move(mixed.distance)};
    } else {
        const std::vector<T> plain = predict(pixels, n);
        out.probabilities.assign(plain.begin(), plain.end());
    }
    require_intact_mappings();
    detail::require_finite(out.probabilities, classes());
    return out;
}

template <Device D>
Classification Classifier<D>::ranked(const Judged& judged, std::size_t i, Index k) const {
    Classification out;
    if (!judged.weight.empty()) {
        out.weight = judged.weight[i];
        out.distance = judged.distance[i];
    }
    const auto n = static_cast<std::size_t>(classes());
    out.top = detail::most_likely(class_names(), std::span(judged.probabilities).subspan(i * n, n), k);
    return out;
}

template <Device D>
Classification Classifier<D>::judge(const Image& image, Index k) {
    return ranked(judge_batch({&image, 1}), 0, k);
}

template <Device D>
std::vector<Classification> Classifier<D>::judge_prepared(std::span<const Image> prepared, Index k) {
    std::vector<Classification> all;
    detail::in_batches(prepared, max_batch(), [&](std::span<const Image> some) {
        const Judged judged = judge_batch(some, true);
        for (std::size_t i = 0; i < some.size(); ++i) all.push_back(ranked(judged, i, k));
    });
    return all;
}

template <Device D>
std::vector<typename Classifier<D>::T> Classifier<D>::classify(std::span<const Image> images) {
    std::vector<T> all;
    detail::in_batches(images, max_batch(), [&](std::span<const Image> some) {
        for (const double p : judge_batch(some).probabilities) all.push_back(static_cast<T>(p));
    });
    return all;
}

PROMPTKD_COMPILED_CLASS(Classifier);

}  // namespace promptkd
