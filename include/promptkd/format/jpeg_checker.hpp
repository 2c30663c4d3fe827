// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/format/image_limits.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace promptkd::detail {

/// Walks a JPEG file before the decoder sees it. stb_image 2.27 (Debian 12) trusts the sums of Huffman counts and the
/// presence of tables and then indexes out of bounds, so everything it relies on is established here, and a file that
/// is truncated or of a kind it cannot decode gets a message that says so. (ITU-T T.81, annex B.)
class JpegChecker {
public:
    JpegChecker(const std::uint8_t* bytes, std::size_t size, const ImageLimits& limits, const std::string& name)
        : bytes_(bytes), size_(size), limits_(limits), name_(name) {}

    Index height() const { return height_; }
    Index width() const { return width_; }
    int components() const { return components_; }
    /// What Adobe's note says of the colours (0: as they are, 1: YCbCr, 2: YCCK), −1 without one; and where it does.
    int adobe_transform() const { return adobe_transform_; }
    std::size_t adobe_byte() const { return adobe_byte_; }

    /// Throws Error unless the file is complete and safe to decode.
    void run() {
        for (;;) {
            const int marker = next_marker();
            if (marker == 0xd9) break;
            const std::size_t length = segment_length(marker);
            const std::uint8_t* const body = bytes_ + at_ + 2;
            at_ += length;
            segment(marker, body, length - 2);
        }
        require(scans_ > 0, name_, ": JPEG without image data");
        for (int c = 0; c < components_; ++c)
            need(seen_[c] && quantizer_[table_of_[c]], "a component without data or quantization table");
    }

private:
    void need(bool good, const char* what) const {
        require(good, name_, ": damaged JPEG: ", what, " (near byte ", at_, ")");
    }

    /// The next marker after any fill bytes; before the frame header stray bytes are skipped, as decoders do.
    int next_marker() {
        while (at_ < size_ && bytes_[at_] != 0xff && components_ == 0) ++at_;
        if (at_ < size_) need(bytes_[at_] == 0xff, "a marker was expected");
        while (at_ < size_ && bytes_[at_] == 0xff) ++at_;
        require(at_ < size_, name_, ": truncated JPEG: ", size_, " bytes end before the image does");
        return bytes_[at_++];
    }

    std::size_t segment_length(int marker) const {
        need(marker != 0 && marker != 0x01 && !(marker >= 0xd0 && marker <= 0xd8), "an unexpected marker");
        const std::size_t left = size_ - at_;
        const std::size_t length = left >= 2 ? static_cast<std::size_t>(bytes_[at_]) << 8 | bytes_[at_ + 1] : 2;
        require(left >= 2 && length <= left, name_, ": truncated JPEG: a segment at byte ", at_, " needs ", length,
                " bytes, the file has ", left, " left");
        need(length >= 2, "a segment of impossible length");
        return length;
    }

    void segment(int marker, const std::uint8_t* body, std::size_t n) {
        if (marker == 0xc4) return huffman_tables(body, n);
        if (marker == 0xdb) return quantization_tables(body, n);
        if (marker == 0xda) return scan(body, n);
        if (marker == 0xdd) return need(n == 2, "a restart interval of odd length");
        if (marker == 0xdc) return need(n == 2, "a line count of odd length");
        if (marker >= 0xc0 && marker <= 0xcf) return frame(marker, body, n);
        if (marker == 0xee && n >= 12 && std::memcmp(body, "Adobe", 5) == 0) {
            adobe_transform_ = body[11];
            adobe_byte_ = static_cast<std::size_t>(body + 11 - bytes_);
        }
        need((marker >= 0xe0 && marker <= 0xef) || marker == 0xfe, "an unknown segment");
    }

    void huffman_tables(const std::uint8_t* p, std::size_t n) {
        while (n > 0) {
            need(n >= 17 && (p[0] >> 4) <= 1 && (p[0] & 15) <= 3, "a Huffman table with a bad header");
            std::size_t symbols = 0;
            long free_codes = 1;  // codes of this length not yet taken by shorter ones
            for (int bits = 1; bits <= 16; ++bits) {
                symbols += p[bits];
                free_codes = free_codes * 2 - p[bits];
                need(free_codes >= 0, "a Huffman table with more codes than bits allow");
            }
            need(symbols <= 256 && symbols <= n - 17, "a Huffman table with too many symbols");
            huffman_[p[0] >> 4][p[0] & 15] = true;
            p += 17 + symbols;
            n -= 17 + symbols;
        }
    }

