// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/explain.hpp>
#include <promptkd/clip/checkpoint/weights_file.hpp>
#include <promptkd/clip/class_texts.hpp>
#include <promptkd/clip/lora_merge.hpp>
#include <promptkd/clip/text_ensemble.hpp>
#include <promptkd/data/descriptions.hpp>
#include <promptkd/experiment/observer.hpp>
#include <promptkd/learner/registry.hpp>
#include <promptkd/text/tokenizer_files.hpp>

#include <cmath>
#include <string>
#include <vector>

namespace promptkd {

/// A CLIP model on the disk.
struct ModelFile {
    std::string path;               ///< weights in any form that read_weights() knows
    std::string config;             ///< the model's JSON; empty: the one beside the weights, if any
    std::string activation;         ///< "quick_gelu" or "gelu", where the files do not tell
    SettingNames names = {};        ///< what messages call the two
    ImageInputOptions images = {};  ///< what its images go through, in place of what the files say
};

/// How texts are made of class names, beside a single prompt.
struct TextOptions {
    /// Prompts of an ensemble, "{}" standing for the name; empty: the single prompt.
    std::vector<std::string> templates;
    std::string descriptions;  ///< JSON file {"class": ["a sentence", …]}: sentences that stand in place of the prompt,
                               ///< or join the templates where there are some; empty: none
    bool truncate = false;  ///< texts longer than the model's context are cut, not refused
};

/// Class names as texts that a text encoder reads.
struct ClassTexts {
    std::vector<std::string> names;  ///< of the classes, in label order
    std::string pattern;             ///< the prompt, "{}" standing for the name
    std::string vocabulary;          ///< file of the tokenizer's BPE merges
    TextOptions options = {};        ///< what else the texts are

