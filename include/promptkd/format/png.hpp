// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/image.hpp>
#include <promptkd/format/file.hpp>
#include <promptkd/format/png_chunks.hpp>

#include <spng.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

namespace promptkd {

namespace detail {

using SpngContext = std::unique_ptr<spng_ctx, void (*)(spng_ctx*)>;

/// Throws Error for what libspng says about the pixel data of the file `name`.
inline void check_spng(int status, const std::string& name) {
    require(status != SPNG_EMEM, name, ": not enough memory for this PNG");
    require(status != SPNG_EIDAT_TOO_SHORT && status != SPNG_IO_EOF && status != SPNG_EOF, name,
            ": truncated PNG: the pixel data ends too early");
    require(status == SPNG_OK, name, ": damaged PNG: ", spng_strerror(status));
}

/// Inflates, unfilters and deinterlaces the samples into `out` (`size` bytes, zeroed) in `format`. libspng inflates
/// row by row: data that would inflate to more than the image (a decompression bomb) is never expanded.
inline void decode_png_samples(const PngChunks& file, spng_format format, std::uint8_t* out, std::size_t size,
                               const std::string& name) {
    const SpngContext context(spng_ctx_new(0), &spng_ctx_free);
    require(context != nullptr, name, ": not enough memory for this PNG");
    check_spng(spng_set_png_buffer(context.get(), file.samples().data(), file.samples().size()), name);
    check_spng(spng_decode_image(context.get(), out, size, format, 0), name);
}

/// The pixels of a palette image: `rows` holds its indices, `header.depth` bits each, rows padded to whole bytes.
inline void apply_palette(const PngChunks& file, const std::vector<std::uint8_t>& rows, Image& image,
                          const std::string& name) {
    const int depth = file.header().depth;
    const unsigned mask = (1u << depth) - 1;
    const std::size_t row_bytes = rows.size() / static_cast<std::size_t>(image.height);
    for (Index y = 0; y < image.height; ++y) {
        const std::uint8_t* const row = rows.data() + static_cast<std::size_t>(y) * row_bytes;
        std::uint8_t* out = image.row(y);
        for (Index x = 0; x < image.width; ++x, out += 3) {
            const Index bit = x * depth;
            const std::size_t index = row[bit >> 3] >> (8 - depth - (bit & 7)) & mask;
            require(index < file.palette().size(), name, ": damaged PNG: colour ", index, " of a palette of ",
                    file.palette().size());
            std::copy_n(file.palette()[index].data(), 3, out);
            if (image.alpha.empty() || index >= file.transparency().size()) continue;
            image.alpha[static_cast<std::size_t>(y * image.width + x)] = file.transparency()[index];
        }
    }
}

/// The pixels of an image with alpha, 8 bits a channel.
inline void decode_png_alpha(const PngChunks& file, Image& image, const std::string& name) {
    image.alpha.resize(image.pixels.size() / 3);
    image.stored = StoredColours::with_alpha;
    std::vector<std::uint8_t> rgba(image.alpha.size() * 4);
    decode_png_samples(file, SPNG_FMT_RGBA8, rgba.data(), rgba.size(), name);
    for (std::size_t i = 0; i < image.alpha.size(); ++i) {
        std::copy_n(rgba.data() + 4 * i, 3, image.pixels.data() + 3 * i);
        image.alpha[i] = rgba[4 * i + 3];
    }
}

/// Of an image of 8 bits a channel without alpha: pixels of the file's transparent colour have none.
inline void mark_transparent_colour(const PngChunks& file, Image& image) {
    const bool grey = file.header().colour == png_colour::grey;
    const std::vector<std::uint8_t>& colour = file.transparency();
    if (file.header().depth != 8 || colour.size() != (grey ? 2u : 6u)) return;
    image.alpha.assign(image.pixels.size() / 3, 255);
    for (std::size_t i = 0; i < image.alpha.size(); ++i) {
        const std::uint8_t* const p = image.pixels.data() + 3 * i;
        const bool transparent = p[0] == colour[1] && (grey || (p[1] == colour[3] && p[2] == colour[5]));
        if (transparent) image.alpha[i] = 0;
    }
}

/// The pixels of an image of 16 bits a sample, `samples` big-endian: the high byte, but of plain grey the value itself,
/// 255 where it is more. Pillow does so: its mode for 16-bit grey knows no scale.
inline void take_high_bytes(int colour, const std::vector<std::uint8_t>& samples, Image& image) {
    const bool grey = colour == png_colour::grey || colour == png_colour::grey_alpha;
    const std::size_t pixels = image.pixels.size() / 3, bytes = samples.size() / pixels;
    const bool has_alpha = colour == png_colour::grey_alpha || colour == png_colour::rgb_alpha;
    if (has_alpha) image.alpha.resize(pixels);
    if (has_alpha) image.stored = StoredColours::with_alpha;
    for (std::size_t i = 0; i < pixels; ++i) {
        const std::uint8_t* const from = samples.data() + i * bytes;
        if (has_alpha) image.alpha[i] = from[bytes - 2];
        for (std::size_t c = 0; c < 3; ++c) {
            std::uint8_t value = from[grey ? 0 : 2 * c];
            if (colour == png_colour::grey) value = value == 0 ? from[1] : std::uint8_t{255};
            image.pixels[3 * i + c] = value;
        }
    }
}

/// Decodes a PNG file in memory that starts with the signature. The pixels are those of Pillow's `convert("RGB")`:
/// alpha and transparency ignored, palette applied, grey replicated.
inline Image decode_png(const std::uint8_t* bytes, std::size_t size, const std::string& name,
                        const ImageLimits& limits) {
    const PngChunks file(bytes, size, limits, name);
    const PngHeader& header = file.header();
    Image image(header.height, header.width);
    if (header.depth == 16) {
        constexpr std::size_t channels[] = {1, 0, 3, 0, 2, 0, 4};
        std::vector<std::uint8_t> samples(image.pixels.size() / 3 * 2 * channels[header.colour]);
        decode_png_samples(file, SPNG_FMT_RAW, samples.data(), samples.size(), name);
        take_high_bytes(header.colour, samples, image);
        return image;
    }
    if (header.colour == png_colour::grey_alpha || header.colour == png_colour::rgb_alpha) {
        decode_png_alpha(file, image, name);
        return image;
    }
    if (header.colour != png_colour::palette) {
        decode_png_samples(file, SPNG_FMT_RGB8, image.pixels.data(), image.pixels.size(), name);
        mark_transparent_colour(file, image);
        if (header.depth == 1) image.stored = StoredColours::indexed;
        return image;
    }
    image.stored = StoredColours::indexed;
    if (!file.transparency().empty()) image.alpha.assign(image.pixels.size() / 3, 255);
    const std::size_t row_bytes = static_cast<std::size_t>((header.width * header.depth + 7) / 8);
    std::vector<std::uint8_t> rows(row_bytes * static_cast<std::size_t>(header.height));
    decode_png_samples(file, SPNG_FMT_PNG, rows.data(), rows.size(), name);
    apply_palette(file, rows, image, name);
    return image;
}

}  // namespace detail

/// The bytes of a PNG file that shows `image` (8-bit RGB, Paeth-filtered rows).
inline std::string encode_png(const Image& image) {
    require(image.height > 0 && image.width > 0 && image.height * image.width <= (Index{1} << 28),
            "encode_png: an image of ", image.width, "x", image.height, " pixels cannot be written");
    const detail::SpngContext context(spng_ctx_new(SPNG_CTX_ENCODER), &spng_ctx_free);
    require(context != nullptr, "encode_png: not enough memory");
    spng_ihdr header{};
    header.width = static_cast<std::uint32_t>(image.width);
    header.height = static_cast<std::uint32_t>(image.height);
    header.bit_depth = 8;
    header.color_type = SPNG_COLOR_TYPE_TRUECOLOR;
    spng_set_ihdr(context.get(), &header);
    spng_set_option(context.get(), SPNG_ENCODE_TO_BUFFER, 1);
    spng_set_option(context.get(), SPNG_FILTER_CHOICE, SPNG_FILTER_CHOICE_PAETH);
    spng_set_option(context.get(), SPNG_IMG_COMPRESSION_LEVEL, 6);
    spng_set_option(context.get(), SPNG_IMG_COMPRESSION_STRATEGY, 0);
    int status =
        spng_encode_image(context.get(), image.pixels.data(), image.pixels.size(), SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE);
    require(status == SPNG_OK, "encode_png: ", spng_strerror(status));
    std::size_t size = 0;
    const std::unique_ptr<void, void (*)(void*)> bytes(spng_get_png_buffer(context.get(), &size, &status), &std::free);
    require(bytes != nullptr, "encode_png: ", spng_strerror(status));
    return {static_cast<const char*>(bytes.get()), size};
}

/// Writes `image` as a PNG file, all or nothing. Throws Error naming the file when it cannot be written.
inline void write_png(const std::string& path, const Image& image) { write_atomically(path, encode_png(image)); }

}  // namespace promptkd
