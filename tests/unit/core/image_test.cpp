// SPDX-License-Identifier: Apache-2.0
#include <promptkd/core/image.hpp>

#include <doctest/doctest.h>

namespace core_image_test {

using namespace promptkd;

TEST_CASE("image: rows of interleaved pixels without padding") {
    Image image(3, 5);
    CHECK(image.height == 3);
    CHECK(image.width == 5);
    CHECK(image.pixels == std::vector<std::uint8_t>(3 * 5 * 3));
    image.row(2)[3 * 4 + 1] = 7;  // green of the last pixel
    CHECK(image.pixels[(2 * 5 + 4) * 3 + 1] == 7);
    const Image& same = image;
    CHECK(same.row(0) == image.pixels.data());
    CHECK(same.row(1) == same.row(0) + 15);
    CHECK(Image().pixels.empty());
}

}  // namespace core_image_test
