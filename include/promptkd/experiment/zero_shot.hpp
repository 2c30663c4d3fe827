// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/image_tower.hpp>
#include <promptkd/device/compiled.hpp>
#include <promptkd/experiment/data.hpp>
#include <promptkd/experiment/evaluation.hpp>
#include <promptkd/experiment/models.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Labelled images to evaluate on.
struct EvaluationData {
    std::string source;                 ///< "NAME:ROOT", see open_dataset()
    Split part = Split::test;           ///< of the data set
    ClassNames class_names;             ///< in label order; empty: those of the data set
    Index images = 0;                   ///< so many alone, see limited(); 0: all
    double holdout = 0;                 ///< those held out of the training part with this `seed`; 0: none
    std::uint64_t seed = 1;             ///< of both draws
    std::optional<ClassSubset> subset;  ///< of one half alone; empty: all classes and both halves

    /// The images; `names` instead of class_names where they are given, class_names being their ids. Throws Error for
    /// unlabelled images and for a single class.
    Dataset open(Observer& observer, const std::vector<std::string>& names = {}) const {
        const ClassNames classes = names.empty() ? class_names : class_names.renamed(names);
        const Split split = holdout > 0 ? Split::train : part;
        Dataset all = open_dataset(source, split, classes, FolderLabels::required, teller(observer));
        require_classes(all);
        if (holdout > 0) all = hold_out_of(source, all, holdout, seed).test;
        return limited(source, std::move(all), images, seed);
    }
};

/// CLIP's accuracy from class names alone, with or without learned prompts.
struct ZeroShotSpec {
    ModelFile model;         ///< the model
    std::string prompts;     ///< file of learned prompts; empty: none
    std::string vocabulary;  ///< file of the tokenizer's BPE merges
    std::string pattern;     ///< of the class texts, "{}" standing for the name; empty: the data set's own
    TextOptions text;        ///< what else the texts are
    EvaluationData data;     ///< images and classes
    Index batch = 64;        ///< images at a time
    WeightStorage storage = WeightStorage::packed;  ///< of the image encoder
};

/// A CLIP model with fixed prompts, which may be null, on any labelled images.
template <Device D>
class ZeroShot {
public:
    using T = typename D::Scalar;

    /// All references must outlive this. `stage` is the observer's name for an evaluation.
    ZeroShot(D& device, const ClipModel<D>& model, const TensorMap* prompts, const EncodingStage& stage)
        : device_(device),
          model_(model),
          prompts_(prompts),
          stage_(stage),
          tower_(device, model, prompts, stage.batch) {}

    /// Results on `data`, whose class names `pattern` and `text` make texts of.
    EvaluationResult evaluate(const Dataset& data, const Tokenizer& tokenizer, const std::string& pattern,
                              std::optional<ClassSubset> subset = {}, const TextOptions& text = {}) {
        const ClassTexts texts{data.class_names, pattern, "", text};
        const std::vector<T> vectors = text_features(device_, model_, tokenizer, texts, prompts_);
        const FeatureSet<T> features = encode_images(device_, tower_, data, stage_);
        return evaluate_features(device_, features, vectors, distinct_names(data.class_names, data.class_ids), subset);
    }

private:
    D& device_;
    const ClipModel<D>& model_;
    const TensorMap* prompts_;
    EncodingStage stage_;
    FrozenImageTower<D> tower_;
};

/// Evaluates as `spec` says.
template <Device D>
EvaluationResult run(D& device, const ZeroShotSpec& spec, Observer& observer = silent_observer()) {
    TensorMap weights = load_model(spec.model, observer);
    const std::optional<TensorMap> prompts = adapt_model(weights, spec.prompts, observer);
    const ClipModel<D> model(device, weights, spec.storage);
    const Dataset data = spec.data.open(observer);
    const Tokenizer tokenizer = load_tokenizer(spec.vocabulary, spec.model.path, spec.text.truncate);
    ZeroShot<D> clip(device, model, prompts ? &*prompts : nullptr,
                     {"zero-shot", fitting_batch(spec.batch, data), observer});
    const std::string pattern = spec.pattern.empty() ? default_template(spec.data.source) : spec.pattern;
    return clip.evaluate(data, tokenizer, pattern, spec.data.subset, spec.text);
}

PROMPTKD_COMPILED_FUNCTION(EvaluationResult run(Cpu<float>&, const ZeroShotSpec&, Observer&));

}  // namespace promptkd
