// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/class_names.hpp>
#include <promptkd/evaluate/zero_shot_classifier.hpp>
#include <promptkd/experiment/models.hpp>

#include <optional>
#include <span>
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
    Index max_batch = 1;                            ///< images that are computed together
};

/// A CLIP model as a classifier, from its files: see ZeroShotClassifier.
template <Device D>
class ClipImageClassifier {
public:
    using T = typename D::Scalar;

    /// Loads the model and makes the class vectors. Throws Error for fewer than two classes and for what does not fit
    /// together.
    ClipImageClassifier(D& device, const ClipClassifierSpec& spec, Observer& observer = silent_observer())
        : model_(device, adapted_model(spec, prompts_, observer), spec.storage) {
        const std::vector<std::string> names = distinct_names(spec.class_names.names, spec.class_names.ids);
        const TensorMap* const learned = prompts_ ? &*prompts_ : nullptr;
        const Tokenizer tokenizer = load_tokenizer(spec.vocabulary, spec.model.path, spec.text.truncate);
        const ClassTexts texts{spec.class_names.names, spec.pattern, spec.vocabulary, spec.text};
        classifier_.emplace(device, model_, text_features(device, model_, tokenizer, texts, learned), names,
                            ZeroShotOptions{learned, spec.max_batch});
    }

    /// The classes, in label order, equal names told apart.
    const std::vector<std::string>& class_names() const { return classifier_->class_names(); }
    /// What the images go through.
    const Preprocessing& preprocessing() const { return classifier_->preprocessing(); }

    /// As a Classifier's: there is neither a guard nor a mixture.
    static bool has_guard() { return false; }
    /// The same.
    static bool is_mixed() { return false; }

    /// The `k` most likely classes of an image, the likeliest first; of equal ones the first class.
    Classification judge(const Image& image, Index k) { return {classifier_->top_k(image, k)}; }
    /// The same of several images that preprocess_image(image, preprocessing()) has made.
    std::vector<Classification> judge_prepared(std::span<const Image> prepared, Index k) {
        return classifier_->judge_prepared(prepared, k);
    }

private:
    static TensorMap adapted_model(const ClipClassifierSpec& spec, std::optional<TensorMap>& prompts,
                                   Observer& observer) {
        TensorMap weights = load_model(spec.model, observer);
        prompts = adapt_model(weights, spec.prompts, observer);
        return weights;
    }

    std::optional<TensorMap> prompts_;
    ClipModel<D> model_;
    std::optional<ZeroShotClassifier<D>> classifier_;
};

}  // namespace promptkd
