// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/core/image.hpp>
#include <promptkd/format/bmp.hpp>
#include <promptkd/format/exif.hpp>
#include <promptkd/format/gif.hpp>
#include <promptkd/format/jpeg.hpp>
#include <promptkd/format/png.hpp>
#include <promptkd/format/text_file.hpp>
#include <promptkd/format/tiff.hpp>
#include <promptkd/format/webp.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace promptkd {

namespace detail {

/// What a file that is no image of a known kind seems to be, and what to do about it.
inline std::string describe_non_image(std::string_view bytes) {
    const auto starts = [&](std::string_view magic, std::size_t at = 0) {
        return bytes.size() >= at + magic.size() && bytes.substr(at, magic.size()) == magic;
    };
    if (bytes.empty()) return "the file is empty";
    if (starts("version https://git-lfs")) return "a Git LFS pointer, not the image; fetch it with 'git lfs pull'";
    if (starts("ftyp", 4)) return "a HEIC, AVIF or video file; convert it to PNG";
    if (starts("\x1f\x8b") || starts("PK\x03\x04")) return "an archive; unpack it first";
    if (starts("%PDF")) return "a PDF document, not an image";
    const std::size_t text = bytes.find_first_not_of(" \t\r\n\xef\xbb\xbf");
    if (text != std::string_view::npos && bytes[text] == '<')
        return "an HTML, XML or SVG text, not a picture; download the file itself";
    if (bytes.size() < 8) return concat("only ", bytes.size(), " bytes, none of the known kinds");
    return "neither PNG, JPEG, WebP, GIF, BMP nor TIFF";
}

/// The pixels of a file as they are stored.
inline Image decode_stored(const std::uint8_t* bytes, std::size_t size, const std::string& name,
                           const ImageLimits& limits) {
    const std::string_view file(reinterpret_cast<const char*>(bytes), size);
    if (size >= 8 && std::memcmp(bytes, png_signature, 8) == 0) return decode_png(bytes, size, name, limits);
    if (file.substr(0, 3) == "\xff\xd8\xff") return decode_jpeg(bytes, size, name, limits);
    if (file.substr(0, 4) == "RIFF" && file.size() >= 12 && file.substr(8, 4) == "WEBP")
        return decode_webp(bytes, size, name, limits);
    if (file.substr(0, 4) == "GIF8") return GifReader(bytes, size, limits, name).decode();
    if (file.substr(0, 2) == "BM") return BmpReader(bytes, size, limits, name).decode();
    if (file.substr(0, 4) == std::string_view("II*\0", 4) || file.substr(0, 4) == std::string_view("MM\0*", 4))
        return decode_tiff(bytes, size, name, limits);
    fail(name, ": not an image this program reads: ", describe_non_image(file));
}

}  // namespace detail

/// Decodes a PNG, JPEG, WebP, GIF, BMP or TIFF file in memory to 8-bit RGB as Pillow's `convert("RGB")` does: alpha
/// dropped (not composited), palette applied (transparency ignored), grey replicated, of animations the first picture.
/// JPEG by stb_image, which differs from libjpeg by a few grey levels at most, or by libjpeg-turbo itself
/// (use_jpeg_turbo of format/jpeg_turbo.hpp). WebP and TIFF where the build has libwebp and libtiff. An EXIF
/// orientation is applied only after exif_rotation().apply(true). `name` is used in messages. Throws Error for anything
/// else: empty, truncated or damaged files, files of another kind (the message says which), images of more pixels than
/// the limit (before decoding them).
inline Image decode_image(const std::byte* data, std::size_t size, const std::string& name,
                          const ImageLimits& limits = {}) {
    const auto* const bytes = reinterpret_cast<const std::uint8_t*>(data);
    Image image = detail::decode_stored(bytes, size, name, limits);
    const int orientation = exif_orientation({reinterpret_cast<const char*>(bytes), size});
    if (orientation == 1) return image;
    if (exif_rotation().applied()) return oriented(image, orientation);
    exif_rotation().left(name);
    return image;
}

/// The same of a span of bytes.
inline Image decode_image(std::span<const std::byte> file, const std::string& name = "an image in memory") {
    return decode_image(file.data(), file.size(), name);
}

/// How files end that decode_image() reads, where the build has libwebp and libtiff.
inline constexpr const char* image_extensions[] = {".jpg",  ".jpeg", ".jpe", ".jfif", ".png",
                                                   ".webp", ".gif",  ".bmp", ".tif",  ".tiff"};

/// Reads an image file as decode_image does.
inline Image read_image(const std::string& path, const ImageLimits& limits = {}) {
    const std::string bytes = read_file_bytes(path, limits.max_file_bytes);
    return decode_image(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size(), path, limits);
}

}  // namespace promptkd
