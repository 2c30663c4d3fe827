// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/learner/learner.hpp>

namespace promptkd {

/// Where CoOp's context stands: before, around or behind the class name.
enum class ContextPosition { end, middle, front };

/// "end", "middle" or "front" (of the CLASS NAME, as published). Throws Error for any other.
inline ContextPosition parse_context_position(const std::string& name) {
    if (name == "end") return ContextPosition::end;
    if (name == "middle") return ContextPosition::middle;
    if (name == "front") return ContextPosition::front;
    fail("unknown class-name position '", name, "'; known: end, middle, front");
}

/// Texts with the places of their learnable context vectors.
struct ContextTexts {
    TokenRows tokens;
    ContextLayout layout;
};

/// Rearranges texts "<n context words> <name>." for a context position. `name_lengths`: tokens of each class name,
/// without the final ".".
///   end: ctx, name, "."    middle: ctx[:n/2], name, ctx[n/2:], "."    front: name, ctx, "."
/// The number of tokens, and so the place of EOT, does not change. Source: CoOp, section 3.2 and its published prompt
/// learner.
inline ContextTexts arrange_context(TokenRows tokens, Index n, const std::vector<Index>& name_lengths,
                                    ContextPosition position, bool class_specific) {
    ContextTexts out;
    out.layout.vectors = n;
    out.layout.class_specific = class_specific;
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

/// CoOp (Zhou et al., IJCV 2022): learnable context vectors, shared by all classes or of its own for each.
/// Parameter `prompt_learner.ctx` (n, d_t) or (classes, n, d_t).
template <Device D>
class CoOp : public PromptLearner<D> {
public:
    CoOp(D& device, const ClipModel<D>& model, Index vectors, Index class_specific_classes = 0)
        : PromptLearner<D>(device) {
        require(vectors > 0, "CoOp needs at least one context vector");
        const Index width = model.text().config().width;
        this->context_ =
            &this->params_.add(context_name, class_specific_classes > 0 ? Shape{class_specific_classes, vectors, width}
                                                                        : Shape{vectors, width});
        this->params_.bind();
    }
};

}  // namespace promptkd
