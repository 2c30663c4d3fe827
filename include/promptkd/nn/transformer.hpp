// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/nn/block.hpp>
#include <promptkd/nn/prompts.hpp>

#include <vector>

namespace promptkd {

/// Saved activations of a whole transformer.
template <Device D>
struct TransformerTape {
    std::vector<BlockTape<D>> blocks;
};

/// A stack of blocks with deep prompts; the last block runs for the selected row of each sequence only.
template <Device D>
struct Transformer {
    using T = typename D::Scalar;
    using A = typename D::Activation;
    std::vector<Block<D>> blocks;

    Index width() const { return blocks.front().d; }

    /// y (count, d) = the selected rows after the last block. x (rows, d) is overwritten, or kept by the tape.
    /// `observe(i, x)` is called after block i with the activation of all rows where they exist (not after the last).
    template <class Observer>
    void forward(D& device, Arena<D>& arena, const Sequences& s, const Selection& selection,
                 const PromptLayers<T>* prompts, const Placement& place, A* x, A* y, TransformerTape<D>* tape,
                 const Observer& observe) const {
        if (tape) tape->blocks.resize(blocks.size());
        for (std::size_t i = 0; i < blocks.size(); ++i) {
            if (has_prompts(prompts, i))
                overwrite_prompts(device, place, static_cast<const T*>(prompts->layers[i]->value), x, width());
            const bool last = i + 1 == blocks.size();
            A* out = last ? y : tape ? arena.template keep<A>(s.rows() * width()) : x;
            blocks[i].forward(device, arena, s, last ? &selection : nullptr, x, out, tape ? &tape->blocks[i] : nullptr);
            x = out;
            if (!last) observe(static_cast<Index>(i), static_cast<const A*>(x));
        }
    }

    /// Gradients of the deep prompts (accumulated into them) and dx (rows, d) of the transformer's input, from dy
    /// (count, d). `weights`: see Block::backward.
    void backward(D& device, Arena<D>& arena, const Sequences& s, const Selection& selection,
                  const PromptLayers<T>* prompts, const Placement& place, const A* dy, A* dx,
                  const TransformerTape<D>& tape, const WeightGradients<T>* weights = nullptr) const {
        for (std::size_t i = blocks.size(); i-- > 0;) {
            const bool last = i + 1 == blocks.size();
            blocks[i].backward(device, arena, s, last ? &selection : nullptr, tape.blocks[i], last ? dy : dx, dx,
                               weights);
            if (!has_prompts(prompts, i)) continue;
            if (prompts->layers[i]->grad)
                collect_prompt_gradients(device, place, static_cast<const A*>(dx), prompts->layers[i]->grad, width());
            clear_prompt_rows(device, place, dx, width());
        }
    }

private:
    static bool has_prompts(const PromptLayers<T>* prompts, std::size_t block) {
        return prompts && block >= 1 && block < prompts->layers.size();
    }
};

/// The observer that does nothing.
struct NoObserver {
    template <class A>
    void operator()(Index, const A*) const {}
};

}  // namespace promptkd
