// SPDX-License-Identifier: Apache-2.0
#include <promptkd/format/crc32.hpp>

#include <zlib.h>

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

}  // namespace

}  // namespace crc32_test
