// SPDX-License-Identifier: Apache-2.0
#include <promptkd/core/tensor.hpp>
#include <promptkd/format/crc32.hpp>

#include <doctest/doctest.h>

#include <vector>

namespace crc32_test {

namespace {

using namespace promptkd;

TEST_CASE("crc32: the same as zlib's for every length, start and place") {
    std::vector<unsigned char> bytes(3000);
    std::uint32_t x = 1;
    for (unsigned char& byte : bytes) byte = static_cast<unsigned char>((x = x * 1664525u + 1013904223u) >> 24);
    for (std::size_t n = 0; n < 2900; ++n) {
        const unsigned char* at = bytes.data() + n % 17;
        CAPTURE(n);
        REQUIRE(crc32_of(static_cast<std::uint32_t>(n * 77), at, n) ==
                static_cast<std::uint32_t>(crc32_z(static_cast<uLong>(n * 77), at, n)));
    }
    CHECK(crc32_of(0, "123456789", 9) == 0xcbf43926u);
    CHECK(crc32_of(crc32_of(0, bytes.data(), 1000), bytes.data() + 1000, 2000) == crc32_of(0, bytes.data(), 3000));
}

TEST_CASE("widening: all binary16 numbers, in blocks and alone") {
    std::vector<half> all(65536);
    for (std::size_t i = 0; i < all.size(); ++i) all[i].bits = static_cast<std::uint16_t>(i);
    const HostTensor tensor = make_tensor(all, {65536});
    const std::vector<float> wide = tensor.to<float>();
    std::size_t different = 0;
    for (std::size_t i = 0; i < all.size(); ++i)
        different += detail::float_bits(wide[i]) != detail::float_bits(static_cast<float>(all[i]));
    CHECK(different == 0);
    float three[3];
    tensor.copy_to(three, 0x3c00, 3);
    CHECK(three[0] == 1.0f);
    CHECK(three[2] == 1.0f + 2.0f / 1024.0f);
}

}  // namespace

}  // namespace crc32_test