    void quantization_tables(const std::uint8_t* p, std::size_t n) {
        while (n > 0) {
            const std::size_t length = (p[0] >> 4) != 0 ? 129 : 65;
            need((p[0] >> 4) <= 1 && (p[0] & 15) <= 3 && length <= n, "a bad quantization table");
            quantizer_[p[0] & 15] = true;
            p += length;
            n -= length;
        }
    }

    void frame(int marker, const std::uint8_t* p, std::size_t n) {
        require(marker <= 0xc2, name_, ": this kind of JPEG (",
                marker >= 0xc9 ? "arithmetic coding" : "lossless or hierarchical",
                ") is not supported; convert the file to baseline JPEG or PNG");
        need(components_ == 0, "a second frame header");
        need(n >= 6, "a frame header of odd length");
        require(p[0] == 8, name_, ": ", int{p[0]},
                " bits a channel; this reader takes 8-bit images, convert the file first");
        progressive_ = marker == 0xc2;
        height_ = p[1] << 8 | p[2];
        width_ = p[3] << 8 | p[4];
        check_dimensions(height_, width_, limits_, name_);
        const int count = p[5];
        need((count == 1 || count == 3 || count == 4) && n == 6 + 3 * static_cast<std::size_t>(count),
             "a frame header with a bad number of components");
        for (int c = 0; c < count; ++c) {
            const std::uint8_t* const q = p + 6 + 3 * c;
            const int h = q[1] >> 4, v = q[1] & 15;
            need(h >= 1 && h <= 4 && v >= 1 && v <= 4 && q[2] <= 3, "a component with bad sampling or table");
            id_[c] = q[0];
            table_of_[c] = q[2];
        }
        components_ = count;
    }

    void scan(const std::uint8_t* p, std::size_t n) {
        need(components_ > 0, "image data before the frame header");
        const int count = n > 0 ? p[0] : 0;
        need(count >= 1 && count <= components_ && n == 4 + 2 * static_cast<std::size_t>(count), "a bad scan header");
        const int first = p[1 + 2 * count], last = p[2 + 2 * count], high = p[3 + 2 * count] >> 4,
                  low = p[3 + 2 * count] & 15;
        need(first <= 63 && last <= 63 && high <= 13 && low <= 13, "a scan with bad coefficients");
        need(!progressive_ || (first == 0 ? last == 0 : first <= last && count == 1), "a scan with bad coefficients");
        const bool uses_dc = !progressive_ || (first == 0 && high == 0), uses_ac = !progressive_ || first > 0;
        for (int i = 0; i < count; ++i) {
            int c = 0;
            while (c < components_ && id_[c] != p[1 + 2 * i]) ++c;
            need(c < components_, "a scan of an unknown component");
            const int dc = p[2 + 2 * i] >> 4, ac = p[2 + 2 * i] & 15;
            need(dc <= 3 && ac <= 3 && (!uses_dc || huffman_[0][dc]) && (!uses_ac || huffman_[1][ac]),
                 "a scan without its Huffman tables");
            need(progressive_ || quantizer_[table_of_[c]], "a scan without its quantization table");
            seen_[c] = seen_[c] || uses_dc;
            need(seen_[c], "a refinement of a component that has no data yet");
        }
        // Every scan of a progressive file costs a pass over the image, whatever little data it has.
        require(++scans_ <= 1000, name_, ": JPEG with more than 1000 scans; refused");
        skip_entropy_data();
    }

    /// Entropy-coded bytes last until a marker that is neither a stuffed zero nor a restart.
    void skip_entropy_data() {
        while (at_ < size_) {
            const void* const found = std::memchr(bytes_ + at_, 0xff, size_ - at_);
            at_ = found ? static_cast<std::size_t>(static_cast<const std::uint8_t*>(found) - bytes_) : size_;
            std::size_t code = at_;
            while (code < size_ && bytes_[code] == 0xff) ++code;
            if (code >= size_) break;
            if (bytes_[code] != 0 && !(bytes_[code] >= 0xd0 && bytes_[code] <= 0xd7)) return;
            at_ = code + 1;
        }
        fail(name_, ": truncated JPEG: ", size_, " bytes end inside the image data");
    }

    const std::uint8_t* bytes_;
    std::size_t size_;
    const ImageLimits& limits_;
    const std::string& name_;
    std::size_t at_ = 2;  // after SOI
    Index height_ = 0, width_ = 0;
    std::size_t adobe_byte_ = 0;
    int components_ = 0, scans_ = 0, adobe_transform_ = -1;
    bool progressive_ = false;
    int id_[4] = {}, table_of_[4] = {};
    bool seen_[4] = {}, quantizer_[4] = {}, huffman_[2][4] = {};
};

}  // namespace promptkd::detail
