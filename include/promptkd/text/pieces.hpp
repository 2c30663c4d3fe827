// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>
#include <promptkd/text/cleaning.hpp>

#if defined(PROMPTKD_WITH_SENTENCEPIECE)
#include <sentencepiece_processor.h>
#endif

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace promptkd {

/// Whose treatment of a text stands in front of its division into pieces.
enum class PieceCleaning {
    huggingface,  ///< SigLIP: lower case, no ASCII punctuation, white space collapsed; SigLIP 2 (Gemma's): lower case
    open_clip     ///< repaired and unescaped as for CLIP, `_` a space, no ASCII punctuation, collapsed, lower case
};

namespace detail {

inline bool is_ascii_punctuation(char32_t c) {
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

/// Without ASCII punctuation, white space collapsed.
inline std::u32string without_punctuation(const std::u32string& text) {
    std::u32string out;
    for (const char32_t c : text)
        if (!is_ascii_punctuation(c)) out.push_back(c);
    return collapse_spaces(out);
}

/// What is divided into pieces. `gemma`: the model is Gemma's, to which punctuation and spaces matter.
inline std::string clean_for_pieces(std::string_view text, PieceCleaning cleaning, bool gemma) {
    if (cleaning == PieceCleaning::open_clip) {
        std::u32string clean = clean_text(text);
        for (char32_t& c : clean)
            if (c == '_') c = ' ';
        return encode_utf8(without_punctuation(clean));
    }
    const std::u32string lower = lower_case(decode_utf8(text));
    return encode_utf8(gemma ? lower : without_punctuation(lower));
}

/// Whether a file begins as a SentencePiece model does: a list of pieces, each with its text first.
inline bool begins_as_pieces(std::string_view file) { return file.size() > 4 && file[0] == '\n' && file[2] == '\n'; }

}  // namespace detail

/// The tokenizer of SigLIP (a unigram model) and of SigLIP 2 (Gemma's model): pieces, the end token, padding up to the
/// context, no token in front (Kudo and Richardson, SentencePiece, 2018; Zhai et al., SigLIP, 2023; Tschannen et al.,
/// SigLIP 2, 2025). Every member may be called from any number of threads at once.
class PieceTokenizer {
public:
#if defined(PROMPTKD_WITH_SENTENCEPIECE)
    /// Reads the model in `file`, the bytes of a spiece.model or tokenizer.model; `name` is used in messages. Throws
    /// Error when it is none, or has no end token.
    PieceTokenizer(std::string_view file, std::string name, PieceCleaning cleaning)
        : model_(std::make_unique<sentencepiece::SentencePieceProcessor>()),
          name_(std::move(name)),
          cleaning_(cleaning) {
        const auto status = model_->LoadFromSerializedProto(file);
        require(status.ok() && model_->GetPieceSize() > 0, name_, ": damaged, or not a SentencePiece model");
        require(model_->eos_id() >= 0, name_, ": this SentencePiece model has no end token");
    }

    /// Ids of `text` (UTF-8) alone. Throws Error when it is not UTF-8.
    std::vector<std::int32_t> encode(std::string_view text) const {
        std::vector<int> ids;
        const auto status = model_->Encode(detail::clean_for_pieces(text, cleaning_, is_gemma()), &ids);
        require(status.ok(), name_, ": cannot divide the text '", std::string(text), "'");
        return {ids.begin(), ids.end()};
    }
    /// Number of pieces.
    Index vocabulary_size() const { return model_->GetPieceSize(); }
    /// The end token.
    std::int32_t end_id() const { return model_->eos_id(); }
    /// What fills the context behind it: SigLIP's end token again, Gemma's padding.
    std::int32_t padding_id() const { return is_gemma() && model_->pad_id() >= 0 ? model_->pad_id() : end_id(); }
    /// Text of ids within the vocabulary.
    std::string decode(const std::vector<std::int32_t>& ids) const {
        std::string text;
        const auto status = model_->Decode(std::vector<int>(ids.begin(), ids.end()), &text);
        require(status.ok(), name_, ": cannot join these ids");
        return text;
    }

private:
    /// SigLIP's own models have no start token.
    bool is_gemma() const { return model_->bos_id() >= 0; }

    std::unique_ptr<sentencepiece::SentencePieceProcessor> model_;
    std::string name_;
    PieceCleaning cleaning_;
#else
    /// A build without SentencePiece reads none: Error.
    PieceTokenizer(std::string_view, const std::string& name, PieceCleaning) {
        fail(name,
             ": a SentencePiece model, but this build is without SentencePiece (Debian: libsentencepiece-dev); "
             "class vectors in a file need no tokenizer");
    }
    /// Never called: there is no such object.
    ///@{
    std::vector<std::int32_t> encode(std::string_view) const { return {}; }
    Index vocabulary_size() const { return 0; }
    std::int32_t end_id() const { return 0; }
    std::int32_t padding_id() const { return 0; }
    std::string decode(const std::vector<std::int32_t>&) const { return ""; }
    ///@}
#endif
};

}  // namespace promptkd
