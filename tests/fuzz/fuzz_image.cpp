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

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    ImageLimits limits;
    limits.max_pixels = 1 << 20;
#if defined(PROMPTKD_WITH_JPEG_TURBO)
    use_jpeg_turbo();
    fuzz::tolerate_errors([&] { decode_image(reinterpret_cast<const std::byte*>(data), size, "fuzz", limits); });
    use_jpeg_stb();
#endif
    fuzz::tolerate_errors([&] {
        const Image image = decode_image(reinterpret_cast<const std::byte*>(data), size, "fuzz", limits);
        preprocess_image(image, 28);
    });
    return 0;
}
