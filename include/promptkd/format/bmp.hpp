// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/core/image.hpp>
#include <promptkd/format/bytes.hpp>
#include <promptkd/format/image_limits.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace promptkd::detail {

/// A BMP file in memory as Pillow's `convert("RGB")`: palettes of 1, 4 and 8 bits, 16, 24 and 32 bits with or without
/// masks; the fourth byte of 32 bits is ignored. Run-length coding is refused. Every index is checked.
class BmpReader {
public:
    BmpReader(const std::uint8_t* bytes, std::size_t size, const ImageLimits& limits, const std::string& name)
        : bytes_(bytes), size_(size), name_(name) {
        header_ = number(14, 4);
        require(header_ == 12 || (header_ >= 40 && header_ <= 124), name_, ": damaged BMP: a header of ", header_,
                " bytes");
        if (header_ == 12)
            read_short_header();
        else
            read_header();
        check_dimensions(height_, width_, limits, name_);
        if (depth_ <= 8) read_palette();
    }

    Image decode() const {
        const std::size_t pitch = (static_cast<std::size_t>(width_) * static_cast<std::size_t>(depth_) + 31) / 32 * 4;
        const std::size_t first = number(10, 4);
        need(first, pitch * static_cast<std::size_t>(height_));
        Image image(height_, width_);
        if (depth_ <= 8 && !is_grey()) image.stored = StoredColours::indexed;
        for (Index y = 0; y < height_; ++y) {
            const std::uint8_t* const row = bytes_ + first + static_cast<std::size_t>(y) * pitch;
            std::uint8_t* out = image.row(from_top_ ? y : height_ - 1 - y);
            for (Index x = 0; x < width_; ++x, out += 3) pixel(row, x, out);
        }
        return image;
    }

private:
    void need(std::size_t at, std::size_t n) const {
        require(at <= size_ && n <= size_ - at, name_, ": truncated BMP: ", size_, " bytes end before the image does");
    }
    /// A little-endian number of `n` bytes.
    std::uint32_t number(std::size_t at, std::size_t n) const {
        need(at, n);
        const std::string_view file(reinterpret_cast<const char*>(bytes_), size_);
        return static_cast<std::uint32_t>(read_le(file, at, n));
    }

    void read_short_header() {
        width_ = number(18, 2);
        height_ = number(20, 2);
        set_depth(number(24, 2));
        masks_ = {0x7c00, 0x3e0, 0x1f};
        colours_ = depth_ <= 8 ? 1u << depth_ : 0;
    }

    void read_header() {
        width_ = number(18, 4);
        const auto height = static_cast<std::int32_t>(number(22, 4));
        from_top_ = height < 0;
        height_ = from_top_ ? -static_cast<Index>(height) : height;
        set_depth(number(28, 2));
        const std::uint32_t compression = number(30, 4);
        require(compression != 1 && compression != 2, name_, ": a BMP image with run-length coding; convert it to PNG");
        require(compression == 0 || compression == 3 || compression == 6, name_, ": damaged BMP: compression ",
                compression);
        if (depth_ == 16) masks_ = {0x7c00, 0x3e0, 0x1f};
        if (depth_ == 32) masks_ = {0xff0000, 0xff00, 0xff};
        if (compression != 0) read_masks();
        const std::uint32_t used = number(46, 4);
        if (depth_ <= 8) colours_ = used == 0 ? 1u << depth_ : used;
        require(colours_ <= 256, name_, ": damaged BMP: a palette of ", colours_, " colours");
    }

    void set_depth(std::uint32_t depth) {
        const bool known = depth == 1 || depth == 4 || depth == 8 || depth == 16 || depth == 24 || depth == 32;
        require(known, name_, ": damaged BMP: ", depth, " bits a pixel");
        depth_ = static_cast<int>(depth);
    }

    void read_masks() {
        require(depth_ == 16 || depth_ == 32, name_, ": damaged BMP: masks for ", depth_, " bits a pixel");
        for (std::size_t c = 0; c < 3; ++c) {
            masks_[c] = number(54 + 4 * c, 4);
            const std::uint32_t run = masks_[c] == 0 ? 0 : masks_[c] >> std::countr_zero(masks_[c]);
            require(run != 0 && (run & (run + 1)) == 0 && run <= 0xffff, name_, ": damaged BMP: an odd mask");
        }
        if (header_ == 40) behind_header_ = 12;
    }

    void read_palette() {
        const std::size_t bytes_a_colour = header_ == 12 ? 3 : 4, first = 14 + header_ + behind_header_;
        need(first, colours_ * bytes_a_colour);
        for (std::size_t i = 0; i < colours_; ++i) {
            const std::uint8_t* const p = bytes_ + first + i * bytes_a_colour;
            palette_.push_back({p[2], p[1], p[0]});
        }
    }

    /// Whether colour i is the grey i.
    bool is_grey() const {
        for (std::size_t i = 0; i < palette_.size(); ++i)
            for (const std::uint8_t value : palette_[i])
                if (value != i) return false;
        return palette_.size() > 2;
    }

    void pixel(const std::uint8_t* row, Index x, std::uint8_t* out) const {
        if (depth_ <= 8) {
            const Index bit = x * depth_;
            const std::size_t index = row[bit >> 3] >> (8 - depth_ - (bit & 7)) & ((1u << depth_) - 1);
            require(index < palette_.size(), name_, ": damaged BMP: colour ", index, " of a palette of ",
                    palette_.size());
            for (std::size_t c = 0; c < 3; ++c) out[c] = palette_[index][c];
        } else if (depth_ == 24) {
            for (std::size_t c = 0; c < 3; ++c) out[c] = row[3 * x + 2 - static_cast<Index>(c)];
        } else {
            const std::uint8_t* const p = row + x * depth_ / 8;
            std::uint32_t value = static_cast<std::uint32_t>(p[0]) | static_cast<std::uint32_t>(p[1]) << 8;
            if (depth_ == 32) value |= static_cast<std::uint32_t>(p[2]) << 16 | static_cast<std::uint32_t>(p[3]) << 24;
            for (std::size_t c = 0; c < 3; ++c) out[c] = sample(value, masks_[c]);
        }
    }

    /// The bits of `mask`, scaled to 0 … 255 and cut as Pillow does.
    static std::uint8_t sample(std::uint32_t value, std::uint32_t mask) {
        const int shift = std::countr_zero(mask);
        return static_cast<std::uint8_t>(((value & mask) >> shift) * 255u / (mask >> shift));
    }

    const std::uint8_t* bytes_;
    std::size_t size_;
    const std::string& name_;
    std::size_t header_ = 0, behind_header_ = 0, colours_ = 0;
    Index width_ = 0, height_ = 0;
    int depth_ = 0;
    bool from_top_ = false;
    std::array<std::uint32_t, 3> masks_{};
    std::vector<std::array<std::uint8_t, 3>> palette_;
};

}  // namespace promptkd::detail
