// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/nn/param_set.hpp>
#include <promptkd/op/gather.hpp>

#include <vector>

namespace promptkd {

/// The prompts of one encoder branch: layers[0] is the shallow prompt of the input sequence, layers[i] (1 ≤ i < depth)
/// overwrites the prompt positions before block i. Each is (tokens, d). Depth counts the shallow one (VPT, IVLP,
/// MaPLe). The parameters belong to whoever made them; a parameter whose grad is null is frozen.
template <class T>
struct PromptLayers {
    Index tokens = 0;                     ///< n, vectors of a block
    std::vector<const Param<T>*> layers;  ///< (n, d) of each prompted block, the first one's first

    /// Number of prompted blocks.
    Index depth() const { return static_cast<Index>(layers.size()); }
    /// Whether there are none.
    bool empty() const { return tokens == 0 || layers.empty(); }
    /// Values and gradients of layer i, (tokens, d); the gradients of a frozen one have no data.
    Matrix<const T> values(std::size_t i) const { return {layers[i]->value, tokens, layers[i]->count() / tokens}; }
    /// The gradient of block `i`'s prompts.
    Matrix<T> gradients(std::size_t i) const { return {layers[i]->grad, tokens, layers[i]->count() / tokens}; }
};

/// The prompts of a branch and where they stand in this batch.
template <class T>
struct PlacedPrompts {
    const PromptLayers<T>* layers = nullptr;  ///< null: none
    Placement place;                          ///< where they go

    /// n; 0 without prompts.
    Index tokens() const { return layers ? layers->tokens : 0; }
    /// Whether the prompt positions are overwritten before block `i`.
    bool overwrite(std::size_t block) const { return layers && block >= 1 && block < layers->layers.size(); }
};

/// Device table of a Placement: prompt j stands in the rows rows[j·uses + b].
template <Device D>
class PlacementTable {
public:
    PlacementTable() = default;
    /// `prompts` vectors that go to `uses` places each, whose rows are in `rows`.
    PlacementTable(D& device, Index prompts, Index uses, const std::vector<std::int32_t>& rows)
        : prompts_(prompts), uses_(uses), rows_(device, rows) {}

    /// The first `uses` uses of every prompt.
    Placement view(Index uses) const { return {prompts_, uses, uses_, rows_.data()}; }
    /// All uses.
    Placement view() const { return view(uses_); }
    /// Vectors that are placed.
    Index prompts() const { return prompts_; }
    /// Places of each.
    Index uses() const { return uses_; }

private:
    Index prompts_ = 0, uses_ = 0;
    Buffer<D, std::int32_t> rows_;
};

}  // namespace promptkd
