// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/core/image.hpp>
#include <promptkd/image/interpolation.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace promptkd {

namespace detail {

/// A rectangle of pixels: rows top … top+height-1, columns left … left+width-1.
struct Rect {
    Index top = 0, left = 0, height = 0, width = 0;
};

/// Fixed-point weights of one direction of a resize, for the outputs first … first+count-1: output i is the weighted
/// sum of the inputs begin[i] … begin[i]+taps[i]-1, with weights at[i · stride …] scaled by 2^22.
struct ResampleWeights {
    static constexpr int precision_bits = 32 - 8 - 2;
    std::vector<Index> begin, taps;
    std::vector<std::int32_t> weights;
    Index stride = 0;

    ResampleWeights(const ResampleFilter& filter, Index in, Index out, Index first, Index count) {
        const double scale = static_cast<double>(in) / static_cast<double>(out);
        const double filter_scale = std::max(scale, 1.0);
        const double support = filter.support * filter_scale;
        const double inverse = 1.0 / filter_scale;
        stride = static_cast<Index>(std::ceil(support)) * 2 + 1;
        weights.assign(static_cast<std::size_t>(stride * count), 0);
        std::vector<double> exact(static_cast<std::size_t>(stride));
        for (Index i = 0; i < count; ++i) {
            const double center = (static_cast<double>(first + i) + 0.5) * scale;
            const Index low = std::max<Index>(static_cast<Index>(center - support + 0.5), 0);
            const Index n = std::min(static_cast<Index>(center + support + 0.5), in) - low;
            double sum = 0;
            for (Index k = 0; k < n; ++k) {
                const double weight = filter.value((static_cast<double>(k + low) - center + 0.5) * inverse);
                exact[static_cast<std::size_t>(k)] = weight;
                sum += weight;
            }
            for (Index k = 0; k < n; ++k) {
                const double weight = sum != 0.0 ? exact[static_cast<std::size_t>(k)] / sum : 0.0;
                weights[static_cast<std::size_t>(i * stride + k)] =
                    static_cast<std::int32_t>((weight < 0 ? -0.5 : 0.5) + weight * (1 << precision_bits));
            }
            begin.push_back(low);
            taps.push_back(n);
        }
    }

