// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/image.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <set>
#include <string>
#include <string_view>

namespace promptkd {

namespace detail {

/// A number of `n` bytes in one of TIFF's two orders; 0 beyond the end.
inline std::uint32_t tiff_number(std::string_view data, std::size_t at, std::size_t n, bool little) {
    if (at > data.size() || n > data.size() - at) return 0;
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < n; ++i)
        value |= static_cast<std::uint32_t>(static_cast<unsigned char>(data[at + i])) << 8 * (little ? i : n - 1 - i);
    return value;
}

/// Tag 274 of the first directory of a block of TIFF tags (EXIF's form): 1 … 8, 1 where it says nothing.
inline int orientation_of_tags(std::string_view data) {
    const bool little = data.substr(0, 2) == "II";
    if (!little && data.substr(0, 2) != "MM") return 1;
    const std::size_t directory = tiff_number(data, 4, 4, little);
    const std::size_t entries = tiff_number(data, directory, 2, little);
    for (std::size_t i = 0; i < entries; ++i) {
        const std::size_t at = directory + 2 + 12 * i;
        if (at >= data.size()) break;
        if (tiff_number(data, at, 2, little) != 274) continue;
        const std::uint32_t value = tiff_number(data, at + 8, 2, little);
        return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
    }
    return 1;
}

inline std::string_view without_exif_mark(std::string_view block) {
    constexpr std::string_view mark("Exif\0\0", 6);
    return block.substr(0, mark.size()) == mark ? block.substr(mark.size()) : block;
}

/// The EXIF block of a JPEG file (its first APP1 segment of that kind), empty where there is none.
inline std::string_view jpeg_exif(std::string_view file) {
    std::size_t at = 2;
    while (at + 4 <= file.size() && file[at] == '\xff') {
        const auto marker = static_cast<unsigned char>(file[at + 1]);
        if (marker == 0xff) {
            ++at;
            continue;
        }
        if (marker == 0xda || marker == 0xd9) break;
        const std::size_t length = tiff_number(file, at + 2, 2, false);
        if (length < 2 || length > file.size() - at - 2) break;
        const std::string_view body = file.substr(at + 4, length - 2);
        if (marker == 0xe1 && body.substr(0, 4) == "Exif") return without_exif_mark(body);
        at += 2 + length;
    }
    return {};
}

/// The block of the chunk called `type`: in PNG files (big-endian lengths before the type, a checksum behind) or WebP's
/// RIFF (little-endian lengths behind the type, padded to even).
inline std::string_view chunk_called(std::string_view file, std::string_view type, bool png) {
    for (std::size_t at = png ? 8 : 12; at + 8 <= file.size();) {
        const std::size_t length = tiff_number(file, at + (png ? 0 : 4), 4, !png);
        const std::string_view found = file.substr(at + (png ? 4 : 0), 4);
        if (length > file.size() - at - 8) break;
        if (found == type) return file.substr(at + 8, length);
        at += 8 + length + (png ? 4 : length % 2);
    }
    return {};
}

}  // namespace detail

/// How a picture must be turned to be seen as it was taken, EXIF's orientation 1 … 8 (1: as it is), of a JPEG, PNG or
/// WebP file in memory. TIFF's own is applied by its reader.
inline int exif_orientation(std::string_view file) {
    using namespace detail;
    if (file.substr(0, 2) == "\xff\xd8") return orientation_of_tags(jpeg_exif(file));
    if (file.substr(0, 4) == "\x89PNG") return orientation_of_tags(without_exif_mark(chunk_called(file, "eXIf", true)));
    if (file.substr(0, 4) == "RIFF") return orientation_of_tags(without_exif_mark(chunk_called(file, "EXIF", false)));
    return 1;
}

/// `image` turned as EXIF's `orientation` says (Pillow's `ImageOps.exif_transpose`). 2: mirrored; 3: by 180 degrees; 4:
/// upside down; 5: transposed; 6: by 90 degrees clockwise; 7: transposed along the other diagonal; 8: by 90 degrees
/// counter-clockwise.
inline Image oriented(const Image& image, int orientation) {
    if (orientation <= 1 || orientation > 8) return image;
    const bool transposed = orientation >= 5;
    const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    const bool from_below = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    Image out(transposed ? image.width : image.height, transposed ? image.height : image.width);
    out.stored = image.stored;
    out.alpha.resize(image.alpha.size());
    for (Index y = 0; y < out.height; ++y)
        for (Index x = 0; x < out.width; ++x) {
            const Index column = transposed ? y : x, row = transposed ? x : y;
            const Index from_y = from_below ? image.height - 1 - row : row;
            const Index from_x = from_right ? image.width - 1 - column : column;
            std::memcpy(out.row(y) + x * 3, image.row(from_y) + from_x * 3, 3);
            if (image.alpha.empty()) continue;
            const auto to = static_cast<std::size_t>(y * out.width + x);
            out.alpha[to] = image.alpha[static_cast<std::size_t>(from_y * image.width + from_x)];
        }
    return out;
}

/// What happens in this process to pictures with an EXIF orientation: applied, or left as the published loaders leave
/// it and counted. All members may be called from several threads.
class ExifRotation {
public:
    /// Whether readers turn pictures from now on; off at the beginning.
    void apply(bool yes) { applied_ = yes; }
    /// Whether they do.
    bool applied() const { return applied_; }

    /// Notes that the picture `name` was left as it is.
    void left(const std::string& name) {
        const std::lock_guard lock(mutex_);
        left_.insert(name);
    }
    /// How many different pictures were left as they are.
    std::size_t count_left() const {
        const std::lock_guard lock(mutex_);
        return left_.size();
    }
    /// The first of them by name; empty: none.
    std::string first_left() const {
        const std::lock_guard lock(mutex_);
        return left_.empty() ? "" : *left_.begin();
    }

private:
    std::atomic<bool> applied_{false};
    mutable std::mutex mutex_;
    std::set<std::string> left_;
};

/// The one of this process.
inline ExifRotation& exif_rotation() {
    static ExifRotation rotation;
    return rotation;
}

}  // namespace promptkd
