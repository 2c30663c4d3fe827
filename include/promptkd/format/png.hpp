// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/core/image.hpp>
#include <promptkd/format/text_file.hpp>

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace promptkd {

/// What an image reader accepts.
struct ImageLimits {
    Index max_pixels = 178956970;  ///< Pillow's limit; checked before anything is decoded
    std::size_t max_file_bytes = std::size_t{1} << 30;
};

namespace detail {

/// Throws Error unless height · width is within the limit (both come from a file's header).
inline void check_dimensions(Index height, Index width, const ImageLimits& limits, const std::string& name) {
    require(height > 0 && width > 0, name, ": the image is empty (", width, "x", height, " pixels)");
    require(width <= limits.max_pixels / height, name, ": ", width, "x", height, " pixels are more than the limit of ",
            limits.max_pixels, "; refused before decoding");
}

inline std::uint32_t read_u32_be(const std::uint8_t* p) {
    return static_cast<std::uint32_t>(p[0]) << 24 | static_cast<std::uint32_t>(p[1]) << 16 |
           static_cast<std::uint32_t>(p[2]) << 8 | p[3];
}

inline constexpr std::uint8_t png_signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

struct PngHeader {
    Index width = 0, height = 0;
    int depth = 0, colour = 0;
    bool interlaced = false;

    int channels() const { return colour == 2 ? 3 : colour == 4 ? 2 : colour == 6 ? 4 : 1; }
    /// Bytes of one unfiltered row of `columns` pixels.
    std::size_t row_bytes(Index columns) const {
        return (static_cast<std::size_t>(columns) * static_cast<std::size_t>(channels() * depth) + 7) / 8;
    }
    /// Distance in bytes to the pixel on the left, as filters see it.
    std::size_t filter_step() const { return static_cast<std::size_t>(std::max(1, channels() * depth / 8)); }
};

/// The parts of a PNG file that matter for its pixels.
struct PngFile {
    PngHeader header;
    std::vector<std::array<std::uint8_t, 3>> palette;
    std::vector<std::pair<const std::uint8_t*, std::size_t>> data;  // the IDAT chunks
};

inline PngHeader read_png_header(const std::uint8_t* p, const ImageLimits& limits, const std::string& name) {
    PngHeader header;
    header.width = read_u32_be(p);
    header.height = read_u32_be(p + 4);
    header.depth = p[8];
    header.colour = p[9];
    check_dimensions(header.height, header.width, limits, name);
    require(header.depth != 16, name, ": 16 bits a channel; this reader takes 8-bit images, convert the file first");
    constexpr int depths_of_colour[7] = {1 | 2 | 4 | 8, 0, 8, 1 | 2 | 4 | 8, 8, 0, 8};
    const bool power = header.depth == 1 || header.depth == 2 || header.depth == 4 || header.depth == 8;
    require(header.colour <= 6 && power && (depths_of_colour[header.colour] & header.depth) != 0, name,
            ": PNG header with colour type ", header.colour, " and ", header.depth, " bits, which does not exist");
    require(p[10] == 0 && p[11] == 0 && p[12] <= 1, name,
            ": PNG header with an unknown compression, filter or interlace");
    header.interlaced = p[12] == 1;
    return header;
}

/// Walks the chunks up to the end of the image data: lengths inside the file, checksums, order.
inline PngFile parse_png(const std::uint8_t* bytes, std::size_t size, const ImageLimits& limits,
                         const std::string& name) {
    PngFile file;
    std::size_t at = sizeof png_signature;
    for (bool first = true;; first = false) {
        require(size - at >= 12, name, ": truncated PNG: ", size, " bytes end before the image data does");
        const std::size_t length = read_u32_be(bytes + at);
        const std::uint8_t* const type = bytes + at + 4;
        const std::uint8_t* const body = type + 4;
        require(length <= size - at - 12, name, ": truncated PNG: a chunk at byte ", at, " needs ", length,
                " bytes, the file has ", size - at - 12, " left");
        const bool is_data = std::memcmp(type, "IDAT", 4) == 0;
        if (!file.data.empty() && !is_data) return file;
        const bool critical = (type[0] & 0x20) == 0;
        require(!critical || crc32(0, type, static_cast<uInt>(length + 4)) == read_u32_be(body + length), name,
                ": damaged PNG: wrong checksum in the chunk at byte ", at);
        const bool is_header = std::memcmp(type, "IHDR", 4) == 0;
        require(first == is_header && (!is_header || length == 13), name,
                ": damaged PNG: misplaced or odd header chunk");
        if (is_header) {
            file.header = read_png_header(body, limits, name);
        } else if (std::memcmp(type, "PLTE", 4) == 0) {
            require(length % 3 == 0 && length >= 3 && length <= 768, name, ": damaged PNG: palette of ", length,
                    " bytes");
            file.palette.resize(length / 3);
            std::memcpy(file.palette.data(), body, length);
        } else if (is_data) {
            require(file.header.colour != 3 || !file.palette.empty(), name,
                    ": damaged PNG: palette image without palette");
            file.data.emplace_back(body, length);
        } else {
            require(!critical, name,
                    ": damaged PNG: ", type[0] == 'I' && type[1] == 'E' ? "no image data" : "unknown chunk",
                    " at byte ", at);
        }
        at += length + 12;
    }
}

/// Inflates the image data to exactly `raw.size()` bytes: a stream that holds less is truncated, and one that holds
/// more (a decompression bomb) is never expanded.
inline void inflate_png(const PngFile& file, std::vector<std::uint8_t>& raw, const std::string& name) {
    Inflater inflater(15);
    z_stream& stream = inflater.stream;
    std::size_t produced = 0;
    int status = Z_OK;
    for (const auto& chunk : file.data) {
        stream.next_in = const_cast<Bytef*>(chunk.first);
        stream.avail_in = static_cast<uInt>(chunk.second);
        while (stream.avail_in > 0 && status == Z_OK && produced < raw.size()) {
            const std::size_t room = std::min<std::size_t>(raw.size() - produced, std::size_t{1} << 30);
            stream.next_out = raw.data() + produced;
            stream.avail_out = static_cast<uInt>(room);
            status = inflate(&stream, Z_NO_FLUSH);
            produced += room - stream.avail_out;
            require(status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR, name,
                    ": damaged PNG: ", stream.msg ? stream.msg : "bad compressed data");
            if (status == Z_BUF_ERROR) status = Z_OK;
        }
    }
    require(produced == raw.size(), name, ": truncated PNG: ", produced, " of ", raw.size(), " bytes of pixel data");
}

inline std::uint8_t paeth(int left, int up, int corner) {
    const int p = left + up - corner, a = std::abs(p - left), b = std::abs(p - up), c = std::abs(p - corner);
    return static_cast<std::uint8_t>(a <= b && a <= c ? left : b <= c ? up : corner);
}

/// Undoes one row's filter (PNG specification, section 9) in place; `above` is the row before, zeros for the first.
inline void unfilter_png_row(int filter, std::uint8_t* row, const std::uint8_t* above, std::size_t n,
                             std::size_t step) {
    const auto add = [](std::uint8_t a, int b) { return static_cast<std::uint8_t>(a + b); };
    const std::size_t head = std::min(step, n);
    switch (filter) {
        case 1:
            for (std::size_t i = step; i < n; ++i) row[i] = add(row[i], row[i - step]);
            break;
        case 2:
            for (std::size_t i = 0; i < n; ++i) row[i] = add(row[i], above[i]);
            break;
        case 3:
            for (std::size_t i = 0; i < head; ++i) row[i] = add(row[i], above[i] >> 1);
            for (std::size_t i = step; i < n; ++i) row[i] = add(row[i], (row[i - step] + above[i]) >> 1);
            break;
        case 4:
            for (std::size_t i = 0; i < head; ++i) row[i] = add(row[i], above[i]);
            for (std::size_t i = step; i < n; ++i)
                row[i] = add(row[i], paeth(row[i - step], above[i], above[i - step]));
            break;
        default:
            break;
    }
}

/// Writes one unfiltered row as RGB, `stride` pixels apart: palette applied, grey replicated, alpha dropped.
inline void expand_png_row(const PngFile& file, const std::uint8_t* row, Index columns, Index stride, std::uint8_t* out,
                           const std::string& name) {
    const int depth = file.header.depth, channels = file.header.channels();
    const bool colour = channels >= 3;
    const int mask = (1 << depth) - 1;
    for (Index x = 0; x < columns; ++x, out += 3 * stride) {
        if (colour) {
            for (int c = 0; c < 3; ++c) out[c] = row[x * channels + c];
            continue;
        }
        const Index bit = x * depth * channels;
        const int value = row[bit >> 3] >> (8 - depth - static_cast<int>(bit & 7)) & mask;
        if (file.header.colour == 3) {
            require(static_cast<std::size_t>(value) < file.palette.size(), name, ": damaged PNG: colour ", value,
                    " of a palette of ", file.palette.size());
            std::copy_n(file.palette[static_cast<std::size_t>(value)].data(), 3, out);
        } else {
            std::fill_n(out, 3, static_cast<std::uint8_t>(value * 255 / mask));
        }
    }
}

/// Where the pixels of one pass lie: every `step_x`-th column from `x0`, likewise rows.
struct PngPass {
    Index x0, y0, step_x, step_y;
    Index columns(Index width) const { return (width - x0 + step_x - 1) / step_x; }
    Index rows(Index height) const { return (height - y0 + step_y - 1) / step_y; }
    bool empty(const PngHeader& header) const { return columns(header.width) <= 0 || rows(header.height) <= 0; }
};

inline std::vector<PngPass> png_passes(bool interlaced) {
    if (!interlaced) return {{0, 0, 1, 1}};
    return {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4}, {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};
}

/// Decodes a PNG file in memory that starts with the signature.
inline Image decode_png(const std::uint8_t* bytes, std::size_t size, const std::string& name,
                        const ImageLimits& limits) {
    const PngFile file = parse_png(bytes, size, limits, name);
    const PngHeader& header = file.header;
    const std::vector<PngPass> passes = png_passes(header.interlaced);
    std::size_t total = 0;
    for (const PngPass& pass : passes)
        if (!pass.empty(header))
            total +=
                static_cast<std::size_t>(pass.rows(header.height)) * (1 + header.row_bytes(pass.columns(header.width)));
    std::vector<std::uint8_t> raw(total);
    inflate_png(file, raw, name);

    Image image(header.height, header.width);
    std::uint8_t* in = raw.data();
    for (const PngPass& pass : passes) {
        if (pass.empty(header)) continue;
        const Index columns = pass.columns(header.width);
        const std::size_t n = header.row_bytes(columns);
        const std::vector<std::uint8_t> zeros(n);
        const std::uint8_t* above = zeros.data();
        for (Index y = pass.y0; y < header.height; y += pass.step_y, in += n + 1) {
            require(in[0] <= 4, name, ": damaged PNG: unknown filter ", int{in[0]}, " in row ", y);
            unfilter_png_row(in[0], in + 1, above, n, header.filter_step());
            expand_png_row(file, in + 1, columns, pass.step_x, image.row(y) + 3 * pass.x0, name);
            above = in + 1;
        }
    }
    return image;
}

inline void append_u32_be(std::string& out, std::size_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift & 0xff));
}

