// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/core/image.hpp>
#include <promptkd/format/image_limits.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace promptkd::detail {

using Palette = std::vector<std::array<std::uint8_t, 3>>;

/// Whether colour i is the grey i: such a file is a grey image, no palette's.
inline bool is_grey_scale(const Palette& palette) {
    for (std::size_t i = 0; i < palette.size(); ++i)
        for (const std::uint8_t value : palette[i])
            if (value != i) return false;
    return true;
}

/// The strings of GIF's LZW with variable code length (GIF89a specification, appendix F).
class LzwStrings {
public:
    /// The codes below `clear_code` stand for themselves.
    explicit LzwStrings(std::uint32_t clear_code) : clear_(clear_code), prefix_{}, length_{}, last_{} {
        for (std::uint32_t c = 0; c < clear_; ++c) {
            last_[c] = static_cast<std::uint8_t>(c);
            length_[c] = 1;
        }
        clear();
    }

    /// Length of the next code.
    int bits() const { return bits_; }

    /// Forgets what was learned.
    void clear() {
        next_ = clear_ + 2;
        before_ = none;
        bits_ = 1;
        while ((1u << bits_) <= clear_) ++bits_;
    }

    /// Appends the string of `code`, and learns the one before it with one value more. False for an unknown code.
    bool append(std::uint32_t code, std::vector<std::uint8_t>& out) {
        const bool known = code < clear_ || (code > clear_ + 1 && code < next_);
        if (!known && (code != next_ || before_ == none)) return false;
        if (before_ != none && next_ < most) learn(first_value(known ? code : before_));
        if (code >= next_) return false;  // a full table learns nothing
        const std::size_t end = out.size() + length_[code];
        out.resize(end);
        std::uint32_t c = code;
        for (std::size_t k = 1; k <= length_[code]; ++k) {
            out[end - k] = last_[c];
            c = prefix_[c];
        }
        before_ = code;
        return true;
    }

private:
    static constexpr std::uint32_t most = 4096, none = most;

    std::uint8_t first_value(std::uint32_t code) const {
        while (code >= clear_) code = prefix_[code];
        return static_cast<std::uint8_t>(code);
    }
    void learn(std::uint8_t value) {
        prefix_[next_] = static_cast<std::uint16_t>(before_);
        length_[next_] = static_cast<std::uint16_t>(length_[before_] + 1);
        last_[next_] = value;
        ++next_;
        if (next_ == (1u << bits_) && bits_ < 12) ++bits_;
    }

    std::uint32_t clear_, next_ = 0, before_ = none;
    int bits_ = 0;
    std::array<std::uint16_t, most> prefix_, length_;
    std::array<std::uint8_t, most> last_;
};

/// The first frame of a GIF file in memory as Pillow's `convert("RGB")` shows it: transparent
/// pixels in their palette colour, what the frame does not cover in the transparent colour or colour 0. Every index is
/// checked: there is no decoder in Debian that promises so for damaged files.
class GifReader {
public:
    GifReader(const std::uint8_t* bytes, std::size_t size, const ImageLimits& limits, const std::string& name)
        : bytes_(bytes), size_(size), name_(name) {
        const std::uint8_t* const p = take(13);
        screen_width_ = little(p + 6);
        screen_height_ = little(p + 8);
        check_dimensions(screen_height_, screen_width_, limits, name);
        if ((p[10] & 0x80) != 0) palette_ = take_palette(p[10]);
        skip_to_frame();
        read_frame_header(limits);
    }

    Image decode() {
        const std::vector<std::uint8_t> indices = unpack();
        Image image(std::max(screen_height_, top_ + height_), std::max(screen_width_, left_ + width_));
        fill(image);
        if (!is_grey_scale(palette_)) image.stored = StoredColours::indexed;
        if (transparent_ < palette_.size()) image.alpha.assign(image.pixels.size() / 3, 0);
        for (Index row = 0; row < height_; ++row) {
            const std::uint8_t* const from = indices.data() + row * width_;
            std::uint8_t* to = image.row(top_ + (interlaced_ ? interlaced_row(row) : row)) + left_ * 3;
            for (Index x = 0; x < width_; ++x, to += 3) {
                require(from[x] < palette_.size(), name_, ": damaged GIF: colour ", int{from[x]}, " of a palette of ",
                        palette_.size());
                std::copy_n(palette_[from[x]].data(), 3, to);
                if (image.alpha.empty() || from[x] == transparent_) continue;
                image.alpha[static_cast<std::size_t>((to - image.pixels.data()) / 3)] = 255;
            }
        }
        return image;
    }

private:
    static Index little(const std::uint8_t* p) { return p[0] | p[1] << 8; }

