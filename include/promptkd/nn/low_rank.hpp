// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>

#include <cstdint>

namespace promptkd {

/// Dropout of what goes into a low-rank update: each value is 0 with this probability, else divided by 1 − probability.
/// Which ones is a function of seed, stream, step and place alone, so that the backward pass draws the same ones again.
struct InputDropout {
    double probability = 0;    ///< 0: none (inference)
    std::uint64_t seed = 0;    ///< of the run
    std::uint64_t stream = 0;  ///< of the layer
    std::uint32_t step = 0;    ///< of the training
};

/// A low-rank update of a layer's weight W (out, in): W + scale·B·A, which is computed beside W as (x·Aᵀ)·Bᵀ (LoRA, Hu
/// et al., ICLR 2022, section 4.1). With several parts, equal ranges of the outputs (queries, keys and values of an
/// attention) have rows of A of their own: rows [p·rank, (p+1)·rank) of A belong to the outputs of part p.
template <class T>
struct LowRank {
    const T* a = nullptr;     ///< A (parts·rank, in); null: no update
    const T* b = nullptr;     ///< B (out, rank)
    T* a_gradient = nullptr;  ///< in the shape of A; null: the update is frozen
    T* b_gradient = nullptr;  ///< in the shape of B
    Index rank = 0;           ///< r
    Index parts = 1;          ///< ranges of the outputs
    double scale = 1;         ///< factor of B·A
    InputDropout dropout;     ///< of its input, in training

    /// Whether there is one.
    explicit operator bool() const { return a != nullptr; }
    /// Whether its gradients are wanted.
    bool is_trained() const { return a_gradient != nullptr; }

    /// The update of the outputs [first, first + n) of `outputs`, for a layer of `inputs`; whole parts.
    LowRank row_range(Index first, Index n, Index outputs, Index inputs) const {
        if (!a) return {};
        LowRank range = *this;
        range.b = b + first * rank;
        if (b_gradient) range.b_gradient = b_gradient + first * rank;
        if (parts == 1) return range;
        const Index rows = outputs / parts;
        require(first % rows == 0 && n % rows == 0, "a low-rank update of ", parts, " parts is divided at output ",
                first, ", inside a part of ", rows);
        range.parts = n / rows;
        range.a = a + first / rows * rank * inputs;
        if (a_gradient) range.a_gradient = a_gradient + first / rows * rank * inputs;
        return range;
    }
};

}  // namespace promptkd
