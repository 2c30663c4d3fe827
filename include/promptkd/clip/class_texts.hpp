// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/config.hpp>
#include <promptkd/text/class_names.hpp>
#include <promptkd/text/token_rows.hpp>
#include <promptkd/text/tokenizer.hpp>

namespace promptkd {

/// Texts tokenised for a text encoder of these sizes. `model` names the model in messages. Throws Error when the
/// vocabulary is not the model's or a text is too long.
inline TokenRows tokenize_classes(const Tokenizer& tokenizer, const TextConfig& text, const std::string& model,
                                  const std::vector<std::string>& texts) {
    tokenizer.require_fits(text.vocabulary, model);
    TokenRows rows;
    rows.context_length = text.context_length;
    for (const std::string& one : texts) {
        const auto ids = tokenizer.tokenize(one, text.context_length);
        rows.ids.insert(rows.ids.end(), ids.begin(), ids.end());
        ++rows.count;
    }
    return rows;
}

/// The same of the prompt texts `pattern` ("a photo of a {}.") of `names`.
inline TokenRows tokenize_classes(const Tokenizer& tokenizer, const TextConfig& text, const std::string& model,
                                  const std::vector<std::string>& names, const std::string& pattern) {
    std::vector<std::string> texts;
    for (const std::string& name : names) texts.push_back(prompt_text(pattern, name));
    return tokenize_classes(tokenizer, text, model, texts);
}

}  // namespace promptkd
