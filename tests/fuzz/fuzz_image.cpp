// SPDX-License-Identifier: Apache-2.0
#include "fuzz.hpp"

#include <promptkd/format/image.hpp>
#include <promptkd/image/preprocess.hpp>
#if defined(PROMPTKD_WITH_JPEG_TURBO)
#include <promptkd/format/jpeg_turbo.hpp>
#endif

using namespace promptkd;

std::vector<std::string> promptkd::fuzz::seeds() {
    const std::string images = std::string(PROMPTKD_TEST_DATA) + "/golden/images/";
    std::vector<std::string> all;
    for (const char* name :
         {"02_RGB_40x40.png", "05_P_97x83.png", "06_RGB_160x120.jpg", "07_L_99x101.jpg", "08_L_28x28.png"})
        all.push_back(read_file(images + name));
    const std::string jpeg = std::string(PROMPTKD_TEST_DATA) + "/jpeg/";
    for (const char* name : {"cmyk.jpg", "progressive.jpg", "full.jpg", "exif_rotated.jpg"})
        all.push_back(read_file(jpeg + name));
    Image tiny(2, 3);
    all.push_back(encode_png(tiny));
    return all;
}

namespace {

/// A PNG file with the checksums that its chunks should have, so that damage reaches the decoder behind the check.
std::string with_right_checksums(const std::uint8_t* data, std::size_t size) {
    std::string png(reinterpret_cast<const char*>(data), size);
    const auto* const bytes = reinterpret_cast<const std::uint8_t*>(png.data());
    for (std::size_t at = sizeof detail::png_signature; at + 12 <= size;) {
        const std::size_t length = detail::read_u32_be(bytes + at);
        if (length > size - at - 12) break;
        const std::uint32_t sum = crc32_of(0, bytes + at + 4, length + 4);
        for (std::size_t i = 0; i < 4; ++i) png[at + 8 + length + i] = static_cast<char>(sum >> (24 - 8 * i));
        at += length + 12;
    }
    return png;
}

void decode(const void* bytes, std::size_t size, const ImageLimits& limits) {
    fuzz::tolerate_errors([&] { decode_image(static_cast<const std::byte*>(bytes), size, "fuzz", limits); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    ImageLimits limits;
    limits.max_pixels = 1 << 20;
#if defined(PROMPTKD_WITH_JPEG_TURBO)
    use_jpeg_turbo();
    decode(data, size, limits);
    use_jpeg_stb();
#endif
    if (size >= 8 && std::memcmp(data, detail::png_signature, 8) == 0) {
        const std::string png = with_right_checksums(data, size);
        decode(png.data(), png.size(), limits);
    }
    fuzz::tolerate_errors([&] {
        const Image image = decode_image(reinterpret_cast<const std::byte*>(data), size, "fuzz", limits);
        preprocess_image(image, 28);
    });
    return 0;
}