inline void append_png_chunk(std::string& out, const char* type, const std::string& body) {
    append_u32_be(out, body.size());
    const std::string typed = type + body;
    out += typed;
    append_u32_be(out, crc32(0, reinterpret_cast<const Bytef*>(typed.data()), static_cast<uInt>(typed.size())));
}

}  // namespace detail

/// The bytes of a PNG file that shows `image` (8-bit RGB, Paeth-filtered rows).
inline std::string encode_png(const Image& image) {
    require(image.height > 0 && image.width > 0 && image.height * image.width <= (Index{1} << 28),
            "encode_png: an image of ", image.width, "x", image.height, " pixels cannot be written");
    const std::size_t n = static_cast<std::size_t>(image.width) * 3;
    std::vector<std::uint8_t> raw;
    raw.reserve((n + 1) * static_cast<std::size_t>(image.height));
    const std::vector<std::uint8_t> zeros(n);
    for (Index y = 0; y < image.height; ++y) {
        const std::uint8_t *row = image.row(y), *above = y > 0 ? image.row(y - 1) : zeros.data();
        raw.push_back(4);
        for (std::size_t i = 0; i < n; ++i) {
            const int predicted = i < 3 ? above[i] : detail::paeth(row[i - 3], above[i], above[i - 3]);
            raw.push_back(static_cast<std::uint8_t>(row[i] - predicted));
        }
    }
    uLongf length = compressBound(static_cast<uLong>(raw.size()));
    std::string packed(length, '\0');
    require(compress2(reinterpret_cast<Bytef*>(packed.data()), &length, raw.data(), static_cast<uLong>(raw.size()),
                      6) == Z_OK,
            "encode_png: out of memory");
    packed.resize(length);
    std::string out(reinterpret_cast<const char*>(detail::png_signature), sizeof detail::png_signature), header;
    detail::append_u32_be(header, static_cast<std::size_t>(image.width));
    detail::append_u32_be(header, static_cast<std::size_t>(image.height));
    detail::append_png_chunk(out, "IHDR", header + std::string("\x08\x02\x00\x00\x00", 5));
    detail::append_png_chunk(out, "IDAT", packed);
    detail::append_png_chunk(out, "IEND", "");
    return out;
}

/// Writes `image` as a PNG file. The file appears whole or not at all: it is written beside its place and renamed.
/// Throws Error naming the file when it cannot be written.
inline void write_png(const std::string& path, const Image& image) {
    const std::string bytes = encode_png(image), temporary = path + ".part";
    std::FILE* file = std::fopen(temporary.c_str(), "wb");
    require(file != nullptr, path, ": cannot be written (", std::strerror(errno), ")");
    const bool written = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
    const bool good = (std::fclose(file) == 0) && written && std::rename(temporary.c_str(), path.c_str()) == 0;
    const int reason = errno;
    if (!good) std::remove(temporary.c_str());
    require(good, path, ": cannot be written (", std::strerror(reason), ")");
}

}  // namespace promptkd
