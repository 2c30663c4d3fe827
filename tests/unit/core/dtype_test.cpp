// SPDX-License-Identifier: Apache-2.0
#include <promptkd/core/dtype.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>

namespace dtype_test {

namespace {

using namespace promptkd;

std::uint16_t half_bits(float x) { return half(x).bits; }
std::uint16_t bf16_bits(float x) { return bf16(x).bits; }

constexpr float infinity = std::numeric_limits<float>::infinity();

/// x rounded to the nearest multiple of `unit` (a power of two), halfway to even; exact in binary64.
double round_to(double x, double unit) { return std::nearbyint(x / unit) * unit; }

TEST_CASE("dtypes: sizes, names, kinds") {
    CHECK(size_of(DType::f64) == 8);
    CHECK(size_of(DType::f32) == 4);
    CHECK(size_of(DType::f16) == 2);
    CHECK(size_of(DType::bf16) == 2);
    CHECK(size_of(DType::i64) == 8);
    CHECK(size_of(DType::i32) == 4);
    CHECK(size_of(DType::i16) == 2);
    CHECK(size_of(DType::i8) == 1);
    CHECK(size_of(DType::u8) == 1);
    CHECK(size_of(DType::boolean) == 1);
    CHECK(std::string(name_of(DType::f64)) == "f64");
    CHECK(std::string(name_of(DType::bf16)) == "bf16");
    CHECK(std::string(name_of(DType::boolean)) == "bool");
    CHECK(is_floating(DType::bf16));
    CHECK(!is_floating(DType::i64));
    CHECK(dtype_of<double> == DType::f64);
    CHECK(dtype_of<half> == DType::f16);
    CHECK(dtype_of<bf16> == DType::bf16);
    CHECK(dtype_of<std::int32_t> == DType::i32);
    CHECK(dtype_of<std::uint8_t> == DType::u8);
    CHECK(dtype_of<bool> == DType::boolean);
}

TEST_CASE("half: landmarks of IEEE binary16") {
    CHECK(half_bits(0.0f) == 0x0000);
    CHECK(half_bits(-0.0f) == 0x8000);
    CHECK(half_bits(1.0f) == 0x3c00);
    CHECK(half_bits(-2.0f) == 0xc000);
    CHECK(half_bits(65504.0f) == 0x7bff);  // the largest
    CHECK(half_bits(65519.99f) == 0x7bff);
    CHECK(half_bits(65520.0f) == 0x7c00);  // halfway to 65536: to even, infinity
    CHECK(half_bits(infinity) == 0x7c00);
    CHECK(half_bits(-infinity) == 0xfc00);
    CHECK(half_bits(std::ldexp(1.0f, -14)) == 0x0400);  // the smallest normal one
    CHECK(half_bits(std::ldexp(1.0f, -24)) == 0x0001);  // the smallest of all
    CHECK(half_bits(std::ldexp(1.0f, -25)) == 0x0000);  // halfway to zero: to even
    CHECK(half_bits(std::ldexp(1.5f, -25)) == 0x0001);
    CHECK(std::isnan(static_cast<float>(half(std::numeric_limits<float>::quiet_NaN()))));
}

TEST_CASE("half: every number survives the way to float and back") {
    int different = 0;
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
        half h;
        h.bits = static_cast<std::uint16_t>(bits);
        const float wide = h;
        const bool nan = (bits & 0x7fff) > 0x7c00;
        different += nan ? !std::isnan(wide) : half_bits(wide) != h.bits;
    }
    CHECK(different == 0);
}

TEST_CASE("half: rounds to the nearest, halfway to even, normal and subnormal") {
    std::uint32_t state = 1;
    int different = 0;
    for (int i = 0; i < 200000; ++i) {
        state = state * 1664525u + 1013904223u;
        const int exponent = static_cast<int>(state >> 24) % 32 - 26;  // 2^-26 … 2^5
        const float x = std::ldexp(1.0f + static_cast<float>(state & 0xfffff) / 0x100000, exponent);
        const double unit = std::ldexp(1.0, std::max(exponent, -14) - 10);
        different += static_cast<double>(static_cast<float>(half(x))) != round_to(x, unit);
    }
    CHECK(different == 0);
}

TEST_CASE("bf16: landmarks, rounding, NaN") {
    CHECK(bf16_bits(1.0f) == 0x3f80);
    CHECK(bf16_bits(-1.0f) == 0xbf80);
    CHECK(bf16_bits(infinity) == 0x7f80);
    CHECK(bf16_bits(std::numeric_limits<float>::max()) == 0x7f80);
    CHECK(bf16_bits(1.0f + std::ldexp(1.0f, -8)) == 0x3f80);      // halfway: to even
    CHECK(bf16_bits(1.0f + 3 * std::ldexp(1.0f, -8)) == 0x3f82);  // halfway: to even, upwards
    CHECK(bf16_bits(1.0f + 1.01f * std::ldexp(1.0f, -8)) == 0x3f81);
    // A NaN whose payload lies in the lower half stays a NaN.
    CHECK(std::isnan(static_cast<float>(bf16(detail::bits_float(0x7f800001u)))));
    int different = 0;
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
        bf16 b;
        b.bits = static_cast<std::uint16_t>(bits);
        const bool nan = (bits & 0x7fff) > 0x7f80;
        different += !nan && bf16_bits(b) != b.bits;
    }
    CHECK(different == 0);
}

}  // namespace

}  // namespace dtype_test
