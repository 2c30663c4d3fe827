// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/nn/param_set.hpp>
#include <promptkd/op/elementwise.hpp>

#include <algorithm>

namespace promptkd {

/// Throws Error unless a batch can be worked through in `parts` equal parts.
inline void require_parts(Index batch, Index parts) {
    require(parts >= 1 && batch % parts == 0, "a batch of ", batch, " images cannot be worked through in ", parts,
            " equal parts");
}

/// Gradient accumulation: works `batch` images through in `parts` equal parts. part(first, n) adds the gradients of the
/// mean loss of images [first, first + n) (clearing them before when first = 0) and returns that loss. Ensures that the
/// gradients are those of the mean over the parts; returns the mean loss.
template <Device D, class Part>
double accumulate_parts(ParamSet<D>& params, Index batch, Index parts, const Part& part) {
    const Index size = std::max<Index>(1, batch / parts), count = batch / size;
    double loss = 0;
    for (Index i = 0; i < count; ++i) loss += part(i * size, size);
    if (count > 1) scale(params.device(), 1.0 / static_cast<double>(count), params.gradients(), params.size());
    return loss / static_cast<double>(count);
}

}  // namespace promptkd
