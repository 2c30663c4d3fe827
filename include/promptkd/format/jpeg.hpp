// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/core/image.hpp>
#include <promptkd/format/jpeg_checker.hpp>
#include <promptkd/format/stb_image.hpp>

#include <atomic>
#include <climits>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

namespace promptkd {

namespace detail {

struct FreeStb {
    void operator()(std::uint8_t* pixels) const { std::free(pixels); }
};

/// Decodes a checked JPEG file into `image`, which has its size. Throws Error for damage.
using JpegDecoder = void (*)(const std::uint8_t* bytes, std::size_t size, const std::string& name, Image& image);

inline void decode_jpeg_stb(const std::uint8_t* bytes, std::size_t size, const std::string& name, Image& image) {
    int width = 0, height = 0, components = 0;
    const std::unique_ptr<std::uint8_t, FreeStb> pixels(
        stb::promptkd_stbi_load_from_memory(bytes, static_cast<int>(size), &width, &height, &components, 3));
    require(pixels != nullptr, name, ": damaged JPEG: ", stb::promptkd_stbi_failure_reason());
    require(width == image.width && height == image.height, name, ": damaged JPEG: contradictory sizes");
    std::memcpy(image.pixels.data(), pixels.get(), image.pixels.size());
}

/// What decodes JPEG files in this process; see use_jpeg_turbo.
inline std::atomic<JpegDecoder>& jpeg_decoder() {
    static std::atomic<JpegDecoder> decoder{&decode_jpeg_stb};
    return decoder;
}

/// A file of four components whose Adobe note is missing (libjpeg: CMYK) or says neither CMYK nor YCCK (libjpeg: YCCK),
/// with a note that says so.
inline std::string with_adobe_note(const std::uint8_t* bytes, std::size_t size, const JpegChecker& checker) {
    std::string file(reinterpret_cast<const char*>(bytes), size);
    if (checker.adobe_transform() >= 0)
        file[checker.adobe_byte()] = 2;
    else
        file.insert(2, std::string("\xff\xee\0\x0e"
                                   "Adobe\0\x64\0\0\0\0\0",
                                   16));
    return file;
}

/// Decodes a JPEG file in memory that starts with SOI. CMYK and YCCK follow Adobe's (inverted) convention, with or
/// without its note, as Pillow does.
inline Image decode_jpeg(const std::uint8_t* bytes, std::size_t size, const std::string& name,
                         const ImageLimits& limits) {
    require(size <= static_cast<std::size_t>(INT_MAX), name, ": JPEG of more than 2 GiB; refused");
    JpegChecker checker(bytes, size, limits, name);
    checker.run();
    Image image(checker.height(), checker.width());
    const int transform = checker.adobe_transform();
    if (checker.components() == 4 && transform != 0 && transform != 2) {
        const std::string noted = with_adobe_note(bytes, size, checker);
        jpeg_decoder().load()(reinterpret_cast<const std::uint8_t*>(noted.data()), noted.size(), name, image);
    } else {
        jpeg_decoder().load()(bytes, size, name, image);
    }
    return image;
}

}  // namespace detail

/// JPEG files are decoded by stb_image from now on, which is the default.
inline void use_jpeg_stb() { detail::jpeg_decoder() = &detail::decode_jpeg_stb; }

}  // namespace promptkd
