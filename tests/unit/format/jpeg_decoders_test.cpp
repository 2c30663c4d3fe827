// SPDX-License-Identifier: Apache-2.0
// Both JPEG decoders against Pillow, and against damage.
#include <promptkd/format/image.hpp>
#include <promptkd/format/safetensors.hpp>
#if defined(PROMPTKD_WITH_JPEG_TURBO)
#include <promptkd/format/jpeg_turbo.hpp>
#endif

#include <doctest/doctest.h>

#include <filesystem>

#include "golden/preprocess_case.hpp"

namespace jpeg_decoders_test {

using namespace promptkd;

namespace {

const std::string data_folder = PROMPTKD_TEST_DATA;

/// Runs `f(name)` with each decoder of this build, and leaves the default in place.
template <class F>
void with_each_decoder(F&& f) {
    f("stb_image");
#if defined(PROMPTKD_WITH_JPEG_TURBO)
    use_jpeg_turbo();
    try {
        f("libjpeg-turbo");
    } catch (...) {
        use_jpeg_stb();
        throw;
    }
    use_jpeg_stb();
#endif
}

Image decode(const std::string& bytes, const ImageLimits& limits = {}) {
    return decode_image(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size(), "picture", limits);
}

std::vector<std::string> pictures() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(data_folder + "/jpeg"))
        if (entry.path().extension() == ".jpg") names.push_back(entry.path().string());
    std::sort(names.begin(), names.end());
    return names;
}

}  // namespace

TEST_CASE("JPEG decoders: Pillow's pixels, CMYK, progressive, subsampled, restarts, rotated by EXIF") {
    REQUIRE(pictures().size() == 5);
    with_each_decoder([&](const std::string& decoder) {
        for (const std::string& file : pictures()) {
            CAPTURE(decoder);
            CAPTURE(file);
            const Image got = read_image(file), want = read_image(file.substr(0, file.size() - 4) + ".png");
            REQUIRE(got.width == want.width);  // 61 x 45: the orientation in EXIF is not applied
            REQUIRE(got.height == want.height);
            double sum = 0;
            int largest = 0;
            for (std::size_t i = 0; i < got.pixels.size(); ++i) {
                const int d = std::abs(int{got.pixels[i]} - int{want.pixels[i]});
                sum += d;
                largest = std::max(largest, d);
            }
            CHECK(sum / static_cast<double>(got.pixels.size()) <= 1);
            CHECK(largest <= 8);
            if (decoder == "libjpeg-turbo") CHECK(largest <= 1);  // Pillow's own decoder
        }
    });
}

TEST_CASE("JPEG decoders: the golden preprocessed images") {
    with_each_decoder([&](const std::string& decoder) {
        CAPTURE(decoder);
        test::Report report("preprocess");
        test::check_preprocess(read_safetensors(data_folder + "/golden/preprocess.safetensors"),
                               data_folder + "/golden/images", report);
        CHECK(report.failures() == 0);
    });
}

TEST_CASE("JPEG decoders: truncation and random damage give an error or an image, never a crash") {
    with_each_decoder([&](const std::string& decoder) {
        CAPTURE(decoder);
        int decoded = 0, refused = 0;
        std::uint32_t state = 1;
        const auto random = [&](std::size_t n) { return (state = state * 1664525u + 1013904223u) / 256 % n; };
        ImageLimits limits;
        limits.max_pixels = 1 << 18;
        for (const std::string& file : pictures()) {
            const std::string good = read_file(file);
            for (std::size_t n = 3; n + 2 < good.size(); n += 41)
                CHECK_THROWS_WITH_AS(decode(good.substr(0, n)), doctest::Contains("truncated JPEG"), Error);
            for (int trial = 0; trial < 200; ++trial) {
                std::string bad = good;
                for (int change = 0; change < 3; ++change) bad[random(bad.size())] = static_cast<char>(random(256));
                try {
                    decode(bad, limits);
                    ++decoded;
                } catch (const Error&) {
                    ++refused;
                }
            }
        }
        CHECK(decoded > 50);
        CHECK(refused > 100);
    });
}

}  // namespace jpeg_decoders_test
