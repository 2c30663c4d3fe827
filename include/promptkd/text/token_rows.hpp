// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace promptkd {

/// Tokenised texts: `count` rows of `context_length` ids, SOT first, EOT then padding.
struct TokenRows {
    std::vector<std::int32_t> ids;  ///< (count, context_length)
    Index count = 0;                ///< number of texts
    Index context_length = 0;       ///< tokens of a text, padding included
    Index end_id = -1;              ///< id of the EOT token; −1: the largest id of each row, as in OpenAI's models

    /// Token `t` of text `row`.
    std::int32_t at(Index row, Index t) const { return ids[static_cast<std::size_t>(row * context_length + t)]; }

    /// Position of the EOT token: of the first `end_id` (0 where a row has none, as in Hugging Face's code), or of the
    /// largest id.
    Index end_of_text(Index row) const {
        const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(row * context_length);
        const auto end = begin + static_cast<std::ptrdiff_t>(context_length);
        if (end_id >= 0) {
            const auto it = std::find(begin, end, static_cast<std::int32_t>(end_id));
            return it == end ? 0 : it - begin;
        }
        return std::max_element(begin, begin + static_cast<std::ptrdiff_t>(context_length)) - begin;
    }

    /// Rows [first, first + n).
    TokenRows slice(Index first, Index n) const {
        TokenRows part;
        part.count = n;
        part.context_length = context_length;
        part.end_id = end_id;
        part.ids.assign(ids.begin() + static_cast<std::ptrdiff_t>(first * context_length),
                        ids.begin() + static_cast<std::ptrdiff_t>((first + n) * context_length));
        return part;
    }
};

/// Which savings of the text branch are taken. Both leave every result unchanged (tests compare with them off).
struct TextSavings {
    bool cut_after_end = true;  ///< a causal encoder's tokens after the longest EOT are never read
    bool share_prefix = true;   ///< tokens that all texts begin with are computed once
};

/// Where the learnable context vectors stand: position of vector k in text i. Generic contexts have one vector set for
/// all texts; class-specific ones a set for each.
struct ContextLayout {
    Index vectors = 0;                    ///< context vectors a text
    bool class_specific = false;          ///< context vectors of its own for each text
    std::vector<std::int32_t> positions;  ///< (texts, vectors)

    /// Where context vector `k` stands in `text`.
    Index position(Index text, Index k) const { return positions[static_cast<std::size_t>(text * vectors + k)]; }

    /// The usual place: positions 1…n, right after SOT.
    static ContextLayout after_start(Index texts, Index n, bool class_specific = false) {
        ContextLayout layout{n, class_specific, {}};
        for (Index i = 0; i < texts; ++i)
            for (Index k = 0; k < n; ++k) layout.positions.push_back(static_cast<std::int32_t>(1 + k));
        return layout;
    }
};

/// How many leading tokens all texts share. A position that holds a generic context vector in every text counts as
/// equal whatever its id; one that is class-specific ends the prefix. At least one token is left to every text.
inline Index shared_prefix(const TokenRows& tokens, const ContextLayout& layout) {
    if (tokens.count < 2) return 0;
    std::vector<std::vector<Index>> context(
        static_cast<std::size_t>(tokens.count));  // per text: vector index + 1 at a position
    Index shortest = tokens.context_length;
    for (Index i = 0; i < tokens.count; ++i) {
        shortest = std::min(shortest, tokens.end_of_text(i));
        context[static_cast<std::size_t>(i)].assign(static_cast<std::size_t>(tokens.context_length), 0);
        for (Index k = 0; k < layout.vectors; ++k)
            context[static_cast<std::size_t>(i)][static_cast<std::size_t>(layout.position(i, k))] = k + 1;
    }
    for (Index t = 0; t < shortest; ++t) {
        const Index vector = context[0][static_cast<std::size_t>(t)];
        if (vector && layout.class_specific) return t;
        for (Index i = 1; i < tokens.count; ++i) {
            const Index other = context[static_cast<std::size_t>(i)][static_cast<std::size_t>(t)];
            if (other != vector || (!vector && tokens.at(i, t) != tokens.at(0, t))) return t;
        }
    }
    return shortest;
}

}  // namespace promptkd
