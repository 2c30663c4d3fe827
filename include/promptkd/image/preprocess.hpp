// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/image/colours.hpp>
#include <promptkd/image/resample.hpp>

#include <array>
#include <string>

namespace promptkd {

/// Per-channel mean and standard deviation of pixel values in [0, 1]; the defaults are CLIP's.
struct Normalization {
    std::array<float, 3> mean{0.48145466f, 0.4578275f, 0.40821073f};  ///< of red, green and blue, of values in [0, 1]
    /// standard deviation of red, green and blue
    std::array<float, 3> deviation{0.26862954f, 0.26130258f, 0.27577711f};

    /// Whether all of both is the same.
    friend bool operator==(const Normalization&, const Normalization&) = default;
};

/// How an image gets the size that the resize asks for.
enum class ResizeMode {
    shortest,  ///< the shorter side becomes `size`, the longer keeps the proportion (its fraction cut)
    longest,   ///< the longer side becomes `size` (sides rounded), the rest is filled
    squash,    ///< height and width become those of the result, whatever the proportion
    none       ///< no resize
};

/// "shortest", "longest", "squash" or "none".
inline const char* name_of(ResizeMode mode) {
    constexpr const char* names[] = {"shortest", "longest", "squash", "none"};
    return names[static_cast<int>(mode)];
}

/// Throws Error listing the modes for an unknown name.
inline ResizeMode parse_resize_mode(const std::string& name) {
    for (const ResizeMode mode : {ResizeMode::shortest, ResizeMode::longest, ResizeMode::squash, ResizeMode::none})
        if (name == name_of(mode)) return mode;
    fail("unknown resize mode '", name, "'; known: shortest, longest, squash, none");
}

/// Where the central part begins when the surplus is odd.
enum class CropRounding {
    half_to_even,  ///< round(surplus/2), halves to the even integer: OpenAI's and open_clip's pipelines (torchvision)
    floor          ///< ⌊surplus/2⌋: Hugging Face's image processors
};

/// Everything that turns a decoded image into an encoder's input (3, height, width): resize on bytes, central crop (or
/// filling), value·rescale, (value − mean)/deviation. The defaults are CLIP's test preprocessing (OpenAI's `clip`).
struct Preprocessing {
    Index height = 224, width = 224;           ///< of the result; both 0: what the encoder takes, see at_resolution()
    ResizeMode resize = ResizeMode::shortest;  ///< which side the resize fits
    Index size = 0;  ///< the side that is fitted (squash: both) before the crop; 0: the result's
    Interpolation interpolation = Interpolation::bicubic;  ///< of the resize
    bool crop = true;  ///< cut out the centre; else the resize must give the result's size
    CropRounding rounding = CropRounding::half_to_even;  ///< where the centre begins
    std::uint8_t fill = 0;  ///< of what a `longest` resize leaves empty and of a crop beyond the image, in all channels
    ColourConversion colours = ColourConversion::first;  ///< when pictures become RGB
    double rescale = 1.0 / 255;                          ///< factor of a byte before the normalisation
    Normalization normalization;                         ///< mean and deviation of the scaled values

    /// CLIP's for square inputs of `resolution` pixels.
    static Preprocessing clip(Index resolution) {
        Preprocessing p;
        p.height = resolution;
        p.width = resolution;
        return p;
    }

    /// The same for an encoder of `resolution` pixels, which sets the size where none is said.
    Preprocessing at_resolution(Index resolution) const {
        Preprocessing p = *this;
        if (p.height == 0) p.height = resolution;
        if (p.width == 0) p.width = resolution;
        return p;
    }

