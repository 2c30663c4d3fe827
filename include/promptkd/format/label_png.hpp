// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/label_map.hpp>
#include <promptkd/format/png.hpp>

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace promptkd {

/// How a file of labels stores them.
enum class LabelStorage {
    palette,  ///< numbers of a palette, as VOC's masks
    grey      ///< grey values, as ADE20K's
};

/// A label map out of a file.
struct StoredLabels {
    LabelMap map;                                  ///< the labels
    LabelStorage storage = LabelStorage::palette;  ///< how they were stored
};

/// The label map in a PNG file whose pixels have one value: a number of a palette, or a grey value of up to 8 bits.
/// Throws Error for any other file.
inline StoredLabels read_labels(const std::string& path) {
    const std::string bytes = read_file(path);
    const bool png = bytes.size() > sizeof detail::png_signature &&
                     std::memcmp(bytes.data(), detail::png_signature, sizeof detail::png_signature) == 0;
    require(png, path, ": not a PNG file; masks are PNG files with one value a pixel");
    const auto* const data = reinterpret_cast<const std::uint8_t*>(bytes.data());
    const ImageLimits limits;
    const detail::PngChunks file(data, bytes.size(), limits, path);
    const detail::PngHeader& header = file.header();
    const bool palette = header.colour == detail::png_colour::palette;
    const bool grey = header.colour == detail::png_colour::grey;
    require(palette || (grey && header.depth <= 8), path,
            ": a mask has one value a pixel, a palette's number or a grey value of 8 bits; this picture has ",
            grey ? "grey values of 16 bits" : "colours or opacity");
    StoredLabels out{LabelMap(header.height, header.width), palette ? LabelStorage::palette : LabelStorage::grey};
    const auto row_bytes = static_cast<std::size_t>((header.width * header.depth + 7) / 8);
    std::vector<std::uint8_t> rows(row_bytes * static_cast<std::size_t>(header.height));
    detail::decode_png_samples(file, SPNG_FMT_PNG, rows.data(), rows.size(), path);
    const unsigned mask = (1u << header.depth) - 1;
    for (Index y = 0; y < header.height; ++y)
        for (Index x = 0; x < header.width; ++x) {
            const Index bit = x * header.depth;
            const unsigned byte = rows[static_cast<std::size_t>(y) * row_bytes + static_cast<std::size_t>(bit >> 3)];
            out.map.labels[static_cast<std::size_t>(y * header.width + x)] =
                static_cast<std::uint8_t>(byte >> (8 - header.depth - (bit & 7)) & mask);
        }
    return out;
}

/// Colour of label `i` in PASCAL VOC's palette: the bits of i spread over red, green and blue, the highest first.
inline std::array<std::uint8_t, 3> voc_colour(unsigned i) {
    std::array<std::uint8_t, 3> colour{0, 0, 0};
    for (int bit = 7; i != 0; --bit, i >>= 3)
        for (std::size_t c = 0; c < 3; ++c) colour[c] |= static_cast<std::uint8_t>((i >> c & 1u) << bit);
    return colour;
}

/// The bytes of a PNG file that holds `map`, with VOC's palette or as grey values.
inline std::string encode_labels(const LabelMap& map, LabelStorage storage = LabelStorage::palette) {
    require(map.height > 0 && map.width > 0 && map.height * map.width <= (Index{1} << 28), "encode_labels: a map of ",
            map.width, "x", map.height, " pixels cannot be written");
    const detail::SpngContext context(spng_ctx_new(SPNG_CTX_ENCODER), &spng_ctx_free);
    require(context != nullptr, "encode_labels: not enough memory");
    spng_ihdr header{};
    header.width = static_cast<std::uint32_t>(map.width);
    header.height = static_cast<std::uint32_t>(map.height);
    header.bit_depth = 8;
    const bool indexed = storage == LabelStorage::palette;
    header.color_type = indexed ? SPNG_COLOR_TYPE_INDEXED : SPNG_COLOR_TYPE_GRAYSCALE;
    spng_plte palette{};
    palette.n_entries = 256;
    for (unsigned i = 0; i < 256; ++i) {
        const std::array<std::uint8_t, 3> c = voc_colour(i);
        palette.entries[i] = {c[0], c[1], c[2], 255};
    }
    spng_set_ihdr(context.get(), &header);
    if (indexed) spng_set_plte(context.get(), &palette);
    spng_set_option(context.get(), SPNG_ENCODE_TO_BUFFER, 1);
    int status =
        spng_encode_image(context.get(), map.labels.data(), map.labels.size(), SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE);
    require(status == SPNG_OK, "encode_labels: ", spng_strerror(status));
    std::size_t size = 0;
    const std::unique_ptr<void, void (*)(void*)> bytes(spng_get_png_buffer(context.get(), &size, &status), &std::free);
    require(bytes != nullptr, "encode_labels: ", spng_strerror(status));
    return {static_cast<const char*>(bytes.get()), size};
}

/// Writes `map` as a PNG file, all or nothing.
inline void write_labels(const std::string& path, const LabelMap& map, LabelStorage storage = LabelStorage::palette) {
    write_atomically(path, encode_labels(map, storage));
}

}  // namespace promptkd
