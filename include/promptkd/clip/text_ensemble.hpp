// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/class_texts.hpp>
#include <promptkd/clip/class_vectors.hpp>

#include <string>
#include <vector>

namespace promptkd {

/// Class vectors (classes, e) of several texts a class: w = Σ u_t/‖u_t‖, scaled to unit length, u_t being the features
/// of the class's text t (CLIP, section 3.1.4: ensembles of prompts, averaged in the space of the features).
template <Device D>
std::vector<typename D::Scalar> ensemble_vectors(D& device, const ClipModel<D>& model, const Tokenizer& tokenizer,
                                                 const std::vector<std::vector<std::string>>& texts) {
    using T = typename D::Scalar;
    const Index embed = model.text().embed();
    std::vector<T> vectors;
    for (const std::vector<std::string>& of_class : texts) {
        const TokenRows rows = tokenize_classes(tokenizer, model.text().config(), model.source(), of_class);
        std::vector<T> features = encode_texts(device, model, rows);
        normalize_rows(features, embed);
        const std::vector<T> mean = average_rows(features, rows.count, embed);
        vectors.insert(vectors.end(), mean.begin(), mean.end());
    }
    normalize_rows(vectors, embed);
    return vectors;
}

/// Normalised class vectors (names, e) of class names in one or several templates, "{}" standing for the name: what
/// zero-shot classification and a distillation need. `prompts` may be null or hold learned text prompts. Throws Error
/// without names or templates, for texts that are too long, and for several templates with learned text prompts, which
/// stand in the place of one prompt's words.
template <Device D>
std::vector<typename D::Scalar> class_vectors(D& device, const ClipModel<D>& model, const Tokenizer& tokenizer,
                                              const std::vector<std::string>& names,
                                              const std::vector<std::string>& templates = {"a photo of a {}."},
                                              const TensorMap* prompts = nullptr) {
    require(!names.empty(), "class vectors of no class name");
    require(!templates.empty(), "class vectors need a template, such as \"a photo of a {}.\"");
    if (templates.size() == 1) {
        const TextConfig& text = model.text().config();
        const TokenRows rows = tokenize_classes(tokenizer, text, model.source(), names, templates.front());
        return class_vectors(device, model, rows, prompts);
    }
    require(prompts == nullptr || text_prompt_design(*prompts).tokens == 0,
            "several texts a class do not go with learned text prompts, which were learned for one prompt");
    std::vector<std::vector<std::string>> texts(names.size());
    for (std::size_t c = 0; c < names.size(); ++c)
        for (const std::string& pattern : templates) texts[c].push_back(prompt_text(pattern, names[c]));
    return ensemble_vectors(device, model, tokenizer, texts);
}

}  // namespace promptkd
