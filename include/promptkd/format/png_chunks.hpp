// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/format/crc32.hpp>
#include <promptkd/format/image_limits.hpp>

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace promptkd::detail {

inline constexpr std::uint8_t png_signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

inline std::uint32_t read_u32_be(const std::uint8_t* p) {
    return static_cast<std::uint32_t>(p[0]) << 24 | static_cast<std::uint32_t>(p[1]) << 16 |
           static_cast<std::uint32_t>(p[2]) << 8 | p[3];
}

/// The colour types of a PNG header.
namespace png_colour {
inline constexpr int grey = 0, rgb = 2, palette = 3, grey_alpha = 4, rgb_alpha = 6;
}  // namespace png_colour

struct PngHeader {
    Index width = 0, height = 0;
    int depth = 0;   ///< bits a sample: 1, 2, 4, 8 or 16
    int colour = 0;  ///< one of png_colour
};

/// Reads the 13 bytes of an IHDR chunk. Throws Error for images that are empty or beyond the limits, or cannot exist.
inline PngHeader read_png_header(const std::uint8_t* p, const ImageLimits& limits, const std::string& name) {
    PngHeader header;
    header.width = read_u32_be(p);
    header.height = read_u32_be(p + 4);
    header.depth = p[8];
    header.colour = p[9];
    check_dimensions(header.height, header.width, limits, name);
    constexpr int depths_of_colour[7] = {1 | 2 | 4 | 8 | 16, 0, 8 | 16, 1 | 2 | 4 | 8, 8 | 16, 0, 8 | 16};
    const bool power = header.depth > 0 && header.depth <= 16 && (header.depth & (header.depth - 1)) == 0;
    require(header.colour <= 6 && power && (depths_of_colour[header.colour] & header.depth) != 0, name,
            ": PNG header with colour type ", header.colour, " and ", header.depth, " bits, which does not exist");
    require(p[10] == 0 && p[11] == 0 && p[12] <= 1, name,
            ": PNG header with an unknown compression, filter or interlace");
    return header;
}

/// Walks the chunks of a PNG file (PNG specification, section 5) up to the end of its image data, before any decoder
/// sees it: lengths inside the file, checksums, order, limits. What it keeps is all that the pixels depend on, so that
/// no metadata (profiles, texts, which may inflate to anything) reaches the decoder.
class PngChunks {
public:
    PngChunks(const std::uint8_t* bytes, std::size_t size, const ImageLimits& limits, const std::string& name)
        : bytes_(bytes), size_(size), limits_(limits), name_(name) {
        samples_.reserve(size);
        samples_.append(reinterpret_cast<const char*>(bytes), sizeof png_signature);
        while (next_chunk()) {
        }
    }

    const PngHeader& header() const { return header_; }
    const std::vector<std::array<std::uint8_t, 3>>& palette() const { return palette_; }
    /// The body of the chunk tRNS: opacities of the palette's first colours, or the transparent value of each channel
    /// (two bytes each). Empty: none.
    const std::vector<std::uint8_t>& transparency() const { return transparency_; }

    /// A PNG stream of the samples as they are stored: signature, header and image data. A palette image appears as a
    /// grey one here, whose samples are the palette's indices.
    const std::string& samples() const { return samples_; }

private:
    struct Chunk {
        const std::uint8_t *type, *body;
        std::size_t length;

        bool is(const char* name) const { return std::memcmp(type, name, 4) == 0; }
        bool critical() const { return (type[0] & 0x20) == 0; }
    };

    /// Reads one chunk; false behind the image data.
    bool next_chunk() {
        const Chunk chunk = chunk_here();
        if (has_data_ && !chunk.is("IDAT")) return false;
        check(chunk);
        if (chunk.is("IHDR")) {
            header_ = read_png_header(chunk.body, limits_, name_);
            keep(chunk);
            if (header_.colour == png_colour::palette) pretend_grey();
        } else if (chunk.is("PLTE")) {
            read_palette(chunk);
        } else if (chunk.is("tRNS")) {
            transparency_.assign(chunk.body, chunk.body + chunk.length);
        } else if (chunk.is("IDAT")) {
            require(header_.colour != png_colour::palette || !palette_.empty(), name_,
                    ": damaged PNG: palette image without palette");
            has_data_ = true;
            keep(chunk);
        } else {
            require(!chunk.critical(), name_, ": damaged PNG: ", chunk.is("IEND") ? "no image data" : "unknown chunk",
                    " at byte ", at_);
        }
        at_ += chunk.length + 12;
        return true;
    }

    Chunk chunk_here() const {
        require(size_ - at_ >= 12, name_, ": truncated PNG: ", size_, " bytes end before the image data does");
        const std::size_t length = read_u32_be(bytes_ + at_);
        require(length <= size_ - at_ - 12, name_, ": truncated PNG: a chunk at byte ", at_, " needs ", length,
                " bytes, the file has ", size_ - at_ - 12, " left");
        return {bytes_ + at_ + 4, bytes_ + at_ + 8, length};
    }

    void check(const Chunk& chunk) const {
        require(
            !chunk.critical() || crc32_of(0, chunk.type, chunk.length + 4) == read_u32_be(chunk.body + chunk.length),
            name_, ": damaged PNG: wrong checksum in the chunk at byte ", at_);
        const bool first = at_ == sizeof png_signature;
        require(first == chunk.is("IHDR") && (!first || chunk.length == 13), name_,
                ": damaged PNG: misplaced or odd header chunk");
    }

    void read_palette(const Chunk& chunk) {
        require(chunk.length % 3 == 0 && chunk.length >= 3 && chunk.length <= 768, name_, ": damaged PNG: palette of ",
                chunk.length, " bytes");
        palette_.resize(chunk.length / 3);
        std::memcpy(palette_.data(), chunk.body, chunk.length);
    }

    /// Appends length, type, body and checksum.
    void keep(const Chunk& chunk) { samples_.append(reinterpret_cast<const char*>(chunk.type - 4), chunk.length + 12); }

    /// Rewrites colour type and checksum of the header just kept.
    void pretend_grey() {
        char* const type = samples_.data() + samples_.size() - 4 - 13 - 4;
        type[4 + 9] = static_cast<char>(png_colour::grey);
        const std::uint32_t sum = crc32_of(0, type, 4 + 13);
        for (int i = 0; i < 4; ++i) type[4 + 13 + i] = static_cast<char>(sum >> (24 - 8 * i));
    }

    const std::uint8_t* bytes_;
    std::size_t size_;
    const ImageLimits& limits_;
    const std::string& name_;
    std::size_t at_ = sizeof png_signature;
    bool has_data_ = false;
    PngHeader header_;
    std::vector<std::array<std::uint8_t, 3>> palette_;
    std::vector<std::uint8_t> transparency_;
    std::string samples_;
};

}  // namespace promptkd::detail
