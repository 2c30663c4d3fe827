// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/matrix.hpp>
#include <promptkd/device/device.hpp>

namespace promptkd {

/// How an image of height × width pixels is divided into rows × columns patches of patch × patch pixels, from its top
/// left corner on; what no whole patch covers is not read. Of three values: a square image in a square grid.
struct PatchGrid {
    Index rows = 0, patch = 0, height = 0;  ///< patches from top to bottom, pixels of a patch a side, of the image
    Index columns = rows, width = height;   ///< patches and pixels from left to right

    /// Patches of an image.
    Index cells() const { return rows * columns; }
    /// Values of a patch, and of an image, of three channels.
    Index patch_values() const { return 3 * patch * patch; }
    /// Values of an image.
    Index image_values() const { return 3 * height * width; }
};

namespace detail {

template <class T, class A>
struct ExtractPatches {
    const T* images;
    A* patches;
    Index cells, columns, patch, height, width;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const Division cell = divide(row, cells), place = divide(cell.remainder, columns);
        const Index image = cell.quotient, y0 = place.quotient * patch, x0 = place.remainder * patch;
        const T* base = images + image * 3 * height * width;
        A* out = patches + row * 3 * patch * patch;
        const T* from = base + y0 * width + x0;
        for (int channel = 0; channel < 3; ++channel, from += (height - patch) * width)
            for (Index y = 0; y < patch; ++y, from += width, out += patch) {
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
    Index class_tokens, class_positions;  // 0 or 1
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const Division token = divide(row, class_tokens + cells + prompt_count);
        const Index image = token.quotient, cell = token.remainder - class_tokens;
        A* out = x + row * d;
        if (cell >= cells) {
            const T* prompt = prompts + (cell - cells) * d;
            team.each(d, [=](const auto& lane) { lane.store(out, lane.load(prompt)); });
            return;
        }
        const T* position = positions + (cell + class_positions) * d;
        if (cell >= 0) {
            const A* from = patches + (image * cells + cell) * d;
            team.each(d, [=](const auto& lane) { lane.store(out, lane.value(lane.load(from) + lane.load(position))); });
            return;
        }
        const T* first = class_embedding;
        if (class_positions > 0)
            team.each(d,
                      [=](const auto& lane) { lane.store(out, lane.value(lane.load(first) + lane.load(position))); });
        else
            team.each(d, [=](const auto& lane) { lane.store(out, lane.load(first)); });
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
            if (t == 0 && first)
                team.each(d,
                          [=](const auto& lane) { lane.store(first, lane.value(lane.load(first) + lane.load(row))); });
        }
    }
};

template <class A>
struct CopyPatchRows {
    const A* dx;
    A* d_patches;
    Index cells, tokens, class_tokens, d;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const Division cell = divide(row, cells);
        const A* from = dx + (cell.quotient * tokens + class_tokens + cell.remainder) * d;
        A* to = d_patches + row * d;
        team.each(d, [=](const auto& lane) { lane.store(to, lane.load(from)); });
    }
};

template <class A>
struct PlacePatchRows {
    const A* patches;
    A* x;
    Index cells, tokens, first, d;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const Division token = divide(row, tokens);
        const Index cell = token.remainder - first;
        A* to = x + row * d;
        if (cell < 0 || cell >= cells) {
            team.each(d, [=](const auto& lane) { lane.store(to, lane.fill(0)); });
            return;
        }
        const A* from = patches + (token.quotient * cells + cell) * d;
        team.each(d, [=](const auto& lane) { lane.store(to, lane.load(from)); });
    }
};

}  // namespace detail

/// patches (batch·cells, 3·patch²) from images (batch, 3·height·width) of three channels, columns in the order of a
/// convolution weight (channel, row, column): the patch embedding is then one product.
template <Device D, class A>
void extract_patches(D& device, ConstMatrix<typename D::Scalar> images, const PatchGrid& grid, Matrix<A> patches) {
    using T = typename D::Scalar;
    require_contiguous(images, images.rows, grid.image_values(), "patches: the images");
    require_contiguous(patches, images.rows * grid.cells(), grid.patch_values(), "patches");
    device.rows(patches.rows, patches.columns,
                detail::ExtractPatches<T, A>{images.data, patches.data, grid.cells(), grid.columns, grid.patch,
                                             grid.height, grid.width});
}