    /// Whether all of both is the same.
    friend bool operator==(const Preprocessing&, const Preprocessing&) = default;
};

/// The rectangle's pixels resized to resolution × resolution: torchvision's `resized_crop` with bicubic (cut first,
/// then resized: pixels outside the rectangle have no influence).
inline Image resized_crop(const Image& image, Index top, Index left, Index height, Index width, Index resolution) {
    detail::check_rect(image, {top, left, height, width}, "resized_crop");
    detail::check_target(image, resolution, resolution, "resized_crop");
    return detail::resample(image, {top, left, height, width}, resolution, resolution, {0, 0, resolution, resolution});
}

namespace detail {

/// Half of `extra`, rounded to the even neighbour: Python's round(extra / 2).
inline Index half_to_even(Index extra) {
    const Index half = extra / 2;
    return extra % 2 != 0 && half % 2 != 0 ? half + 1 : half;
}

/// Height and width of an image.
struct ImageSize {
    Index height = 0, width = 0;
};

/// The size of `image` after the resize. Of `longest`, sides round(side/f) with halves to even, as Python rounds.
inline ImageSize resized_size(const Image& image, const Preprocessing& p) {
    const Index shorter = std::min(image.height, image.width), longer = std::max(image.height, image.width);
    if (p.resize == ResizeMode::none) return {image.height, image.width};
    if (p.resize == ResizeMode::squash) return {p.size > 0 ? p.size : p.height, p.size > 0 ? p.size : p.width};
    if (p.resize == ResizeMode::shortest) {
        const Index size = p.size > 0 ? p.size : std::min(p.height, p.width);
        return {size * image.height / shorter, size * image.width / shorter};
    }
    const Index size = p.size > 0 ? p.size : std::max(p.height, p.width);
    const double factor = static_cast<double>(longer) / static_cast<double>(size);
    const auto side = [factor](Index length) {
        return std::max<Index>(1, static_cast<Index>(std::nearbyint(static_cast<double>(length) / factor)));
    };
    return {side(image.height), side(image.width)};
}

/// First row or column of the centre, `surplus` more than it being there.
inline Index center_begin(Index surplus, CropRounding rounding) {
    return rounding == CropRounding::floor ? surplus / 2 : half_to_even(surplus);
}

/// `inner` in the middle of a p.height × p.width image of p.fill, its centre where it is larger. Of an odd number of
/// missing rows or columns Hugging Face's processors put one more above and left, torchvision and open_clip below and
/// right.
inline Image centered(const Image& inner, const Preprocessing& p) {
    Image out(p.height, p.width);
    std::fill(out.pixels.begin(), out.pixels.end(), p.fill);
    const Index odd = p.rounding == CropRounding::floor ? 1 : 0;
    const Index top = (std::max<Index>(0, p.height - inner.height) + odd) / 2;
    const Index left = (std::max<Index>(0, p.width - inner.width) + odd) / 2;
    const Index from_row = center_begin(std::max<Index>(0, inner.height - p.height), p.rounding);
    const Index from_column = center_begin(std::max<Index>(0, inner.width - p.width), p.rounding);
    const Index rows = std::min(inner.height, p.height), columns = std::min(inner.width, p.width);
    for (Index y = 0; y < rows; ++y)
        std::memcpy(out.row(top + y) + left * 3, inner.row(from_row + y) + from_column * 3,
                    static_cast<std::size_t>(columns * 3));
    return out;
}

}  // namespace detail

/// Whether the pixels of `image` are those that preprocess_image() would make of it.
inline bool is_preprocessed(const Image& image, const Preprocessing& p) {
    if (image.height != p.height || image.width != p.width) return false;
    if (p.colours == ColourConversion::over_white && !image.alpha.empty()) return false;
    const detail::ImageSize size = detail::resized_size(image, p);
    return size.height == p.height && size.width == p.width;
}

/// `image` as p says, up to the 8-bit image of p.height × p.width; of the resized image only what is shown is computed.
/// Throws Error for an empty image, and where no crop is wanted and the resize gives another size.
inline Image preprocess_image(const Image& image, const Preprocessing& p) {
    detail::check_target(image, p.height, p.width, "preprocess_image");
    const detail::ImageSize size = detail::resized_size(image, p);
    const bool fits = size.height == p.height && size.width == p.width;
    require(fits || p.crop || p.resize == ResizeMode::longest, "an image of ", image.height, "x", image.width,
            " becomes ", size.height, "x", size.width, " (height x width) without a crop, the encoder takes ", p.height,
            "x", p.width);
    const detail::Rect whole{0, 0, image.height, image.width};
    if (size.height < p.height || size.width < p.width) {
        const detail::Rect all{0, 0, size.height, size.width};
        return detail::centered(
            detail::resample_stored(image, whole, size.height, size.width, all, p.interpolation, p.colours), p);
    }
    const detail::Rect window{detail::center_begin(size.height - p.height, p.rounding),
                              detail::center_begin(size.width - p.width, p.rounding), p.height, p.width};
    return detail::resample_stored(image, whole, size.height, size.width, window, p.interpolation, p.colours);
}

/// CLIP's test preprocessing up to the 8-bit image: shorter side to `resolution` (longer side int(resolution · long /
/// short); no resampling when it is already right), then the central resolution × resolution square, its offset half
/// of the surplus rounded to even. Only the square is computed. Throws Error for an empty image.
inline Image preprocess_image(const Image& image, Index resolution) {
    return preprocess_image(image, Preprocessing::clip(resolution));
}

/// Writes (value·rescale − mean)/deviation of each pixel into `chw` (3, height, width), in fp32: with rescale 1/255 as
/// torchvision's ToTensor and Normalize, which divide by 255.
inline void normalize_image(const Image& image, float* chw, const Normalization& normalization = {},
                            double rescale = 1.0 / 255) {
    const Index n = image.height * image.width;
    const std::uint8_t* const pixels = image.pixels.data();
    for (std::size_t c = 0; c < 3; ++c) {
        float table[256];  // a channel has only 256 values
        for (int v = 0; v < 256; ++v) {
            const float unit = rescale == 1.0 / 255 ? static_cast<float>(v) / 255.0f
                                                    : static_cast<float>(static_cast<double>(v) * rescale);
            table[v] = (unit - normalization.mean[c]) / normalization.deviation[c];
        }
        float* const plane = chw + static_cast<Index>(c) * n;
        for (Index i = 0; i < n; ++i) plane[i] = table[pixels[i * 3 + static_cast<Index>(c)]];
    }
}

/// The last step of p: see above.
inline void normalize_image(const Image& image, float* chw, const Preprocessing& p) {
    normalize_image(image, chw, p.normalization, p.rescale);
}

}  // namespace promptkd