    const std::uint8_t* take(std::size_t n) {
        require(size_ - at_ >= n, name_, ": truncated GIF: ", size_, " bytes end before the image does");
        at_ += n;
        return bytes_ + at_ - n;
    }

    Palette take_palette(int flags) {
        Palette colours(std::size_t{2} << (flags & 7));
        for (auto& colour : colours) std::copy_n(take(3), 3, colour.data());
        return colours;
    }

    /// Skips extensions up to the first frame.
    void skip_to_frame() {
        for (;;) {
            const int block = *take(1);
            if (block == 0x2c) return;
            require(block == 0x21, name_, ": damaged GIF: ", block == 0x3b ? "no image in it" : "an unknown block");
            const bool control = *take(1) == 0xf9;
            while (const std::size_t n = *take(1)) {
                const std::uint8_t* const body = take(n);
                if (control && n == 4 && (body[0] & 1) != 0) transparent_ = body[3];
            }
        }
    }

    void read_frame_header(const ImageLimits& limits) {
        const std::uint8_t* const p = take(9);
        left_ = little(p);
        top_ = little(p + 2);
        width_ = little(p + 4);
        height_ = little(p + 6);
        check_dimensions(std::max(screen_height_, top_ + height_), std::max(screen_width_, left_ + width_), limits,
                         name_);
        check_dimensions(height_, width_, limits, name_);
        interlaced_ = (p[8] & 0x40) != 0;
        if ((p[8] & 0x80) != 0) palette_ = take_palette(p[8]);
        require(!palette_.empty(), name_, ": damaged GIF: no palette");
    }

    void fill(Image& image) const {
        if (width_ == image.width && height_ == image.height) return;
        const auto colour = palette_[transparent_ < palette_.size() ? transparent_ : 0];
        for (std::size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = colour[i % 3];
    }

    /// Rows come in four passes: every eighth, those between, …
    Index interlaced_row(Index row) const {
        constexpr Index first[] = {0, 4, 2, 1}, step[] = {8, 8, 4, 2};
        for (int pass = 0; pass < 4; ++pass) {
            const Index rows = height_ > first[pass] ? (height_ - first[pass] + step[pass] - 1) / step[pass] : 0;
            if (row < rows) return first[pass] + row * step[pass];
            row -= rows;
        }
        return height_ - 1;
    }

    /// The bytes of the next sub-block follow; false behind the last.
    bool next_byte(std::uint32_t& byte) {
        while (block_left_ == 0) {
            if (ended_) return false;
            block_left_ = *take(1);
            ended_ = block_left_ == 0;
        }
        --block_left_;
        byte = *take(1);
        return true;
    }

    /// The LZW code of `bits` bits; false where the data ends.
    bool next_code(int bits, std::uint32_t& code) {
        while (held_bits_ < bits) {
            std::uint32_t byte = 0;
            if (!next_byte(byte)) return false;
            held_ |= byte << held_bits_;
            held_bits_ += 8;
        }
        code = held_ & ((1u << bits) - 1);
        held_ >>= bits;
        held_bits_ -= bits;
        return true;
    }

    /// The palette's indices, (height, width).
    std::vector<std::uint8_t> unpack() {
        const int first_bits = *take(1);
        require(first_bits >= 1 && first_bits <= 8, name_, ": damaged GIF: codes of ", first_bits, " bits");
        const std::uint32_t clear = 1u << first_bits, end = clear + 1;
        LzwStrings strings(clear);
        const auto pixels = static_cast<std::size_t>(width_ * height_);
        std::vector<std::uint8_t> out;
        out.reserve(pixels);
        std::uint32_t code = 0;
        while (out.size() < pixels && next_code(strings.bits(), code) && code != end) {
            if (code == clear)
                strings.clear();
            else
                require(strings.append(code, out), name_, ": damaged GIF: an unknown code");
        }
        require(out.size() >= pixels, name_, ": truncated GIF: the image ends after ", out.size(), " of ", pixels,
                " pixels");
        return out;
    }

    const std::uint8_t* bytes_;
    std::size_t size_;
    const std::string& name_;
    std::size_t at_ = 0;
    Index screen_width_ = 0, screen_height_ = 0, left_ = 0, top_ = 0, width_ = 0, height_ = 0;
    std::size_t transparent_ = 256;  ///< number of the transparent colour; 256: none
    bool interlaced_ = false, ended_ = false;
    Palette palette_;
    std::size_t block_left_ = 0;
    std::uint32_t held_ = 0;
    int held_bits_ = 0;
};

}  // namespace promptkd::detail
