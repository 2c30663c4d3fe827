// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>
#include <promptkd/format/text_file.hpp>
#include <promptkd/text/bpe.hpp>
#include <promptkd/text/cleaning.hpp>
#include <promptkd/text/pieces.hpp>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace promptkd {

namespace detail {

/// The character that stands for each byte in a merges file, and the ids of the bytes: printable bytes are themselves
/// and come first, the others are written U+0100, U+0101, … in ascending order.
struct ByteAlphabet {
    std::array<std::int32_t, 256> id_of_byte{};
    std::array<char32_t, 256> character_of_id{};
    std::unordered_map<char32_t, unsigned char> byte_of_character;

    ByteAlphabet() {
        std::int32_t id = 0;
        const auto printable = [](int b) {
            return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
        };
        const auto add = [&](int byte, char32_t character) {
            id_of_byte[static_cast<std::size_t>(byte)] = id;
            character_of_id[static_cast<std::size_t>(id++)] = character;
            byte_of_character.emplace(character, static_cast<unsigned char>(byte));
        };
        for (int b = 0; b < 256; ++b)
            if (printable(b)) add(b, static_cast<char32_t>(b));
        char32_t substitute = 256;
        for (int b = 0; b < 256; ++b)
            if (!printable(b)) add(b, substitute++);
    }
};

inline const ByteAlphabet& byte_alphabet() {
    static const ByteAlphabet alphabet;
    return alphabet;
}

/// The first `limit` bytes of `text` for a message, cut between characters.
inline std::string excerpt(std::string_view text, std::size_t limit = 60) {
    if (text.size() <= limit) return std::string(text);
    while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xc0) == 0x80) --limit;
    return std::string(text.substr(0, limit)) + "…";
}

/// Length of `literal` (lower-case ASCII) at text[at], ignoring case as the published pattern does, or 0. Text is in
/// lower case already; only 'ſ' still equals 's'.
inline std::size_t match_folded(const std::u32string& text, std::size_t at, std::string_view literal) {
    if (text.size() - at < literal.size()) return 0;
    for (std::size_t i = 0; i < literal.size(); ++i) {
        const char32_t c = text[at + i], want = static_cast<unsigned char>(literal[i]);
        if (c != want && !(c == 0x17f && want == 's')) return 0;
    }
    return literal.size();
}

inline constexpr std::string_view start_of_text = "<|startoftext|>", end_of_text = "<|endoftext|>";

/// Length of the word that starts at text[at] by the pattern of the class comment; 0 for characters it skips.
inline std::size_t word_length(const std::u32string& text, std::size_t at) {
    constexpr std::string_view literals[] = {start_of_text, end_of_text, "'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    if (text[at] == '<' || text[at] == '\'')
        for (const std::string_view literal : literals)
            if (const std::size_t n = match_folded(text, at, literal)) return n;
    // U+0345 is a mark whose case variants are letters: ignoring case, neither the letters' class nor its complement
    // matches it, so the published pattern drops it.
    const auto other = [](char32_t c) { return !is_space(c) && !is_letter(c) && !is_number(c) && c != 0x345; };
    std::size_t end = at;
    if (is_letter(text[at])) {
        while (end < text.size() && is_letter(text[end])) ++end;
    } else if (is_number(text[at])) {
        ++end;
    } else {
        while (end < text.size() && other(text[end])) ++end;
    }
    return end - at;
}

}  // namespace detail

/// CLIP's byte-level BPE tokenizer (Radford et al., "Learning Transferable Visual Models From Natural Language
/// Supervision", 2021; the published code's `SimpleTokenizer`), with any merges file of that form.
///
/// Ids: 256 bytes, the same 256 ending a word, one for each merge, SOT, EOT. Text is repaired, HTML-unescaped,
/// white space collapsed and lower-cased (clip/text_cleaning.hpp), then split, ignoring case, by
/// `<|startoftext|>|<|endoftext|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`.
/// Or the tokenizer of a SigLIP model, see PieceTokenizer. Every const member may be called from any number of threads
/// at once.
class Tokenizer {
public:
    /// The tokenizer of a SigLIP model; `name` is used in messages.
    static Tokenizer from_pieces(std::shared_ptr<const PieceTokenizer> pieces, const std::string& name) {
        return Tokenizer(std::move(pieces), name);
    }

    /// Reads a merges file: OpenAI's `bpe_simple_vocab_16e6.txt.gz`, a smaller one of its form (plain or gzip), or
    /// Hugging Face's `merges.txt`. The first line is a header; lines 2 to 48,895 (or the end) are merges, two words
    /// each; an empty line after a last newline counts as an entry of the vocabulary, as in the published code.
    /// Throws Error naming the file and the line when it is not such a file.
    static Tokenizer from_file(const std::string& path) { return Tokenizer(read_text_file(path), path); }

    /// The same from the contents of a (decompressed) merges file; `name` is used in messages.
    static Tokenizer from_merges(const std::string& merges, const std::string& name) { return Tokenizer(merges, name); }

