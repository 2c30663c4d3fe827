// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/image_tower.hpp>
#include <promptkd/core/image.hpp>
#include <promptkd/data/class_names.hpp>
#include <promptkd/evaluate/classification.hpp>
#include <promptkd/experiment/models.hpp>
#include <promptkd/image/preprocess.hpp>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

namespace promptkd {

/// A CLIP model as a classifier: its weights, the classes, how their texts are made.
struct ClipClassifierSpec {
    ModelFile model;                                ///< the model
    std::string prompts;                            ///< file of learned prompts; empty: none
    std::string vocabulary;                         ///< the tokenizer's file; empty: the one beside the weights
    std::string pattern = "a photo of a {}.";       ///< of the class texts, "{}" standing for the name
    TextOptions text;                               ///< what else the texts are
    ClassNames class_names;                         ///< two or more
    WeightStorage storage = WeightStorage::packed;  ///< of the image encoder
};

/// A CLIP model that takes decoded images one at a time: p = softmax(exp(s)·u·Wᵀ) over its classes.
template <Device D>
class ClipImageClassifier {
public:
    using T = typename D::Scalar;

    /// Loads the model and makes the class vectors. Throws Error for fewer than two classes and for what does not fit
    /// together.
    ClipImageClassifier(D& device, const ClipClassifierSpec& spec, Observer& observer = silent_observer())
        : device_(device),
          model_(device, adapted_model(spec, prompts_, observer), spec.storage),
          names_(distinct_names(spec.class_names.names, spec.class_names.ids)) {
        require(names_.size() > 1, "there is nothing to decide with ", names_.size(),
                " class name(s); two at least are needed");
        const TensorMap* prompts = prompts_ ? &*prompts_ : nullptr;
        const Tokenizer tokenizer = load_tokenizer(spec.vocabulary, spec.model.path, spec.text.truncate);
        const ClassTexts texts{spec.class_names.names, spec.pattern, spec.vocabulary, spec.text};
        vectors_ = text_features(device, model_, tokenizer, texts, prompts);
        tower_.emplace(device, model_, prompts, 1);
        pixels_.resize(static_cast<std::size_t>(values()));
        images_ = Buffer<D, T>(device, values());
    }

    /// The classes, in label order, equal names told apart.
    const std::vector<std::string>& class_names() const { return names_; }

    /// As a Classifier's: there is neither a guard nor a mixture.
    static bool has_guard() { return false; }
    /// The same.
    static bool is_mixed() { return false; }

    /// The `top` most likely classes of an image, the likeliest first; of equal ones the first class.
    std::vector<ClassProbability> classify(const Image& image, Index top) { return judge(image, top).top; }

    /// The same.
    Classification judge(const Image& image, Index top) {
        const Preprocessing& input = model_.preprocessing();
        normalize_image(preprocess_image(image, input), pixels_.data(), input);
        const std::vector<T> converted(pixels_.begin(), pixels_.end());
        device_.upload(images_.data(), converted.data(), converted.size() * sizeof(T));
        std::vector<T> feature(static_cast<std::size_t>(tower_->embed()));
        device_.download(feature.data(), tower_->encode(images_.data(), 1), feature.size() * sizeof(T));
        Classification found;
        found.top = detail::most_likely(names_, probabilities(feature), top);
        return found;
    }

private:
    static TensorMap adapted_model(const ClipClassifierSpec& spec, std::optional<TensorMap>& prompts,
                                   Observer& observer) {
        TensorMap weights = load_model(spec.model, observer);
        prompts = adapt_model(weights, spec.prompts, observer);
        return weights;
    }

    Index values() const { return 3 * tower_->resolution() * tower_->resolution(); }

    /// Softmax of the logits of one normalised feature.
    std::vector<double> probabilities(const std::vector<T>& feature) const {
        std::vector<double> p;
        for (std::size_t c = 0; c < names_.size(); ++c) {
            double dot = 0;
            for (std::size_t j = 0; j < feature.size(); ++j)
                dot += static_cast<double>(feature[j]) * static_cast<double>(vectors_[c * feature.size() + j]);
            p.push_back(model_.logit_scale() * dot);
        }
        const double most = *std::max_element(p.begin(), p.end());
        require(std::isfinite(most), model_.source(), ": the model's results are not finite");
        double sum = 0;
        for (double& x : p) {
            x = std::exp(x - most);
            sum += x;
        }
        for (double& x : p) x /= sum;
        return p;
    }

    D& device_;
    std::optional<TensorMap> prompts_;
    ClipModel<D> model_;
    std::vector<std::string> names_;
    std::vector<T> vectors_;
    std::optional<FrozenImageTower<D>> tower_;
    std::vector<float> pixels_;
    Buffer<D, T> images_;
};

}  // namespace promptkd