/// Rows of the patches, (batch·cells, d), out of x (batch·tokens, d), in which `first` tokens of each image stand
/// before them and prompts may stand behind.
template <Device D, class A>
void gather_patch_rows(D& device, ConstMatrix<A> x, Index tokens, Index first, Matrix<A> patches) {
    const Index batch = x.rows / tokens, cells = patches.rows / batch;
    require_contiguous(x, batch * tokens, patches.columns, "gathering patches: x");
    require_contiguous(patches, batch * cells, x.columns, "gathering patches: the patches");
    require(first + cells <= tokens, "gathering patches: ", cells, " patches in sequences of ", tokens, " tokens");
    device.rows(batch * cells, x.columns,
                detail::CopyPatchRows<A>{x.data, patches.data, cells, tokens, first, x.columns});
}

/// The gradient behind gather_patch_rows: x (batch·tokens, d) is `patches` (batch·cells, d) in their rows, else 0.
template <Device D, class A>
void scatter_patch_rows(D& device, ConstMatrix<A> patches, Index tokens, Index first, Matrix<A> x) {
    const Index batch = x.rows / tokens, cells = patches.rows / batch;
    require_contiguous(patches, batch * cells, x.columns, "scattering patches: the patches");
    require_contiguous(x, batch * tokens, patches.columns, "scattering patches: x");
    require(first + cells <= tokens, "scattering patches: ", cells, " patches in sequences of ", tokens, " tokens");
    device.rows(x.rows, x.columns, detail::PlacePatchRows<A>{patches.data, x.data, cells, tokens, first, x.columns});
}

/// What the tokens of an image have besides its patches.
template <class T>
struct TokenParts {
    const T* class_embedding = nullptr;  ///< (d), in front of the patches; null: none
    Matrix<const T> positions;  ///< (1 + cells, d), or (cells, d) where the class token has none or is not there
    Matrix<const T> prompts;    ///< (n, d), behind the patches, without positions
};

/// x (batch·tokens, d), an image's tokens behind one another: [class token, patches] + positions, then the n prompts;
/// patches (batch·cells, d).
template <Device D, class A>
void assemble_tokens(D& device, ConstMatrix<A> patches, Index cells, const TokenParts<typename D::Scalar>& parts,
                     Matrix<A> x) {
    using T = typename D::Scalar;
    const Index batch = patches.rows / cells, class_tokens = parts.class_embedding ? 1 : 0;
    const Index class_positions = parts.positions.rows - cells;
    const Matrix<const T>& prompts = parts.prompts;
    require(class_positions == 0 || class_positions == class_tokens, "tokens: ", parts.positions.rows,
            " positions for ", cells, " patches");
    require_contiguous(patches, batch * cells, x.columns, "tokens: the patches");
    require_contiguous(parts.positions, cells + class_positions, x.columns, "tokens: the positions");
    require_contiguous(prompts, prompts.rows, prompts.rows > 0 ? x.columns : prompts.columns, "tokens: the prompts");
    require_contiguous(x, batch * (class_tokens + cells + prompts.rows), parts.positions.columns, "tokens");
    device.rows(x.rows, x.columns,
                detail::AssembleTokens<T, A>{patches.data, parts.class_embedding, parts.positions.data, prompts.data,
                                             x.data, cells, prompts.rows, x.columns, class_tokens, class_positions});
}

/// The gradients behind assemble_tokens, from dx (batch·(c + cells + n), d), c = 1 or 0 `class_tokens`: adds to d_class
/// (d; null without one) and d_positions (c + cells, d), and writes d_patches (batch·cells, d), the gradient of the
/// embedded patches.
template <Device D, class A>
void disassemble_token_gradients(D& device, ConstMatrix<A> dx, typename D::Scalar* d_class,
                                 Matrix<typename D::Scalar> d_positions, Matrix<A> d_patches, Index class_tokens = 1) {
    using T = typename D::Scalar;
    const Index cells = d_positions.rows - class_tokens, batch = d_patches.rows / cells, tokens = dx.rows / batch,
                d = dx.columns;
    require_contiguous(dx, batch * tokens, d_positions.columns, "gradients of tokens: dx");
    require_contiguous(d_positions, cells + class_tokens, d, "gradients of tokens: d_positions");
    require_contiguous(d_patches, batch * cells, d, "gradients of tokens: d_patches");
    device.rows(
        class_tokens + cells, batch * d,
        detail::CollectTokens<T, A>{dx.data, class_tokens > 0 ? d_class : nullptr, d_positions.data, batch, tokens, d});
    device.rows(batch * cells, d, detail::CopyPatchRows<A>{dx.data, d_patches.data, cells, tokens, class_tokens, d});
}

}  // namespace promptkd
