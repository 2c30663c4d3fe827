// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/matrix.hpp>
#include <promptkd/device/device.hpp>

namespace promptkd {

/// Size of a batch of feature maps stored channels last: (batch, height, width, channels), one row a pixel.
struct MapShape {
    Index batch = 0, height = 0, width = 0, channels = 0;  ///< extents, channels innermost
    /// Pixels of all images.
    Index pixels() const { return batch * height * width; }

    /// The result of a convolution with padding that keeps the size at stride 1, or of a pooling without overlap.
    MapShape convolved(Index stride, Index out_channels) const {
        return {batch, (height - 1) / stride + 1, (width - 1) / stride + 1, out_channels};
    }
    /// After pooling of `window` × `window` pixels.
    MapShape pooled(Index window) const { return {batch, height / window, width / window, channels}; }
};

namespace detail {

template <class T, class A>
struct ChannelsLast {
    const T* images;
    A* out;
    Index channels, pixels;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const Division pixel = divide(row, pixels);
        const T* from = images + pixel.quotient * channels * pixels + pixel.remainder;
        A* to = out + row * channels;
        const Index n = channels, step = pixels;
        team.once([=] {
            for (Index c = 0; c < n; ++c) to[c] = A(from[c * step]);
        });
    }
};

template <class A>
struct Neighbourhoods3x3 {
    const A* x;
    A* out;
    MapShape in;
    Index out_height, out_width, stride;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const Division line = divide(row, out_width), image = divide(line.quotient, out_height);
        const Index b = image.quotient, oy = image.remainder, ox = line.remainder;
        A* to = out + row * 9 * in.channels;
        for (Index k = 0; k < 9; ++k, to += in.channels) {
            const Division tap = divide(k, 3);
            const Index y = oy * stride + tap.quotient - 1, px = ox * stride + tap.remainder - 1;
            A* target = to;
            if (y < 0 || y >= in.height || px < 0 || px >= in.width) {
                team.each(in.channels, [target](const auto& lane) { lane.store(target, lane.fill(0)); });
            } else {
                const A* from = x + ((b * in.height + y) * in.width + px) * in.channels;
                team.each(in.channels, [target, from](const auto& lane) { lane.store(target, lane.load(from)); });
            }
        }
    }
};

/// Pixels of blocks of `side` × `side`, one behind the other.
template <class A>
struct Blocks {
    const A* x;
    A* out;
    MapShape in;
    Index across, side;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const Division line = divide(row, across), image = divide(line.quotient, divide(in.height, side).quotient);
        const Index n = side * in.channels;
        const A* from = x + ((image.quotient * in.height + image.remainder * side) * in.width + line.remainder * side) *
                                in.channels;
        A* to = out + row * side * n;
        for (Index y = 0; y < side; ++y, from += in.width * in.channels, to += n) {
            const A* source = from;
            A* target = to;
            team.each(n, [target, source](const auto& lane) { lane.store(target, lane.load(source)); });
        }
    }
};

template <class A>
struct AveragePool {
    const A* x;
    A* out;
    MapShape in;
    Index window;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const Index h = divide(in.height, window).quotient, w = divide(in.width, window).quotient;
        const Division across = divide(row, w), image = divide(across.quotient, h);
        const Index b = image.quotient, oy = image.remainder, ox = across.remainder;
        const Index side = window, line = in.width * in.channels, channels = in.channels;
        const A* from = x + ((b * in.height + oy * window) * in.width + ox * window) * in.channels;
        A* to = out + row * in.channels;
        team.each(channels, [=](const auto& lane) {
            LaneValue<decltype(lane)> total = lane.fill(0);
            for (Index y = 0; y < side; ++y)
                for (Index px = 0; px < side; ++px) total = total + lane.load(from + y * line + px * channels);
            lane.store(to, lane.value(total / lane.fill(static_cast<float>(side * side))));
        });
    }
};