    /// Ids of `text` (UTF-8) without SOT and EOT. Throws Error with the byte offset when it is not UTF-8.
    std::vector<std::int32_t> encode(std::string_view text) const {
        if (pieces_) return pieces_->encode(text);
        const std::u32string clean = detail::clean_text(text);
        std::vector<std::int32_t> ids, word;
        for (std::size_t at = 0; at < clean.size();) {
            const std::size_t n = detail::word_length(clean, at);
            if (n > 0) append_word(std::u32string_view(clean).substr(at, n), word, ids);
            at += n > 0 ? n : 1;
        }
        return ids;
    }

    /// From now on cuts every text that is too long, as tokenize() with `truncate` does.
    void cut_long_texts() { cuts_ = true; }

    /// One row of a text encoder's input: SOT, ids, EOT, zeros up to `context_length`; of SigLIP ids, EOT, its padding.
    /// A text that is too long is an Error that names it and both lengths, or with `truncate` is cut, the last id then
    /// being EOT.
    std::vector<std::int32_t> tokenize(std::string_view text, Index context_length, bool truncate = false) const {
        truncate = truncate || cuts_;
        require(context_length >= 2, "tokenize: a context of ", context_length, " leaves no room for SOT and EOT");
        std::vector<std::int32_t> row = encode(text);
        if (has_start()) row.insert(row.begin(), sot());
        row.push_back(eot());
        const std::size_t context = static_cast<std::size_t>(context_length);
        require(truncate || row.size() <= context, "text '", detail::excerpt(text), "' has ", row.size(),
                has_start() ? " tokens with SOT and EOT" : " tokens with EOT", ", but the model's context is ", context,
                "; shorten it or ask for truncation");
        if (row.size() > context) row[context - 1] = eot();
        row.resize(context, pieces_ ? pieces_->padding_id() : 0);
        return row;
    }

    /// Text of ids: lower case, a space after every word; bytes that are not UTF-8 become U+FFFD. Throws Error for an
    /// id outside the vocabulary.
    std::string decode(const std::vector<std::int32_t>& ids) const {
        std::string bytes;
        for (const std::int32_t id : ids) {
            require(id >= 0 && id < vocabulary_size(), "decode: id ", id, " is outside the vocabulary of ",
                    vocabulary_size());
            if (!pieces_) bytes += bytes_of_id_[static_cast<std::size_t>(id)];
        }
        if (pieces_) return pieces_->decode(ids);
        std::string text;
        for (std::size_t i = 0; i < bytes.size();) {
            char32_t point = 0;
            const std::size_t n = detail::utf8_sequence(std::string_view(bytes).substr(i), point);
            detail::append_utf8(text, n > 0 ? point : 0xfffd);
            i += n > 0 ? n : 1;
        }
        return text;
    }

    /// Number of tokens.
    Index vocabulary_size() const {
        return pieces_ ? pieces_->vocabulary_size() : static_cast<Index>(bytes_of_id_.size());
    }
    /// Whether texts begin with a start token; SigLIP's do not.
    bool has_start() const { return pieces_ == nullptr; }
    /// Start-of-text token, the last but one.
    std::int32_t sot() const { return static_cast<std::int32_t>(vocabulary_size() - 2); }
    /// End-of-text token, the last; of SigLIP the model's own.
    std::int32_t eot() const { return pieces_ ? pieces_->end_id() : static_cast<std::int32_t>(vocabulary_size() - 1); }

    /// Checks that the vocabulary is the one a text encoder was trained with: SOT and EOT must be the last two of its
    /// `embedding_rows`; SigLIP's may have some more, up to a round number. Throws Error with both sizes and both files
    /// otherwise.
    void require_fits(Index embedding_rows, const std::string& model_file) const {
        const Index surplus = embedding_rows - vocabulary_size();
        if (pieces_ && surplus > 0 && surplus < 256) return;
        require(embedding_rows == vocabulary_size(), "vocabulary ", name_, " has ", vocabulary_size(),
                " entries, but the token embedding of ", model_file, " has ", embedding_rows,
                " rows; give the tokenizer's file that belongs to this model, or class vectors in a file",
                embedding_rows + 1 == vocabulary_size() && ends_empty_ ? " (or remove its last, empty line)" : "");
    }

private:
    /// OpenAI's vocabulary has 49,152 − 256 − 2 merges; longer files are cut there.
    static constexpr std::size_t max_merges = 48894;

    Tokenizer(std::shared_ptr<const PieceTokenizer> pieces, const std::string& name)
        : table_(0), name_(name), pieces_(std::move(pieces)) {}

