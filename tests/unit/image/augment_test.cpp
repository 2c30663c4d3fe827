// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <promptkd/image/augment.hpp>

#include <cmath>
#include <string>

namespace augment_test {

using namespace promptkd;

namespace {

Image random_image(Index height, Index width) {
    Image image(height, width);
    RandomStream random(3, 0);
    for (std::uint8_t& value : image.pixels) value = static_cast<std::uint8_t>(random.below(256));
    return image;
}

Image mirrored(Image image) {
    flip_horizontal(image);
    return image;
}

}  // namespace

TEST_CASE("random boxes lie inside the image and have the published distribution") {
    RandomStream random(1, 2);
    const Index height = 300, width = 400;
    double area_sum = 0, log_ratio_sum = 0;
    int n = 0, small = 0;
    for (; n < 4000; ++n) {
        const CropBox box = random_crop_box(random, height, width);
        REQUIRE(box.top >= 0);
        REQUIRE(box.left >= 0);
        REQUIRE(box.height >= 1);
        REQUIRE(box.width >= 1);
        REQUIRE(box.top + box.height <= height);
        REQUIRE(box.left + box.width <= width);
        const double area = static_cast<double>(box.height * box.width) / (height * width);
        const double ratio = static_cast<double>(box.width) / static_cast<double>(box.height);
        REQUIRE(area > 0.078);
        REQUIRE(ratio > 0.73);
        REQUIRE(ratio < 1.36);
        area_sum += area;
        log_ratio_sum += std::log(ratio);
        small += area < 0.3;
    }
    // Boxes that do not fit are drawn again, which favours small ones and, in a wide image, wide ones: the bounds are
    // around the values of the published sampler (mean area 0.433, mean log ratio 0.031, 32.3 % below 0.3).
    CHECK(area_sum / n == doctest::Approx(0.433).epsilon(0.04));
    CHECK(std::abs(log_ratio_sum / n - 0.031) < 0.015);
    CHECK(static_cast<double>(small) / n == doctest::Approx(0.323).epsilon(0.08));
}

TEST_CASE("an image too long for any box gets the central crop") {
    RandomStream random(1, 2);
    for (int i = 0; i < 20; ++i) {
        const CropBox wide = random_crop_box(random, 10, 1000);
        CHECK(wide.height == 10);
        CHECK(wide.width == 13);
        CHECK(wide.left == 493);
        const CropBox tall = random_crop_box(random, 1000, 10);
        CHECK(tall.height == 13);
        CHECK(tall.top == 493);
        const CropBox dot = random_crop_box(random, 1, 1);
        CHECK(dot.height == 1);
        CHECK(dot.width == 1);
    }
    CHECK_THROWS_AS(random_crop_box(random, 0, 5), Error);
}

TEST_CASE("flip") {
    Image image(1, 3);
    image.pixels = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    CHECK(mirrored(image).pixels == std::vector<std::uint8_t>{7, 8, 9, 4, 5, 6, 1, 2, 3});
    const Image random = random_image(5, 8);
    CHECK(mirrored(mirrored(random)).pixels == random.pixels);
    CHECK(mirrored(random).pixels != random.pixels);
}

TEST_CASE("names of augmentations") {
    for (const Augmentation a : {Augmentation::random_resized_crop, Augmentation::flip, Augmentation::none})
        CHECK(parse_augmentation(to_string(a)) == a);
    CHECK_THROWS_WITH_AS(parse_augmentation("mixup"), doctest::Contains("rrc, flip, none"), Error);
}

TEST_CASE("an augmented image is a function of seed, index and epoch") {
    const Image image = random_image(50, 70);
    const auto view = [&](std::uint64_t seed, std::uint64_t index, std::uint32_t epoch) {
        return augment_image(image, Augmentation::random_resized_crop, Preprocessing::clip(28), seed, index, epoch)
            .pixels;
    };
    const auto first = view(1, 5, 0);
    view(1, 6, 0);
    CHECK(view(1, 5, 0) == first);
    CHECK(view(2, 5, 0) != first);
    CHECK(view(1, 6, 0) != first);
    CHECK(view(1, 5, 1) != first);
    CHECK(first.size() == 28 * 28 * 3);
}

TEST_CASE("flip and none start from the test preprocessing") {
    const Image image = random_image(40, 30), plain = preprocess_image(image, 28), turned = mirrored(plain);
    int flips = 0;
    for (std::uint64_t index = 0; index < 1000; ++index) {
        const Image view = augment_image(image, Augmentation::flip, Preprocessing::clip(28), 7, index, 3);
        const bool flipped = view.pixels == turned.pixels;
        REQUIRE((flipped || view.pixels == plain.pixels));
        flips += flipped;
    }
    CHECK(flips > 430);
    CHECK(flips < 570);
    CHECK(augment_image(image, Augmentation::none, Preprocessing::clip(28), 7, 1, 3).pixels == plain.pixels);
}

}  // namespace augment_test
