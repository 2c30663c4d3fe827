// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/image.hpp>
#include <promptkd/image/resample.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace promptkd {

/// When a picture becomes RGB, and what is made of its opacity.
enum class ColourConversion {
    first,       ///< before the resize; opacity is dropped: Pillow's `convert("RGB")`, as in the published loaders
    over_white,  ///< before the resize; what is transparent shows white: Hugging Face's image processors (since 5)
    last         ///< after the resize: open_clip. Palettes are resized by nearest pixels, colours weighted by opacity
};

/// "first", "over_white" or "last".
inline const char* name_of(ColourConversion conversion) {
    constexpr const char* names[] = {"first", "over_white", "last"};
    return names[static_cast<int>(conversion)];
}

/// Throws Error listing the choices for an unknown name.
inline ColourConversion parse_colour_conversion(const std::string& name) {
    for (const ColourConversion one : {ColourConversion::first, ColourConversion::over_white, ColourConversion::last})
        if (name == name_of(one)) return one;
    fail("unknown conversion to RGB '", name, "'; known: first, over_white, last");
}

namespace detail {

/// round(v/255) for 0 ≤ v ≤ 255², as Pillow's integers round.
inline std::uint32_t rounded_255th(std::uint32_t v) {
    v += 128;
    return (v + (v >> 8)) >> 8;
}

/// The image over white, rounded as Pillow's `alpha_composite`.
inline Image over_white(const Image& image) {
    Image out(image.height, image.width);
    for (std::size_t i = 0; i < out.pixels.size(); ++i) {
        const std::uint32_t a = image.alpha[i / 3];
        const std::uint32_t sum = (image.pixels[i] * a + 255 * (255 - a)) * 128 + (128u << 7);
        out.pixels[i] = static_cast<std::uint8_t>(((sum >> 8) + sum) >> 8 >> 7);
    }
    return out;
}

/// The same rectangle of an image with alpha, colours and opacity resampled together: colours are multiplied by it
/// before and divided by it afterwards, in bytes, as Pillow's `resize` does. The opacity is then dropped.
inline Image resample_with_alpha(const Image& image, const Rect& source, Index height, Index width, const Rect& window,
                                 Interpolation interpolation) {
    Image colours(image.height, image.width), opacity(image.height, image.width);
    for (std::size_t i = 0; i < colours.pixels.size(); ++i) {
        opacity.pixels[i] = image.alpha[i / 3];
        colours.pixels[i] =
            static_cast<std::uint8_t>(rounded_255th(std::uint32_t{image.pixels[i]} * image.alpha[i / 3]));
    }
    Image out = resample(colours, source, height, width, window, interpolation);
    const Image shown = resample(opacity, source, height, width, window, interpolation);
    for (std::size_t i = 0; i < out.pixels.size(); ++i) {
        const std::uint32_t a = shown.pixels[i];
        if (a == 0 || a == 255) continue;
        out.pixels[i] = static_cast<std::uint8_t>(std::min<std::uint32_t>(255 * std::uint32_t{out.pixels[i]} / a, 255));
    }
    return out;
}

/// resample() of an image whose colours are converted as `conversion` says.
inline Image resample_stored(const Image& image, const Rect& source, Index height, Index width, const Rect& window,
                             Interpolation interpolation, ColourConversion conversion) {
    if (conversion == ColourConversion::over_white && !image.alpha.empty())
        return resample(over_white(image), source, height, width, window, interpolation);
    const bool kept = source.height == height && source.width == width;
    if (conversion == ColourConversion::last && !kept && interpolation != Interpolation::nearest) {
        if (image.stored == StoredColours::indexed) interpolation = Interpolation::nearest;
        if (image.stored == StoredColours::with_alpha)
            return resample_with_alpha(image, source, height, width, window, interpolation);
    }
    return resample(image, source, height, width, window, interpolation);
}

}  // namespace detail

}  // namespace promptkd
