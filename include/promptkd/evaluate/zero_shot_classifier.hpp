// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/image_tower.hpp>
#include <promptkd/core/sole_use.hpp>
#include <promptkd/data/class_names.hpp>
#include <promptkd/evaluate/classification.hpp>
#include <promptkd/op/formulas.hpp>

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Further settings of a ZeroShotClassifier.
struct ZeroShotOptions {
    const TensorMap* prompts = nullptr;  ///< learned visual prompts; null: none
    Index max_batch = 1;                 ///< images that are computed together
};

/// A CLIP model that takes images of any size: p = softmax(exp(s)·u·Wᵀ) over its classes. One thread at a time; several
/// may share the model, each with a device and a classifier of its own.
template <Device D>
class ZeroShotClassifier {
public:
    using T = typename D::Scalar;

    /// `class_vectors` (classes, e) are normalised, `names` those of the classes. The model outlives this. Throws Error
    /// when vectors and names do not fit together or are not finite, and for fewer than two classes.
    ZeroShotClassifier(D& device, const ClipModel<D>& model, std::vector<T> class_vectors,
                       const std::vector<std::string>& names, const ZeroShotOptions& options = {});
    ZeroShotClassifier(D& device, const ClipModel<D>&& model, std::vector<T> class_vectors,
                       const std::vector<std::string>& names, const ZeroShotOptions& options = {}) = delete;
    ZeroShotClassifier(const ZeroShotClassifier&) = delete;
    ZeroShotClassifier& operator=(const ZeroShotClassifier&) = delete;

    /// The classes, in the order of the class vectors, equal names told apart.
    const std::vector<std::string>& class_names() const { return names_; }
    /// Number of classes N.
    Index classes() const { return static_cast<Index>(names_.size()); }
    /// What the images go through.
    const Preprocessing& preprocessing() const { return tower_.preprocessing(); }

    /// Probabilities (n, N) of n images.
    std::vector<double> classify(std::span<const Image> images) {
        return probabilities(images, [&](std::span<const Image> some) { return input_.upload(some); });
    }
    /// The `k` most likely classes of an image, the likeliest first; of equal ones the first class.
    std::vector<ClassProbability> top_k(const Image& image, Index k) {
        return detail::most_likely(names_, classify({&image, 1}), k);
    }
    /// The same of several images that preprocess_image(image, preprocessing()) has made. Throws Error for images of
    /// another size.
    std::vector<Classification> judge_prepared(std::span<const Image> prepared, Index k);

private:
    /// Of images that `upload` brings to the device.
    template <class Upload>
    std::vector<double> probabilities(std::span<const Image> images, const Upload& upload);
    /// Softmax of the logits of one normalised feature, behind `p`.
    void append_probabilities(const T* feature, std::vector<double>& p) const;

    D& device_;
    std::vector<std::string> names_;
    std::vector<T> vectors_;
    FrozenImageTower<D> tower_;
    detail::ImageInput<D> input_;
    double scale_;
    std::string source_;
    SoleUse use_;
};

template <Device D>
ZeroShotClassifier<D>::ZeroShotClassifier(D& device, const ClipModel<D>& model, std::vector<T> class_vectors,
                                          const std::vector<std::string>& names, const ZeroShotOptions& options)
    : device_(device),
      names_(distinct_names(names)),
      vectors_(std::move(class_vectors)),
      tower_(device, model, options.prompts, options.max_batch),
      input_(device, model.preprocessing(), options.max_batch),
      scale_(model.logit_scale()),
      source_(model.source()) {
    require(names_.size() > 1, "there is nothing to decide with ", names_.size(),
            " class name(s); two at least are needed");
    require(vectors_.size() == names_.size() * static_cast<std::size_t>(tower_.embed()), model.source(), ": ",
            names_.size(), " classes need class vectors of ", tower_.embed(), " values each, ", vectors_.size(),
            " values are given");
    for (const T value : vectors_)
        require(std::isfinite(static_cast<double>(value)), model.source(), ": class vectors with NaN or infinity");
}

template <Device D>
std::vector<Classification> ZeroShotClassifier<D>::judge_prepared(std::span<const Image> prepared, Index k) {
    const std::vector<double> p =
        probabilities(prepared, [&](std::span<const Image> some) { return input_.upload_prepared(some); });
    std::vector<Classification> all(prepared.size());
    for (std::size_t i = 0; i < all.size(); ++i)
        all[i].top = detail::most_likely(names_, std::span(p).subspan(i * names_.size(), names_.size()), k);
    return all;
}

template <Device D>
template <class Upload>
std::vector<double> ZeroShotClassifier<D>::probabilities(std::span<const Image> images, const Upload& upload) {
    const SoleUse::Scope alone(use_, "a ZeroShotClassifier", "give each thread its own on the same model");
    std::vector<double> p;
    std::vector<T> features;
    const auto embed = static_cast<std::size_t>(tower_.embed());
    detail::in_batches(images, tower_.max_batch(), [&](std::span<const Image> some) {
        const T* const pixels = upload(some);
        features.resize(some.size() * embed);
        device_.download(features.data(), tower_.encode(pixels, static_cast<Index>(some.size())),
                         features.size() * sizeof(T));
        for (std::size_t i = 0; i < some.size(); ++i) append_probabilities(features.data() + i * embed, p);
    });
    return p;
}

template <Device D>
void ZeroShotClassifier<D>::append_probabilities(const T* feature, std::vector<double>& p) const {
    const auto first = static_cast<std::ptrdiff_t>(p.size());
    const auto embed = static_cast<std::size_t>(tower_.embed());
    for (std::size_t c = 0; c < names_.size(); ++c) {
        double dot = 0;
        for (std::size_t j = 0; j < embed; ++j)
            dot += static_cast<double>(feature[j]) * static_cast<double>(vectors_[c * embed + j]);
        p.push_back(scale_ * dot);
    }
    for (auto x = p.begin() + first; x != p.end(); ++x)
        require(std::isfinite(*x), source_, ": the model's results are not finite");
    softmax_on_host(p.data() + first, static_cast<Index>(names_.size()));
}

}  // namespace promptkd
