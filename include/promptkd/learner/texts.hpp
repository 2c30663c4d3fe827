// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/class_texts.hpp>
#include <promptkd/clip/class_vectors.hpp>

namespace promptkd {

/// Where the class name stands: behind, in the middle of, or in front of the context vectors.
enum class ContextPosition { end, middle, front };

/// "end", "middle" or "front" (of the CLASS NAME, as published). Throws Error for any other.
inline ContextPosition parse_context_position(const std::string& name) {
    if (name == "end") return ContextPosition::end;
    if (name == "middle") return ContextPosition::middle;
    if (name == "front") return ContextPosition::front;
    fail("unknown class-name position '", name, "'; known: end, middle, front");
}

/// How a learner's texts begin, beside its Recipe.
struct ContextOptions {
    std::string words = "a photo of a";               ///< that the context starts from; empty: random vectors
    ContextPosition position = ContextPosition::end;  ///< before, around or behind the class name
    bool class_specific = false;                      ///< a context of its own for each class
    bool from_template = false;                       ///< texts without a context are the hand-written one
    std::string hand_written;  ///< text that knowledge-guided learners keep close to; empty: "a photo of a {}."
};

/// Texts with the places of their learnable context vectors.
struct ContextTexts {
    TokenRows tokens;      ///< one row a class
    ContextLayout layout;  ///< where the context stands in them
};

/// Rearranges texts "<n context words> <name>." for a context position. `name_lengths`: tokens of each class name,
/// without the final ".".
///   end: ctx, name, "."    middle: ctx[:n/2], name, ctx[n/2:], "."    front: name, ctx, "."
/// The number of tokens, and so the place of EOT, does not change. Source: CoOp, section 3.2 and its published prompt
/// learner.
inline ContextTexts arrange_context(TokenRows tokens, Index n, const std::vector<Index>& name_lengths,
                                    const ContextOptions& options) {
    ContextTexts out;
    out.layout.vectors = n;
    out.layout.class_specific = options.class_specific;
    const ContextPosition position = options.position;
    const Index before = position == ContextPosition::end ? n : position == ContextPosition::middle ? n / 2 : 0;
    for (Index i = 0; i < tokens.count; ++i) {
        const Index end = tokens.end_of_text(i);
        require(1 + n <= end, "text ", i, " has ", end - 1, " tokens, fewer than its ", n, " context vectors");
        const Index name = position == ContextPosition::end ? 0 : name_lengths.at(static_cast<std::size_t>(i));
        require(1 + n + name <= end, "text ", i, ": a name of ", name, " tokens does not fit before its end (token ",
                end, ")");
        const auto row = tokens.ids.begin() + static_cast<std::ptrdiff_t>(i * tokens.context_length);
        // [SOT | n context | name | rest]: the name moves in front of the last n − before context tokens.
        std::rotate(row + static_cast<std::ptrdiff_t>(1 + before), row + static_cast<std::ptrdiff_t>(1 + n),
                    row + static_cast<std::ptrdiff_t>(1 + n + name));
        for (Index k = 0; k < n; ++k)
            out.layout.positions.push_back(static_cast<std::int32_t>(1 + k + (k < before ? 0 : name)));
    }
    out.tokens = std::move(tokens);
    return out;
}

/// A frozen CLIP model with its tokenizer, by which class names become texts (null: there are token rows only). All
/// outlive their users.
template <Device D>
struct FrozenClip {
    D& device;                             ///< where it lives
    const ClipModel<D>& model;             ///< the model
    const Tokenizer* tokenizer = nullptr;  ///< null where only the model is needed

    /// The texts `pattern` with each of `names` in the place of {}.
    TokenRows tokenize(const std::vector<std::string>& names, const std::string& pattern) const {
        require(tokenizer != nullptr, model.source(), ": there is no tokenizer for class names");
        return tokenize_classes(*tokenizer, model.text().config(), model.source(), names, pattern);
    }
};

/// "<context words> <name>." for each class, with places for `vectors` learnable vectors (0: the texts stay as they
/// are). Throws Error where a text is too short for them.
template <Device D>
ContextTexts context_texts(const FrozenClip<D>& clip, const std::vector<std::string>& names, Index vectors,
                           const ContextOptions& options) {
    std::string words = options.words;
    if (words.empty() && vectors > 0) {
        words = "X";
        for (Index i = 1; i < vectors; ++i) words += " X";
    }
    if (words.empty()) words = "a photo of a";
    const bool given = options.from_template && vectors == 0 && !options.hand_written.empty();
    ContextTexts out;
    out.tokens = clip.tokenize(names, given ? options.hand_written : words + " {}.");
    if (vectors == 0) return out;
    require(
        clip.tokenizer->has_start(), clip.model.source(),
        ": its texts have no start token, behind which learned context vectors would stand; visual prompts (vpt) can "
        "be learned for this model");
    std::vector<Index> lengths;
    for (const std::string& name : names)
        lengths.push_back(static_cast<Index>(clip.tokenizer->encode(readable_name(name)).size()));
    return arrange_context(std::move(out.tokens), vectors, lengths, options);
}

/// Embeddings (vectors · d_t values) of the first context words, which the context starts from; empty for random ones.
/// Throws Error for fewer words than vectors.
template <Device D>
std::vector<typename D::Scalar> initial_context(const FrozenClip<D>& clip, Index vectors,
                                                const ContextOptions& options) {
    if (options.words.empty() || vectors == 0) return {};
    require(clip.tokenizer != nullptr, clip.model.source(), ": there is no tokenizer for context words");
    std::vector<std::int32_t> ids = clip.tokenizer->encode(options.words);
    const auto n = static_cast<std::size_t>(vectors);
    require(ids.size() >= n, "the context words '", options.words, "' are ", ids.size(), " tokens, fewer than the ", n,
            " context vectors; give more words, or none for random vectors");
    ids.resize(n);
    return clip.model.text().embed_tokens(ids);
}

/// The frozen model's text features (classes, embed), un-normalised, averaged over several texts of each class:
/// `texts` holds the rows of all classes for each of them.
template <Device D>
std::vector<typename D::Scalar> mean_text_features(D& device, const ClipModel<D>& model,
                                                   const std::vector<TokenRows>& texts) {
    std::vector<typename D::Scalar> all;
    for (const TokenRows& rows : texts) {
        const auto part = encode_texts(device, model, rows);
        all.insert(all.end(), part.begin(), part.end());
    }
    const Index count = static_cast<Index>(texts.size());
    return average_rows(all, count, static_cast<Index>(all.size()) / count);
}

/// The same for class names and patterns ("a photo of a {}."), normalised.
template <Device D, class Patterns>
std::vector<typename D::Scalar> frozen_class_features(const FrozenClip<D>& clip, const std::vector<std::string>& names,
                                                      const Patterns& patterns) {
    std::vector<TokenRows> texts;
    for (const auto& pattern : patterns) texts.push_back(clip.tokenize(names, pattern));
    std::vector<typename D::Scalar> mean = mean_text_features(clip.device, clip.model, texts);
    normalize_rows(mean, clip.model.text().embed());
    return mean;
}

/// What a trainer learns with: the class prompts, and where the learner is regularised with it the frozen model's class
/// features (classes, embed), normalised; empty for evaluation.
template <class T>
struct LearnerTexts {
    ContextTexts prompts;   ///< the class prompts
    std::vector<T> frozen;  ///< frozen class features (N, e), where the learner keeps close to them
};

}  // namespace promptkd
