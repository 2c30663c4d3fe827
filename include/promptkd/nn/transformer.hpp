// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/nn/block.hpp>
#include <promptkd/nn/prompts.hpp>

#include <vector>

namespace promptkd {

/// Saved activations of a whole transformer.
template <Device D>
struct TransformerTape {
    std::vector<BlockTape<D>> blocks;  ///< of each block
};

/// What the rows of a transformer's activations are: how they form sequences, which of them leave the last block, and
/// where prompts stand.
template <class T>
struct TokenLayout {
    Sequences sequences;                 ///< what is in the rows
    std::optional<Selection> selection;  ///< the row of each sequence that is read at the end; nothing: all are
    PlacedPrompts<T> prompts;            ///< deep prompts and their places
};

/// A stack of blocks with deep prompts; the last block runs for the selected row of each sequence only, where one is
/// enough.
template <Device D>
struct Transformer {
    using T = typename D::Scalar;
    using A = typename D::Activation;
    std::vector<Block<D>> blocks;  ///< from the input on

    /// d.
    Index width() const { return blocks.front().width(); }

    /// y (count, d) = the selected rows after the last block, or (rows, d), all of them. x (rows, d) is overwritten, or
    /// kept by the tape.
    /// `observe(i, x)` is called after block i with the activation of all rows, a Matrix<const A>, where they exist
    /// (not after the last).
    template <class Observer>
    void forward(const Workspace<D>& w, const TokenLayout<T>& layout, Matrix<A> x, Matrix<A> y,
                 TransformerTape<D>* tape, const Observer& observe) const {
        const Sequences& s = layout.sequences;
        if (tape) tape->blocks.resize(blocks.size());
        for (std::size_t i = 0; i < blocks.size(); ++i) {
            if (layout.prompts.overwrite(i))
                overwrite_prompts(w.device, layout.prompts.place, layout.prompts.layers->values(i), x);
            const bool last = i + 1 == blocks.size();
            const Matrix<A> out = last ? y : tape ? keep<A>(w, s.rows(), width()) : x;
            blocks[i].forward(w, s, last ? layout.selection : std::nullopt, x, out, tape ? &tape->blocks[i] : nullptr);
            x = out;
            if (!last) observe(static_cast<Index>(i), Matrix<const A>(x));
        }
    }

    /// Gradients of the deep prompts (accumulated into them) and dx (rows, d) of the transformer's input, from dy,
    /// shaped as y was; and the gradients of weights that are trained.
    void backward(const Workspace<D>& w, const PlacedPrompts<T>& prompts, const TransformerTape<D>& tape,
                  Matrix<const A> dy, Matrix<A> dx) const {
        for (std::size_t i = blocks.size(); i-- > 0;) {
            blocks[i].backward(w, tape.blocks[i], dy, dx);
            dy = dx;
            if (!prompts.overwrite(i)) continue;
            if (prompts.layers->layers[i]->grad)
                collect_prompt_gradients(w.device, prompts.place, dx, prompts.layers->gradients(i));
            clear_prompt_rows(w.device, prompts.place, dx);
        }
    }
};

/// The observer that does nothing.
struct NoObserver {
    /// Looks at nothing.
    template <class A>
    void operator()(Index, const Matrix<const A>&) const {}
};

}  // namespace promptkd
