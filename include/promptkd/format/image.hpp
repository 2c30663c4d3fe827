// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/core/image.hpp>
#include <promptkd/format/jpeg.hpp>
#include <promptkd/format/png.hpp>
#include <promptkd/format/text_file.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace promptkd {

namespace detail {

/// What a file that is neither PNG nor JPEG seems to be, and what to do about it.
inline std::string describe_non_image(std::string_view bytes) {
    const auto starts = [&](std::string_view magic, std::size_t at = 0) {
        return bytes.size() >= at + magic.size() && bytes.substr(at, magic.size()) == magic;
    };
    if (bytes.empty()) return "the file is empty";
    if (starts("version https://git-lfs")) return "a Git LFS pointer, not the image; fetch it with 'git lfs pull'";
    if (starts("GIF8")) return "a GIF image; convert it to PNG";
    if (starts("RIFF") && starts("WEBP", 8)) return "a WebP image; convert it to PNG";
    if (starts("BM")) return "a BMP image; convert it to PNG";
    if (starts("II*") || starts(std::string_view("MM\0*", 4))) return "a TIFF image; convert it to PNG";
    if (starts("ftyp", 4)) return "a HEIC, AVIF or video file; convert it to PNG";
    if (starts("\x1f\x8b") || starts("PK\x03\x04")) return "an archive; unpack it first";
    if (starts("%PDF")) return "a PDF document, not an image";
    const std::size_t text = bytes.find_first_not_of(" \t\r\n\xef\xbb\xbf");
    if (text != std::string_view::npos && bytes[text] == '<')
        return "an HTML, XML or SVG text, not a picture; download the file itself";
    if (bytes.size() < 8) return concat("only ", bytes.size(), " bytes, neither PNG nor JPEG");
    return "neither PNG nor JPEG";
}

}  // namespace detail

/// Decodes a PNG or JPEG file in memory to 8-bit RGB as Pillow's `convert("RGB")` does: alpha dropped (not composited),
/// palette applied (transparency ignored), grey replicated; EXIF orientation is not applied. JPEG by stb_image, which
/// differs from libjpeg by a few grey levels at most, or by libjpeg-turbo itself (use_jpeg_turbo of
/// format/jpeg_turbo.hpp). `name` is used in messages. Throws Error for anything else: empty, truncated or damaged
/// files, files of another kind (the message says which), 16-bit images, images of more pixels than the limit (before
/// decoding them).
inline Image decode_image(const std::byte* data, std::size_t size, const std::string& name,
                          const ImageLimits& limits = {}) {
    const auto* const bytes = reinterpret_cast<const std::uint8_t*>(data);
    if (size >= 8 && std::memcmp(bytes, detail::png_signature, 8) == 0)
        return detail::decode_png(bytes, size, name, limits);
    if (size >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff)
        return detail::decode_jpeg(bytes, size, name, limits);
    fail(name, ": not an image this program reads: ",
         detail::describe_non_image({reinterpret_cast<const char*>(data), size}));
}

/// Reads a PNG or JPEG file as decode_image does.
inline Image read_image(const std::string& path, const ImageLimits& limits = {}) {
    const std::string bytes = read_file_bytes(path, limits.max_file_bytes);
    return decode_image(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size(), path, limits);
}

}  // namespace promptkd