    Tokenizer(const std::string& merges, const std::string& name) : table_(max_merges), name_(name) {
        for (const bool end : {false, true})
            for (const char32_t c : detail::byte_alphabet().character_of_id) {
                std::string word;
                detail::append_utf8(word, c);
                add_entry(end ? word + "</w>" : word);
            }
        std::size_t at = merges.find('\n');
        require(at != std::string::npos, name, ": not a merges file: there is no line after the header");
        bool ends_words = false;
        for (std::size_t line = 2; at != std::string::npos && line <= max_merges + 1; ++line) {
            const std::size_t end = merges.find('\n', at + 1);
            const std::size_t length = (end == std::string::npos ? merges.size() : end) - at - 1;
            std::string_view text = std::string_view(merges).substr(at + 1, length);
            if (!text.empty() && text.back() == '\r') text.remove_suffix(1);
            ends_words = ends_words || text.find("</w>") != std::string_view::npos;
            add_merge(text, line, end == std::string::npos);
            at = end;
        }
        // The byte-level vocabularies of other models have the same form, but mark the start of words instead.
        require(ends_words || bytes_of_id_.size() < 512 + 100, name,
                ": no merge ends a word ('</w>'); these are not the merges of a CLIP tokenizer");
        for (const std::string_view special : {detail::start_of_text, detail::end_of_text})
            bytes_of_id_.emplace_back(special);
    }

    /// One line of the file: two words, each made of the alphabet's characters; the last line may be empty.
    void add_merge(std::string_view line, std::size_t number, bool last) {
        if (line.empty() && last) {
            ends_empty_ = true;
            add_entry("");
            return;
        }
        const std::size_t space = line.find(' ');
        const std::string_view left = line.substr(0, space);
        const std::string_view right = space == std::string_view::npos ? "" : line.substr(space + 1);
        const bool two_words = !left.empty() && !right.empty() && right.find_first_of(" \t") == std::string_view::npos;
        require(two_words, name_, ": line ", number, " is '", detail::excerpt(line, 40),
                "', not two words separated by a space; this is not a merges file");
        for (const std::string_view part : {left, right}) check_alphabet(part, number);
        const std::int32_t rank = static_cast<std::int32_t>(bytes_of_id_.size());
        const std::int32_t left_symbol = symbol_of(std::string(left)), right_symbol = symbol_of(std::string(right));
        table_.add(left_symbol, right_symbol, {rank, add_entry(std::string(left) + std::string(right))});
    }

    void check_alphabet(std::string_view part, std::size_t number) const {
        for (std::size_t i = 0; i < part.size();) {
            char32_t point = 0;
            const std::size_t n = detail::utf8_sequence(part.substr(i), point);
            require(n > 0 && detail::byte_alphabet().byte_of_character.count(point) != 0, name_, ": line ", number,
                    " holds a character that stands for no byte; this is not a byte-level merges file");
            i += n;
        }
    }

    /// Index of a symbol by its spelling. Symbols are compared by spelling because different pairs may merge to the
    /// same one, and then the last id counts.
    std::int32_t symbol_of(const std::string& spelling) {
        const auto added = symbols_.emplace(spelling, static_cast<std::int32_t>(id_of_symbol_.size()));
        if (added.second) id_of_symbol_.push_back(-1);
        return added.first->second;
    }

    /// Gives `spelling` the next id; returns its symbol.
    std::int32_t add_entry(const std::string& spelling) {
        const std::int32_t symbol = symbol_of(spelling);
        id_of_symbol_[static_cast<std::size_t>(symbol)] = static_cast<std::int32_t>(bytes_of_id_.size());
        std::string bytes;
        std::string_view rest = spelling;
        const bool ends_word = rest.size() > 4 && rest.substr(rest.size() - 4) == "</w>";
        if (ends_word) rest.remove_suffix(4);
        while (!rest.empty()) {
            char32_t point = 0;
            rest.remove_prefix(detail::utf8_sequence(rest, point));
            bytes.push_back(static_cast<char>(detail::byte_alphabet().byte_of_character.at(point)));
        }
        bytes_of_id_.push_back(ends_word ? bytes + " " : bytes);
        return symbol;
    }

    /// Appends the ids of one word; `symbols` is scratch.
    void append_word(std::u32string_view word, std::vector<std::int32_t>& symbols,
                     std::vector<std::int32_t>& ids) const {
        const std::string bytes = detail::encode_utf8(word);
        if (bytes == detail::start_of_text) return ids.push_back(sot());
        if (bytes == detail::end_of_text) return ids.push_back(eot());
        symbols.clear();
        for (const char byte : bytes)  // the first 512 symbols are the alphabet, in the order of its ids
            symbols.push_back(detail::byte_alphabet().id_of_byte[static_cast<unsigned char>(byte)]);
        symbols.back() += 256;
        detail::merge_word(symbols, table_);
        for (const std::int32_t symbol : symbols) ids.push_back(id_of_symbol_[static_cast<std::size_t>(symbol)]);
    }

    detail::MergeTable table_;
    std::string name_;
    std::shared_ptr<const PieceTokenizer> pieces_;  // of a SigLIP model; the rest is then empty
    bool ends_empty_ = false, cuts_ = false;
    std::unordered_map<std::string, std::int32_t> symbols_;
    std::vector<std::int32_t> id_of_symbol_;
    std::vector<std::string> bytes_of_id_;
};

}  // namespace promptkd
