// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/image_tower.hpp>
#include <promptkd/data/open.hpp>
#include <promptkd/device/compiled.hpp>
#include <promptkd/experiment/evaluation.hpp>
#include <promptkd/experiment/models.hpp>

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Labelled images to evaluate on.
struct EvaluationData {
    std::string source;                    ///< "NAME:ROOT", see open_dataset()
    Split part = Split::test;              ///< of the data set
    std::vector<std::string> class_names;  ///< in label order; empty: those of the data set
    Index images = 0;                      ///< only the first so many; 0: all
    std::optional<ClassSubset> subset;     ///< of one half alone; empty: all classes and both halves

    /// The images; `names` instead of class_names where they are given.
    Dataset open(const std::vector<std::string>& names = {}) const {
        Dataset all = open_dataset(source, part, names.empty() ? class_names : names);
        return images > 0 ? take(std::move(all), images) : all;
    }
};

/// CLIP's accuracy from class names alone, with or without learned prompts.
struct ZeroShotSpec {
    ModelFile model;         ///< the model
    std::string prompts;     ///< file of learned prompts; empty: none
    std::string vocabulary;  ///< file of the tokenizer's BPE merges
    std::string pattern;     ///< of the class texts, "{}" standing for the name; empty: the data set's own
    EvaluationData data;     ///< images and classes
    Index batch = 64;        ///< images at a time
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

    /// Results on `data`, whose class names `pattern` makes texts of.
    EvaluationResult evaluate(const Dataset& data, const Tokenizer& tokenizer, const std::string& pattern,
                              std::optional<ClassSubset> subset = {}) {
        const TokenRows tokens =
            tokenize_classes(tokenizer, model_.text().config(), model_.source(), data.class_names, pattern);
        const std::vector<T> vectors = class_vectors(device_, model_, tokens, prompts_);
        const FeatureSet<T> features = encode_images(device_, tower_, data, stage_);
        return evaluate_features(device_, features, vectors, data.class_names, subset);
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
    const TensorMap weights = load_weights(spec.model, observer);
    const ClipModel<D> model(device, weights, WeightStorage::packed);
    std::optional<TensorMap> prompts;
    if (!spec.prompts.empty()) prompts = load_prompts(spec.prompts, observer);
    const Dataset data = spec.data.open();
    const Tokenizer tokenizer = load_tokenizer(spec.vocabulary);
    ZeroShot<D> clip(device, model, prompts ? &*prompts : nullptr, {"zero-shot", spec.batch, observer});
    const std::string pattern = spec.pattern.empty() ? default_template(spec.data.source) : spec.pattern;
    return clip.evaluate(data, tokenizer, pattern, spec.data.subset);
}

PROMPTKD_COMPILED_FUNCTION(EvaluationResult run(Cpu<float>&, const ZeroShotSpec&, Observer&));

}  // namespace promptkd
