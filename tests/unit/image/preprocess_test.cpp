// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <promptkd/core/rng.hpp>
#include <promptkd/image/preprocess.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace preprocess_test {

using namespace promptkd;

namespace {

Image random_image(Index height, Index width, std::uint64_t seed = 1) {
    Image image(height, width);
    RandomStream random(seed, 0);
    for (std::uint8_t& value : image.pixels) value = static_cast<std::uint8_t>(random.below(256));
    return image;
}

bool equal(const Image& a, const Image& b) {
    return a.height == b.height && a.width == b.width && a.pixels == b.pixels;
}

/// One pass over rows, written as plainly as the definition: for output i, weights around (i + 0.5) · scale.
Image resize_vertically(const Image& image, Index height) {
    if (height == image.height) return image;
    Image out(height, image.width);
    const double scale = static_cast<double>(image.height) / static_cast<double>(height), wide = std::max(scale, 1.0);
    for (Index i = 0; i < height; ++i) {
        const double center = (static_cast<double>(i) + 0.5) * scale;
        const Index low = std::max<Index>(0, static_cast<Index>(center - 2 * wide + 0.5));
        const Index high = std::min(image.height, static_cast<Index>(center + 2 * wide + 0.5));
        std::vector<double> weights;
        double sum = 0;
        for (Index y = low; y < high; ++y) {
            const double x = std::abs((static_cast<double>(y) - center + 0.5) * (1.0 / wide));
            const double near = (1.5 * x - 2.5) * x * x + 1, far = (((x - 5) * x + 8) * x - 4) * -0.5;
            weights.push_back(x < 1 ? near : x < 2 ? far : 0);
            sum += weights.back();
        }
        for (Index x = 0; x < image.width * 3; ++x) {
            std::int64_t total = 1 << 21;
            for (Index y = low; y < high; ++y) {
                const double w = weights[static_cast<std::size_t>(y - low)] / sum * (1 << 22);
                total += static_cast<std::int64_t>(w < 0 ? w - 0.5 : w + 0.5) * image.row(y)[x];
            }
            out.row(i)[x] = static_cast<std::uint8_t>(std::clamp<std::int64_t>(total >> 22, 0, 255));
        }
    }
    return out;
}

Image transpose(const Image& image) {
    Image out(image.width, image.height);
    for (Index y = 0; y < image.height; ++y)
        for (Index x = 0; x < image.width; ++x) std::copy_n(image.row(y) + 3 * x, 3, out.row(x) + 3 * y);
    return out;
}

Image resize_horizontally(const Image& image, Index width) {
    return transpose(resize_vertically(transpose(image), width));
}

Image reference_resize(const Image& image, Index height, Index width) {
    const bool vertical_first = image.height > height && image.height - height > 2 * (image.width - width);
    return vertical_first ? resize_horizontally(resize_vertically(image, height), width)
                          : resize_vertically(resize_horizontally(image, width), height);
}

}  // namespace

TEST_CASE("resize equals the plain two-pass definition") {
    const Index sizes[][4] = {{40, 60, 20, 30},  {60, 40, 20, 30}, {7, 9, 30, 31},  {90, 30, 31, 40}, {1, 1, 5, 3},
                              {33, 17, 33, 8},   {17, 33, 8, 33},  {100, 3, 1, 1},  {5, 5, 5, 5},     {70, 20, 64, 64},
                              {131, 77, 54, 32}, {2, 300, 2, 28},  {64, 48, 47, 33}};
    for (const auto& s : sizes) {
        const Image image = random_image(s[0], s[1]);
        CAPTURE(s[0]);
        CAPTURE(s[1]);
        CHECK(equal(resize(image, s[2], s[3]), reference_resize(image, s[2], s[3])));
    }
}

TEST_CASE("resizing keeps flat colours, and values beyond the range are clipped") {
    Image flat(37, 53);
    for (std::size_t i = 0; i < flat.pixels.size(); ++i) flat.pixels[i] = static_cast<std::uint8_t>(i % 3 * 127);
    const Image out = resize(flat, 20, 70);
    for (std::size_t i = 0; i < out.pixels.size(); ++i) REQUIRE(out.pixels[i] == i % 3 * 127);
    Image edge(1, 8);  // black, then white: bicubic over- and undershoots beside the step
    std::fill(edge.pixels.begin() + 12, edge.pixels.end(), std::uint8_t{255});
    const Image wide = resize(edge, 1, 64);
    CHECK(wide.pixels.front() == 0);
    CHECK(wide.pixels.back() == 255);
    CHECK(std::is_sorted(wide.pixels.begin() + 24 * 3, wide.pixels.begin() + 40 * 3));
}