    Index first_input() const { return begin.front(); }
    Index end_input() const { return begin.back() + taps.back(); }
    const std::int32_t* row(Index i) const { return weights.data() + i * stride; }
};

inline std::uint8_t round_fixed(std::int32_t sum) {
    return static_cast<std::uint8_t>(std::clamp(sum >> ResampleWeights::precision_bits, 0, 255));
}

inline constexpr std::int32_t half_fixed = 1 << (ResampleWeights::precision_bits - 1);

/// out[lane] = Σ_k column[3k·lanes + lane]·weight[k], rounded. A function of its own keeps the sums in registers:
/// inside the loops around it GCC 12 puts them into memory, at half the speed.
template <Index lanes>
void weighted_lanes(const std::uint8_t* column, const std::int32_t* weight, Index taps, std::uint8_t* out) {
    std::int32_t sums[std::size_t{lanes}];
    for (Index lane = 0; lane < lanes; ++lane) sums[lane] = half_fixed;
    for (Index k = 0; k < taps; ++k) {
        const std::uint8_t* const values = column + k * 3 * lanes;
        for (Index lane = 0; lane < lanes; ++lane) sums[lane] += values[lane] * weight[k];
    }
    for (Index lane = 0; lane < lanes; ++lane) out[lane] = round_fixed(sums[lane]);
}

/// Horizontal pass over `rows` rows. Sixteen rows at a time are turned into columns, so that the sums run over
/// contiguous bytes with one weight for all of them and the compiler vectorises them.
/// `in` is input column weights.first_input() of the first row, rows are `pitch` bytes apart; an output row holds
/// weights.begin.size() pixels.
inline void resample_columns(const std::uint8_t* in, Index pitch, Index rows, const ResampleWeights& weights,
                             std::uint8_t* out) {
    constexpr Index lanes = 16;
    const Index first = weights.first_input() * 3, n = weights.end_input() * 3 - first;
    const Index count = static_cast<Index>(weights.begin.size());
    std::vector<std::uint8_t> turned(static_cast<std::size_t>(n * lanes));
    for (Index y = 0; y < rows; y += lanes) {
        const Index here = std::min(lanes, rows - y);
        for (Index lane = 0; lane < here; ++lane) {
            const std::uint8_t* const row = in + (y + lane) * pitch;
            for (Index i = 0; i < n; ++i) turned[static_cast<std::size_t>(i * lanes + lane)] = row[i];
        }
        for (Index i = 0; i < count; ++i) {
            const std::int32_t* const weight = weights.row(i);
            const Index taps = weights.taps[static_cast<std::size_t>(i)];
            for (Index c = 0; c < 3; ++c) {
                const Index column = weights.begin[static_cast<std::size_t>(i)] * 3 + c - first;
                std::uint8_t values[lanes];
                weighted_lanes<lanes>(turned.data() + column * lanes, weight, taps, values);
                for (Index lane = 0; lane < here; ++lane) out[((y + lane) * count + i) * 3 + c] = values[lane];
            }
        }
    }
}

/// Vertical pass over `bytes` bytes of each row: `in` is input row weights.first_input(), rows are `pitch` bytes apart.
inline void resample_rows(const std::uint8_t* in, Index pitch, Index bytes, const ResampleWeights& weights,
                          std::uint8_t* out) {
    std::vector<std::int32_t> sums(static_cast<std::size_t>(bytes));
    for (Index i = 0; i < static_cast<Index>(weights.begin.size()); ++i) {
        std::fill(sums.begin(), sums.end(), half_fixed);
        const std::uint8_t* row = in + (weights.begin[static_cast<std::size_t>(i)] - weights.first_input()) * pitch;
        for (Index k = 0; k < weights.taps[static_cast<std::size_t>(i)]; ++k, row += pitch) {
            const std::int32_t weight = weights.row(i)[k];
            std::int32_t* const sum = sums.data();
            for (Index x = 0; x < bytes; ++x) sum[x] += row[x] * weight;
        }
        for (Index x = 0; x < bytes; ++x) out[i * bytes + x] = round_fixed(sums[static_cast<std::size_t>(x)]);
    }
}

inline void check_rect(const Image& image, const Rect& rect, const char* what) {
    require(rect.top >= 0 && rect.left >= 0 && rect.height > 0 && rect.width > 0 && rect.height <= image.height &&
                rect.width <= image.width && rect.top <= image.height - rect.height &&
                rect.left <= image.width - rect.width,
            what, ": rectangle (top ", rect.top, ", left ", rect.left, ", ", rect.height, "x", rect.width,
            ") outside an image of ", image.height, "x", image.width, " (height x width)");
}

/// Copies a height × width block of pixels; rows of `in` are `pitch` bytes apart.
inline void copy_block(const std::uint8_t* in, Index pitch, Index height, Index width, std::uint8_t* out) {
    for (Index y = 0; y < height; ++y)
        std::memcpy(out + y * width * 3, in + y * pitch, static_cast<std::size_t>(width * 3));
}

/// The order of the passes shows in the last bit, because values are rounded to 8 bits between them. Pillow's rule
/// (since version 13): the vertical pass first when it removes more than twice as many rows as columns go.
inline bool vertical_pass_first(Index in_height, Index in_width, Index height, Index width) {
    return in_height > height && in_height - height > 2 * (in_width - width);
}

/// The nearest pixels of `source` for each pixel of `window` in a height × width image: input (i + ½)·scale, its
/// fraction cut, summed up step by step as Pillow does.
inline Image resample_nearest(const Image& image, const Rect& source, Index height, Index width, const Rect& window) {
    const auto places = [](Index in, Index out) {
        const double scale = static_cast<double>(in) / static_cast<double>(out);
        std::vector<Index> at(static_cast<std::size_t>(out));
        double place = scale * 0.5;
        for (Index& i : at) {
            i = std::min(static_cast<Index>(place), in - 1);
            place += scale;
        }
        return at;
    };
    const std::vector<Index> rows = places(source.height, height), columns = places(source.width, width);
    Image out(window.height, window.width);
    for (Index y = 0; y < window.height; ++y) {
        const std::uint8_t* in =
            image.row(source.top + rows[static_cast<std::size_t>(window.top + y)]) + source.left * 3;
        for (Index x = 0; x < window.width; ++x)
            std::memcpy(out.row(y) + x * 3, in + columns[static_cast<std::size_t>(window.left + x)] * 3, 3);
    }
    return out;
}

/// Memory for what stands between the two passes, kept by each thread for its next image: asking for it anew costs a
/// quarter of the time in page faults.
inline std::uint8_t* between_passes(Index bytes) {
    static thread_local std::vector<std::uint8_t> kept;
    if (static_cast<Index>(kept.size()) < bytes) kept.resize(static_cast<std::size_t>(bytes));
    return kept.data();
}

/// The part `window` of: `source` cut out of the image, then resized to height × width. Bit for bit what Pillow makes
/// of the cut-out image, computing only what the window shows. A direction that keeps its size is copied.
inline Image resample(const Image& image, const Rect& source, Index height, Index width, const Rect& window,
                      Interpolation interpolation = Interpolation::bicubic) {
    if (interpolation == Interpolation::nearest) return resample_nearest(image, source, height, width, window);
    const ResampleFilter filter = resample_filter(interpolation);
    const bool keep_width = source.width == width, keep_height = source.height == height;
    const ResampleWeights columns(filter, source.width, width, window.left, window.width);
    const ResampleWeights rows(filter, source.height, height, window.top, window.height);
    // The block of input pixels that the window depends on.
    const Index top = keep_height ? window.top : rows.first_input();
    const Index left = keep_width ? window.left : columns.first_input();
    const Index high = keep_height ? window.height : rows.end_input() - top;
    const Index wide = keep_width ? window.width : columns.end_input() - left;
    const std::uint8_t* const in = image.row(source.top + top) + (source.left + left) * 3;
    const Index pitch = image.width * 3;

    Image out(window.height, window.width);
    if (keep_width && keep_height) {
        copy_block(in, pitch, high, wide, out.pixels.data());
    } else if (keep_width) {
        resample_rows(in, pitch, wide * 3, rows, out.pixels.data());
    } else if (keep_height) {
        resample_columns(in, pitch, high, columns, out.pixels.data());
    } else if (vertical_pass_first(source.height, source.width, height, width)) {
        std::uint8_t* const middle = between_passes(window.height * wide * 3);
        resample_rows(in, pitch, wide * 3, rows, middle);
        resample_columns(middle, wide * 3, window.height, columns, out.pixels.data());
    } else {
        std::uint8_t* const middle = between_passes(high * window.width * 3);
        resample_columns(in, pitch, high, columns, middle);
        resample_rows(middle, window.width * 3, window.width * 3, rows, out.pixels.data());
    }
    return out;
}

/// Throws Error unless the image has the bytes that its size asks for: it may come from a host program.
inline void check_pixels(const Image& image, const char* what) {
    require(image.height > 0 && image.width > 0, what, ": the image is empty");
    constexpr Index most = Index{1} << 30;  // of a side: no product overflows
    const bool counts = image.height <= most && image.width <= most;
    require(counts && image.pixels.size() == static_cast<std::size_t>(3 * image.height * image.width), what,
            ": an image of ", image.height, "x", image.width, " (height x width) has ", image.pixels.size(),
            " bytes of pixels, three are needed for each");
    require(image.alpha.empty() || image.alpha.size() == static_cast<std::size_t>(image.height * image.width), what,
            ": an image of ", image.height, "x", image.width, " (height x width) has ", image.alpha.size(),
            " values of opacity");
}

inline void check_target(const Image& image, Index height, Index width, const char* what) {
    check_pixels(image, what);
    require(height > 0 && width > 0 && height <= 65536 && width <= 65536, what, ": cannot make an image of ", height,
            "x", width, " (height x width)");
}

}  // namespace detail

/// Pillow's `Image.resize((width, height), interpolation)`, bit for bit: antialiased, in two passes, weights in 22-bit
/// fixed point, 8-bit values between the passes. A direction whose size does not change is copied. Throws Error for an
/// empty image or a size outside 1…65536.
inline Image resize(const Image& image, Index height, Index width,
                    Interpolation interpolation = Interpolation::bicubic) {
    detail::check_target(image, height, width, "resize");
    return detail::resample(image, {0, 0, image.height, image.width}, height, width, {0, 0, height, width},
                            interpolation);
}

/// The rectangle's pixels. Throws Error when it is empty or leaves the image.
inline Image crop(const Image& image, Index top, Index left, Index height, Index width) {
    detail::check_rect(image, {top, left, height, width}, "crop");
    Image out(height, width);
    for (Index y = 0; y < height; ++y)
        std::memcpy(out.row(y), image.row(top + y) + left * 3, static_cast<std::size_t>(width * 3));
    return out;
}

}  // namespace promptkd
