// SPDX-License-Identifier: Apache-2.0
// Every kind of image against Pillow 13's pixels (tests/fixtures/images), and how damaged ones end.
#include <promptkd/format/image.hpp>
#include <promptkd/format/safetensors.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <random>

namespace promptkd::test::image_kinds_test {

namespace {

const std::string folder = std::string(PROMPTKD_TEST_DATA) + "/images/";

/// Whether this build reads files called so.
bool is_read(const std::string& name) {
    [[maybe_unused]] const auto ends = [&](const char* ending) { return name.find(ending) != std::string::npos; };
#if !defined(PROMPTKD_WITH_WEBP)
    if (ends(".webp")) return false;
#endif
#if !defined(PROMPTKD_WITH_TIFF)
    if (ends(".tif")) return false;
#endif
    return true;
}

/// Largest difference of two images' values; 255 where the sizes differ.
int difference(const Image& got, const HostTensor& want) {
    if (Shape{got.height, got.width, 3} != want.shape) return 255;
    const std::vector<std::uint8_t> values = want.to<std::uint8_t>();
    int worst = 0;
    for (std::size_t i = 0; i < values.size(); ++i) worst = std::max(worst, std::abs(got.pixels[i] - values[i]));
    return worst;
}

/// A few grey levels where another decoder than Pillow's is allowed to round otherwise: JPEG by stb_image.
int bound_of(const std::string& name) { return name.find(".jpg") != std::string::npos ? 4 : 0; }

Image decode(const std::string& bytes) {
    return decode_image(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size(), "picture");
}

}  // namespace

TEST_CASE("images: every kind as Pillow's convert(\"RGB\")") {
    const TensorMap expected = read_safetensors(folder + "expected.safetensors");
    for (const auto& [name, want] : expected.tensors) {
        if (name.find('/') != std::string::npos || !is_read(name)) continue;
        const auto& shown_name = name;  // clang 14 captures no structured binding
        CAPTURE(shown_name);
        CHECK(difference(read_image(folder + name), want) <= bound_of(name));
    }
}

TEST_CASE("images: EXIF's orientation is counted, and applied when asked for") {
    const TensorMap expected = read_safetensors(folder + "expected.safetensors");
    std::size_t seen = 0;
    for (int round = 0; round < 2; ++round)
        for (const auto& [name, want] : expected.tensors) {
            if (name.rfind("turned/exif", 0) != 0 || !is_read(name)) continue;
            const auto& shown_name = name;  // clang 14 captures no structured binding
            CAPTURE(shown_name);
            const std::string file = folder + name.substr(7);
            exif_rotation().apply(false);
            const Image plain = read_image(file);
            CHECK(difference(plain, expected.at(name.substr(7))) <= bound_of(name));
            exif_rotation().apply(true);
            CHECK(difference(read_image(file), want) <= bound_of(name));
            exif_rotation().apply(false);
            seen += round == 0 ? 1 : 0;
        }
    CHECK(seen >= 8);
    CHECK(exif_rotation().count_left() == seen);  // each once
    CHECK(exif_rotation().first_left().find("exif_") != std::string::npos);
    CHECK(exif_orientation("") == 1);
    CHECK(exif_orientation(std::string("\xff\xd8\xff\xe1\0\x10"
                                       "Exif\0\0MM\0*\xff\xff\xff\xff",
                                       18)) == 1);
}

TEST_CASE("images: damaged files of every kind end in an error, or in pixels") {
    std::mt19937 random(7);
    ImageLimits limits;
    limits.max_pixels = 1 << 20;
    int refused = 0, decoded = 0;
    const TensorMap expected = read_safetensors(folder + "expected.safetensors");
    for (const auto& [name, want] : expected.tensors) {
        if (name.find('/') != std::string::npos || !is_read(name)) continue;
        const std::string good = read_file(folder + name);
        for (int i = 0; i < 60; ++i) {
            std::string bad = good;
            if (i % 3 == 0) bad.resize(random() % bad.size());
            for (int change = 0; change < 3 && !bad.empty(); ++change)
                bad[random() % std::min<std::size_t>(bad.size(), change == 0 ? bad.size() : 64)] =
                    static_cast<char>(random());
            try {
                decode_image(reinterpret_cast<const std::byte*>(bad.data()), bad.size(), "picture", limits);
                ++decoded;
            } catch (const Error&) {
                ++refused;
            }
        }
    }
    CHECK(refused > 100);
    CHECK(decoded > 100);
}

TEST_CASE("images: what is wrong is said") {
    const std::string gif = read_file(folder + "plain.gif"), bmp = read_file(folder + "rgb.bmp");
    CHECK_THROWS_WITH_AS(decode(gif.substr(0, gif.size() / 2)), doctest::Contains("picture: truncated GIF"), Error);
    CHECK_THROWS_WITH_AS(decode(bmp.substr(0, bmp.size() / 2)), doctest::Contains("picture: truncated BMP"), Error);
    std::string packed = bmp;
    packed[30] = 1;
    CHECK_THROWS_WITH_AS(decode(packed), doctest::Contains("run-length"), Error);
    packed[30] = 4;
    CHECK_THROWS_WITH_AS(decode(packed), doctest::Contains("compression 4"), Error);
    std::string huge = bmp;
    for (const int i : {18, 19, 20, 22, 23, 24}) huge[static_cast<std::size_t>(i)] = '\x70';
    CHECK_THROWS_WITH_AS(decode(huge), doctest::Contains("more than the limit"), Error);
    const std::string webp = read_file(folder + "lossless.webp"), tiff = read_file(folder + "rgb.tif");
#if defined(PROMPTKD_WITH_WEBP)
    CHECK_THROWS_WITH_AS(decode(webp.substr(0, webp.size() / 2)), doctest::Contains("truncated WebP"), Error);
#else
    CHECK_THROWS_WITH_AS(decode(webp), doctest::Contains("without libwebp"), Error);
#endif
#if defined(PROMPTKD_WITH_TIFF)
    CHECK_THROWS_WITH_AS(decode(tiff.substr(0, tiff.size() / 2)), doctest::Contains("TIFF"), Error);
    std::string lab = tiff;
    lab.at(lab.find(std::string("\x06\x01\x03\0\x01\0\0\0", 8)) + 8) = 8;  // photometric interpretation
    CHECK_THROWS_WITH_AS(decode(lab), doctest::Contains("L*a*b*"), Error);
#else
    CHECK_THROWS_WITH_AS(decode(tiff), doctest::Contains("without libtiff"), Error);
#endif
}

}  // namespace promptkd::test::image_kinds_test