TEST_CASE("crop and resized_crop see only their rectangle") {
    const Image image = random_image(30, 40);
    const Image part = crop(image, 5, 7, 11, 13);
    CHECK(part.height == 11);
    CHECK(part.width == 13);
    CHECK(part.row(2)[3] == image.row(7)[8 * 3]);
    CHECK(equal(resized_crop(image, 5, 7, 11, 13, 24), resize(part, 24, 24)));
    CHECK(equal(resized_crop(image, 5, 7, 11, 11, 11), crop(image, 5, 7, 11, 11)));
    CHECK_THROWS_AS(crop(image, 20, 0, 11, 1), Error);
    CHECK_THROWS_AS(crop(image, 0, -1, 3, 3), Error);
    CHECK_THROWS_AS(crop(image, 0, 0, 0, 3), Error);
    CHECK_THROWS_AS(resized_crop(image, 0, 0, 3, 41, 8), Error);
}

TEST_CASE("preprocessing: the shorter side fits, the longer side is cut in the middle") {
    const Index sizes[][3] = {{90, 61, 28}, {61, 90, 28}, {64, 85, 64}, {85, 64, 64}, {20, 33, 64},
                              {40, 40, 28}, {28, 28, 28}, {3, 200, 16}, {200, 3, 16}, {67, 31, 31}};
    for (const auto& s : sizes) {
        const Image image = random_image(s[0], s[1]);
        const Index shorter = std::min(s[0], s[1]);
        const Index height = s[2] * s[0] / shorter, width = s[2] * s[1] / shorter;
        const Index top = static_cast<Index>(std::nearbyint(static_cast<double>(height - s[2]) / 2));
        const Index left = static_cast<Index>(std::nearbyint(static_cast<double>(width - s[2]) / 2));
        CAPTURE(s[0]);
        CAPTURE(s[1]);
        CHECK(
            equal(preprocess_image(image, s[2]), crop(reference_resize(image, height, width), top, left, s[2], s[2])));
    }
    CHECK(detail::half_to_even(1) == 0);
    CHECK(detail::half_to_even(3) == 2);
    CHECK(detail::half_to_even(5) == 2);
    CHECK(detail::half_to_even(8) == 4);
}

TEST_CASE("a very long image costs only the square that is kept") {
    const Image image = random_image(2, 60000);
    CHECK(preprocess_image(image, 224).width == 224);  // the whole row of squares would take 4.5 GB
}

TEST_CASE("impossible sizes are refused") {
    CHECK_THROWS_AS(resize(Image(), 4, 4), Error);
    CHECK_THROWS_AS(resize(random_image(4, 4), 0, 4), Error);
    CHECK_THROWS_AS(resize(random_image(4, 4), 4, -1), Error);
    CHECK_THROWS_AS(preprocess_image(random_image(4, 4), 1 << 20), Error);
    CHECK_THROWS_AS(preprocess_image(Image(), 224), Error);
}

TEST_CASE("normalisation: planes, CLIP's constants, fp32") {
    Image image(1, 2);
    image.pixels = {0, 128, 255, 17, 200, 3};
    std::vector<float> chw(6);
    normalize_image(image, chw.data());
    const Normalization clip;
    for (std::size_t c = 0; c < 3; ++c)
        for (std::size_t i = 0; i < 2; ++i) {
            const float unit = static_cast<float>(image.pixels[i * 3 + c]) / 255.0f;
            CHECK(chw[c * 2 + i] == (unit - clip.mean[c]) / clip.deviation[c]);
        }
    CHECK(chw[0] == doctest::Approx(-1.7922626));
    normalize_image(image, chw.data(), Normalization{{0.5f, 0.5f, 0.5f}, {0.5f, 0.5f, 0.5f}});
    CHECK(chw[0] == -1.0f);
    CHECK(chw[4] == 1.0f);
}

}  // namespace preprocess_test