    /// Whether each class has one text.
    bool single() const { return options.templates.empty() && options.descriptions.empty(); }
};

namespace detail {

inline TensorMap load_file(const ModelFile& model, bool require_activation, Observer& observer) {
    WeightsOptions options;
    options.activation = model.activation;
    options.config = model.config;
    options.names = model.names;
    options.images = model.images;
    options.require_activation = require_activation;
    options.learner_of = &name_of_learner;
    options.warn = [&observer](const std::string& text) { observer.on_warning(text); };
    return read_weights(model.path, options);
}

}  // namespace detail

/// The weights of a model. Throws Error as read_weights() does.
inline TensorMap load_weights(const ModelFile& model, Observer& observer) {
    return detail::load_file(model, true, observer);
}

/// Throws Error unless `map` is of the kind that is needed, saying what it is instead.
inline void require_kind(const TensorMap& map, WeightsKind kind, const char* expected) {
    const WeightsKind found = classify_weights(map);
    if (found == kind) return;
    if (found == WeightsKind::tensors) fail(map.source, ": not ", expected, ": ", describe_tensors(map));
    const auto learner = map.metadata.find("learner");
    const char* const what = found == WeightsKind::clip     ? "a CLIP model"
                             : found == WeightsKind::bundle ? "a student bundle, which evaluate and classify take"
                                                            : "learned parameters";
    fail(map.source, ": ", what,
         found == WeightsKind::learner && learner != map.metadata.end() ? " (" + learner->second + ")" : std::string(),
         ", not ", expected);
}

/// The weights of a CLIP model. Throws Error for any other file, saying what it is, and for tensors of the model that
/// would not be used.
inline TensorMap load_model(const ModelFile& model, Observer& observer) {
    TensorMap map = load_weights(model, observer);
    require_kind(map, WeightsKind::clip, "a CLIP model");
    require_all_used(map);
    return map;
}

/// A student bundle. Throws Error for any other file, saying what it is.
inline TensorMap load_bundle(const std::string& path, const ImageInputOptions& images, Observer& observer) {
    TensorMap map = detail::load_file({path, "", "", {}, images}, false, observer);
    require_kind(map, WeightsKind::bundle, "a student bundle");
    return map;
}

/// Tensors in any format that the library reads: prompts, a checkpoint, a bundle.
inline TensorMap load_tensors(const std::string& path, Observer& observer) {
    return detail::load_file(ModelFile{path, "", ""}, false, observer);
}

/// Learned prompts of any published method as fixed prompts of the two branches. Throws Error for another kind of file,
/// saying what it is.
inline TensorMap load_prompts(const std::string& path, Observer& observer) {
    const TensorMap map = load_tensors(path, observer);
    if (classify_weights(map) != WeightsKind::tensors) require_kind(map, WeightsKind::learner, "learned prompts");
    require(!detail::holds_any(map, projector_prefix), map.source,
            ": a PromptKD student, not learned prompts: its projector and class vectors would be missing; evaluate "
            "tests it");
    return fixed_prompts(map);
}

/// What was learned for the model `weights`: prompts that it is used with, or low-rank updates of both branches, which
/// are added to the weights; nothing is left of them then. Nothing for an empty path.
inline std::optional<TensorMap> adapt_model(TensorMap& weights, const std::string& path, Observer& observer) {
    if (path.empty()) return std::nullopt;
    TensorMap learned = load_prompts(path, observer);
    if (!detail::holds_any(learned, text_lora_prefix)) return learned;
    merge_lora(weights, learned, {lora_prefix, &schema::vision_transformer, std::nullopt});
    merge_lora(weights, learned, {text_lora_prefix, &schema::text_transformer, std::nullopt});
    return std::nullopt;
}

/// The tokenizer in `path`, else the one beside the weights `model`. Throws Error when there is none, and when the
/// model's files name one of another kind.
inline Tokenizer load_tokenizer(const std::string& path, const std::string& model = "", bool truncate = false) {
    Tokenizer tokenizer = read_model_tokenizer(path, model);
    if (truncate) tokenizer.cut_long_texts();
    return tokenizer;
}

/// Class vectors (classes, embed; 0: any size) from a file (tensor `class_vectors`). Throws Error when they do not
/// belong to these classes or are not normalised.
inline HostTensor load_class_vectors(const std::string& path, Index classes, Index embed, Observer& observer) {
    const TensorMap map = load_tensors(path, observer);
    require(map.contains("class_vectors"), map.source, ": no class vectors: ", describe_tensors(map));
    const HostTensor& vectors = map.at("class_vectors");
    const Index size = embed > 0 || vectors.shape.size() != 2 ? embed : vectors.shape[1];
    require(vectors.shape == Shape{classes, size}, path, ": 'class_vectors' has shape ", to_string(vectors.shape),
            ", expected ", to_string(Shape{classes, size}), " for ", classes, " class names",
            embed > 0 ? " and this teacher" : "");
    const std::vector<double> values = vectors.to<double>();
    for (Index i = 0; i < classes; ++i) {
        double square = 0;
        for (Index j = 0; j < size; ++j) square += std::pow(values[static_cast<std::size_t>(i * size + j)], 2);
        require(std::abs(square - 1) < 1e-2, path, ": row ", i, " of 'class_vectors' has length ", std::sqrt(square),
                ", expected 1: class vectors are normalised text features");
    }
    return vectors;
}

/// The texts of each class: those of the ensemble and its descriptions. Throws Error naming classes without any.
inline std::vector<std::vector<std::string>> texts_of_classes(const ClassTexts& texts) {
    std::vector<std::vector<std::string>> all(texts.names.size());
    for (std::size_t c = 0; c < all.size(); ++c)
        for (const std::string& pattern : texts.options.templates)
            all[c].push_back(prompt_text(pattern, texts.names[c]));
    if (texts.options.descriptions.empty()) return all;
    const auto sentences = read_descriptions(texts.options.descriptions, texts.names);
    for (std::size_t c = 0; c < all.size(); ++c) all[c].insert(all[c].end(), sentences[c].begin(), sentences[c].end());
    return all;
}

/// Normalised text features (classes, e) of class names by a tokenizer; `prompts` may be null. Throws Error for several
/// texts a class and learned text prompts, which stand in the place of one prompt's words.
template <Device D>
std::vector<typename D::Scalar> text_features(D& device, const ClipModel<D>& model, const Tokenizer& tokenizer,
                                              const ClassTexts& texts, const TensorMap* prompts) {
    if (texts.single()) return class_vectors(device, model, tokenizer, texts.names, {texts.pattern}, prompts);
    require(prompts == nullptr || text_prompt_design(*prompts).tokens == 0,
            "several texts a class do not go with learned text prompts, which were learned for one prompt");
    return ensemble_vectors(device, model, tokenizer, texts_of_classes(texts));
}

/// The same with the tokenizer of `texts`, else the one beside the model.
template <Device D>
std::vector<typename D::Scalar> text_features(D& device, const ClipModel<D>& model, const ClassTexts& texts,
                                              const TensorMap* prompts) {
    const Tokenizer tokenizer = load_tokenizer(texts.vocabulary, model.source(), texts.options.truncate);
    auto vectors = text_features(device, model, tokenizer, texts, prompts);
    const std::size_t width = vectors.size() / texts.names.size();
    for (std::size_t k = 0; k < vectors.size(); ++k)
        require(std::isfinite(static_cast<double>(vectors[k])), model.source(),
                ": the text branch makes NaN or infinity of the class '", texts.names[k / width], "'");
    return vectors;
}

}  // namespace promptkd
