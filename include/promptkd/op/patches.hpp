// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/device.hpp>

namespace promptkd {

namespace detail {

template <class T, class A>
struct ExtractPatches {
    const T* images;
    A* patches;
    Index grid, patch, resolution;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const Division cell = divide(row, grid * grid), place = divide(cell.remainder, grid);
        const Index image = cell.quotient, y0 = place.quotient * patch, x0 = place.remainder * patch;
        const T* base = images + image * 3 * resolution * resolution;
        A* out = patches + row * 3 * patch * patch;
        const T* from = base + y0 * resolution + x0;
        for (int channel = 0; channel < 3; ++channel, from += (resolution - patch) * resolution)
            for (Index y = 0; y < patch; ++y, from += resolution, out += patch) {
                const T* line = from;
                A* to = out;
                team.each(patch, [line, to](const auto& lane) { lane.store(to, lane.load(line)); });
            }
    }
};

template <class T, class A>
struct AssembleTokens {
    const A* patches;
    const T *class_embedding, *positions, *prompts;
    A* x;
    Index cells, prompt_count, d;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const Division token = divide(row, 1 + cells + prompt_count);
        const Index image = token.quotient, t = token.remainder;
        A* out = x + row * d;
        if (t > cells) {
            const T* prompt = prompts + (t - cells - 1) * d;
            team.each(d, [=](const auto& lane) { lane.store(out, lane.load(prompt)); });
            return;
        }
        const T* position = positions + t * d;
        if (t == 0) {
            const T* first = class_embedding;
            team.each(d,
                      [=](const auto& lane) { lane.store(out, lane.value(lane.load(first) + lane.load(position))); });
        } else {
            const A* from = patches + (image * cells + t - 1) * d;
            team.each(d, [=](const auto& lane) { lane.store(out, lane.value(lane.load(from) + lane.load(position))); });
        }
    }
};

/// Σ over the images of one token's gradient: its position's, and the class token's.
template <class T, class A>
struct CollectTokens {
    const A* dx;
    T *d_class, *d_positions;
    Index batch, tokens, d;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index t) const {
        T *position = d_positions + t * d, *first = d_class;
        for (Index b = 0; b < batch; ++b) {
            const A* row = dx + (b * tokens + t) * d;
            team.each(
                d, [=](const auto& lane) { lane.store(position, lane.value(lane.load(position) + lane.load(row))); });
            if (t == 0)
                team.each(d,
                          [=](const auto& lane) { lane.store(first, lane.value(lane.load(first) + lane.load(row))); });
        }
    }
};

template <class A>
struct CopyPatchRows {
    const A* dx;
    A* d_patches;
    Index cells, tokens, d;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const Division cell = divide(row, cells);
        const A* from = dx + (cell.quotient * tokens + 1 + cell.remainder) * d;
        A* to = d_patches + row * d;
        team.each(d, [=](const auto& lane) { lane.store(to, lane.load(from)); });
    }
};

}  // namespace detail

/// patches (batch·grid², 3·patch²) from images (batch, 3, resolution, resolution), columns in the order of a
/// convolution weight (channel, row, column): the patch embedding is then one product.
template <Device D, class A>
void extract_patches(D& device, const typename D::Scalar* images, A* patches, Index batch, Index grid, Index patch,
                     Index resolution) {
    using T = typename D::Scalar;
    device.rows(batch * grid * grid, 3 * patch * patch,
                detail::ExtractPatches<T, A>{images, patches, grid, patch, resolution});
}

/// x (batch, 1 + cells + prompt_count, d) = [class token, patches] + positions, then the prompts (no position) at the
/// end.
template <Device D, class A>
void assemble_tokens(D& device, const A* patches, const typename D::Scalar* class_embedding,
                     const typename D::Scalar* positions, const typename D::Scalar* prompts, Index prompt_count, A* x,
                     Index batch, Index cells, Index d) {
    using T = typename D::Scalar;
    device.rows(batch * (1 + cells + prompt_count), d,
                detail::AssembleTokens<T, A>{patches, class_embedding, positions, prompts, x, cells, prompt_count, d});
}

/// The gradients behind assemble_tokens, from dx (batch, 1 + cells + prompt_count, d): adds to d_class (d) and
/// d_positions (1 + cells, d), and writes d_patches (batch·cells, d), the gradient of the embedded patches.
template <Device D, class A>
void disassemble_token_gradients(D& device, const A* dx, typename D::Scalar* d_class, typename D::Scalar* d_positions,
                                 A* d_patches, Index prompt_count, Index batch, Index cells, Index d) {
    using T = typename D::Scalar;
    const Index tokens = 1 + cells + prompt_count;
    device.rows(1 + cells, batch * d, detail::CollectTokens<T, A>{dx, d_class, d_positions, batch, tokens, d});
    device.rows(batch * cells, d, detail::CopyPatchRows<A>{dx, d_patches, cells, tokens, d});
}

}  // namespace promptkd
