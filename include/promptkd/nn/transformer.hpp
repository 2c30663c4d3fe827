// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/nn/block.hpp>
#include <promptkd/nn/prompts.hpp>

#include <optional>
#include <vector>

namespace promptkd {

/// Saved activations of a whole transformer. With `recompute`, which is set before the forward pass, only the blocks'
/// inputs are saved; the backward pass computes the rest of each block again (Chen et al., Training Deep Nets with
/// Sublinear Memory Cost, 2016): a third more time, a fraction of the memory, the same bits.
template <Device D>
struct TransformerTape {
    using A = typename D::Activation;
    bool recompute = false;               ///< save the blocks' inputs alone
    std::vector<BlockTape<D>> blocks;     ///< of each block
    std::vector<Matrix<const A>> inputs;  ///< of each block, where the rest is computed again
    Sequences sequences;                  ///< likewise: of all blocks
    std::optional<Selection> selection;   ///< likewise: of the last block
    LastBlock<typename D::Scalar> last;   ///< likewise: what the last block is
};

/// What the rows of a transformer's activations are: how they form sequences, which of them leave the last block, and
/// where prompts stand.
template <class T>
struct TokenLayout {
    Sequences sequences;                 ///< what is in the rows
    std::optional<Selection> selection;  ///< the row of each sequence that is read at the end; nothing: all are
    PlacedPrompts<T> prompts;            ///< deep prompts and their places
    LastBlock<T> last{};                 ///< what the last block is
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
        const bool again = tape && tape->recompute;
        if (tape) begin(*tape, layout);
        for (std::size_t i = 0; i < blocks.size(); ++i) {
            if (layout.prompts.overwrite(i))
                overwrite_prompts(w.device, layout.prompts.place, layout.prompts.layers->values(i), x);
            const bool last = i + 1 == blocks.size();
            const Matrix<A> out = last ? y : tape ? keep<A>(w, s.rows(), width()) : x;
            if (again) tape->inputs[i] = x;
            block_forward(w, i, layout, x, out, tape && !again ? &tape->blocks[i] : nullptr);
            x = out;
            if (!last) observe(static_cast<Index>(i), Matrix<const A>(x));
        }
    }

    /// Gradients of the deep prompts and dx (rows, d) of the transformer's input, from dy, shaped as y was; and the
    /// gradients of weights that are trained. Block i reads x with its prompts P_i in the places of prompts, the same
    /// in all sequences; so the gradient of a deep prompt is dP_i += Σ over sequences of dx in its rows, and nothing
    /// of those rows goes further down: dx ← 0 there.
    void backward(const Workspace<D>& w, const PlacedPrompts<T>& prompts, const TransformerTape<D>& tape,
                  Matrix<const A> dy, Matrix<A> dx) const {
        for (std::size_t i = blocks.size(); i-- > 0;) {
            block_backward(w, i, tape, dy, dx);
            dy = dx;
            if (!prompts.overwrite(i)) continue;
            if (prompts.layers->layers[i]->grad)
                collect_prompt_gradients(w.device, prompts.place, dx, prompts.layers->gradients(i));
            clear_prompt_rows(w.device, prompts.place, dx);
        }
    }

private:
    void begin(TransformerTape<D>& tape, const TokenLayout<T>& layout) const {
        tape.blocks.resize(tape.recompute ? 0 : blocks.size());
        tape.inputs.resize(tape.recompute ? blocks.size() : 0);
        tape.sequences = layout.sequences;
        tape.selection = layout.selection;
        tape.last = layout.last;
    }

    void block_forward(const Workspace<D>& w, std::size_t i, const TokenLayout<T>& layout, Matrix<const A> x,
                       Matrix<A> y, BlockTape<D>* tape) const {
        const Sequences& s = layout.sequences;
        const bool last = i + 1 == blocks.size();
        if (last && !layout.last.is_plain())
            blocks[i].as(layout.last).forward(w, s, layout.selection, x, y, tape);
        else
            blocks[i].forward(w, s, last ? layout.selection : std::nullopt, x, y, tape);
    }

    void block_backward(const Workspace<D>& w, std::size_t i, const TransformerTape<D>& tape, Matrix<const A> dy,
                        Matrix<A> dx) const {
        if (!tape.recompute) return blocks[i].backward(w, tape.blocks[i], dy, dx);
        const WorkspaceScope scope(w, Keep::no);
        const Matrix<A> y = scratch<A>(w, dy.rows, dy.columns);
        BlockTape<D> again;
        block_forward(w, i, {tape.sequences, tape.selection, {}, tape.last}, tape.inputs[i], y, &again);
        blocks[i].backward(w, again, dy, dx);
    }
};

/// The observer that does nothing.
struct NoObserver {
    /// Looks at nothing.
    template <class A>
    void operator()(Index, const Matrix<const A>&) const {}
};

}  // namespace promptkd