template <class T, class A>
struct PoolTokens {
    const A* x;
    const T* positions;
    A* tokens;
    Index cells, d;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const Division token = divide(row, cells + 1);
        const Index b = token.quotient, t = token.remainder, n = cells, width = d;
        const A* image = x + b * cells * d;
        const T* position = positions + t * d;
        A* to = tokens + row * d;
        if (t > 0) {
            const A* from = image + (t - 1) * width;
            team.each(d, [=](const auto& lane) { lane.store(to, lane.value(lane.load(from) + lane.load(position))); });
            return;
        }
        team.each(d, [=](const auto& lane) {
            LaneValue<decltype(lane)> total = lane.fill(0);
            for (Index i = 0; i < n; ++i) total = total + lane.load(image + i * width);
            lane.store(to, lane.value(total / lane.fill(static_cast<float>(n)) + lane.load(position)));
        });
    }
};

}  // namespace detail

/// out (pixels, channels) from images (batch, channels·height·width), channel by channel.
template <Device D, class A>
void to_channels_last(D& device, ConstMatrix<typename D::Scalar> images, const MapShape& shape, Matrix<A> out) {
    using T = typename D::Scalar;
    const Index pixels = shape.height * shape.width;
    require_contiguous(images, shape.batch, shape.channels * pixels, "channels last: the images");
    require_contiguous(out, shape.pixels(), shape.channels, "channels last: the map");
    device.rows(out.rows, out.columns, detail::ChannelsLast<T, A>{images.data, out.data, shape.channels, pixels});
}

/// out (pixels of the result, 9·channels) from x (in.pixels(), channels): the 3×3 neighbourhood (padding 1) of every
/// output pixel, so that a 3×3 convolution with `stride` is one product with its weight stored as (out, row, column,
/// in).
template <Device D, class A>
void gather_neighbourhoods(D& device, ConstMatrix<A> x, const MapShape& in, Index stride, Matrix<A> out) {
    const MapShape result = in.convolved(stride, 9 * in.channels);
    require_contiguous(x, in.pixels(), in.channels, "neighbourhoods: x");
    require_contiguous(out, result.pixels(), result.channels, "neighbourhoods");
    device.rows(out.rows, out.columns,
                detail::Neighbourhoods3x3<A>{x.data, out.data, in, result.height, result.width, stride});
}

/// out (pixels of the result, channels) = the mean of every window×window block (stride = window) of x (in.pixels(),
/// channels).
template <Device D, class A>
void average_pool(D& device, ConstMatrix<A> x, const MapShape& in, Index window, Matrix<A> out) {
    require_contiguous(x, in.pixels(), in.channels, "average pooling: x");
    require_contiguous(out, in.pooled(window).pixels(), in.channels, "average pooling: the result");
    device.rows(out.rows, window * window * in.channels, detail::AveragePool<A>{x.data, out.data, in, window});
}

/// tokens (batch·(1 + cells), d) = [mean of the cells, cells] + positions (1 + cells, d), from x (batch·cells, d): the
/// input of CLIP's attention pool.
template <Device D, class A>
void pool_tokens(D& device, ConstMatrix<A> x, ConstMatrix<typename D::Scalar> positions, Matrix<A> tokens) {
    using T = typename D::Scalar;
    const Index cells = positions.rows - 1, batch = x.rows / cells;
    require_contiguous(x, batch * cells, tokens.columns, "attention pool: x");
    require_contiguous(positions, cells + 1, tokens.columns, "attention pool: the positions");
    require_contiguous(tokens, batch * (cells + 1), x.columns, "attention pool: the tokens");
    device.rows(tokens.rows, 2 * tokens.columns,
                detail::PoolTokens<T, A>{x.data, positions.data, tokens.data, cells, tokens.columns});
}

/// out (pixels/side², side²·channels) from x (pixels, channels) of the shape `in`: the pixels of each block of
/// side × side, so that a convolution without overlap, its weight as (out, y, x, channel), is one product.
template <Device D, class A>
void gather_blocks(D& device, ConstMatrix<A> x, const MapShape& in, Index side, Matrix<A> out) {
    require(side > 0 && in.height % side == 0 && in.width % side == 0, "blocks: a map of ", in.height, " x ", in.width,
            " is not divided into blocks of ", side);
    require_contiguous(x, in.pixels(), in.channels, "blocks: x");
    require_contiguous(out, in.pixels() / (side * side), side * side * in.channels, "blocks");
    device.rows(out.rows, out.columns, detail::Blocks<A>{x.data, out.data, in, in.width / side, side});
}

}  // namespace promptkd
