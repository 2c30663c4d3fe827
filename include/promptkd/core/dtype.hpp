// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>

#include <cstring>

namespace promptkd {

/// Element types of stored tensors.
enum class DType : std::uint8_t { f64, f32, f16, bf16, i64, i32, i16, i8, u8, boolean };

/// Bytes of one element.
constexpr std::size_t size_of(DType type) {
    switch (type) {
        case DType::f64:
        case DType::i64:
            return 8;
        case DType::f32:
        case DType::i32:
            return 4;
        case DType::f16:
        case DType::bf16:
        case DType::i16:
            return 2;
        default:
            return 1;
    }
}

/// Name as printed in messages ("f32").
constexpr const char* name_of(DType type) {
    constexpr const char* names[] = {"f64", "f32", "f16", "bf16", "i64", "i32", "i16", "i8", "u8", "bool"};
    return names[static_cast<int>(type)];
}

/// Whether the type holds floating-point numbers.
constexpr bool is_floating(DType type) { return type <= DType::bf16; }

namespace detail {

PROMPTKD_HD inline std::uint32_t float_bits(float x) {
    std::uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

PROMPTKD_HD inline float bits_float(std::uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/// IEEE binary16 -> binary32, exact (subnormals, infinities and NaN included).
PROMPTKD_HD inline float half_to_float(std::uint16_t h) {
    const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16;
    const std::uint32_t exponent = (h >> 10) & 0x1fu;
    const std::uint32_t mantissa = h & 0x3ffu;
    if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24
        const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
        return bits_float(float_bits(magnitude) | sign);
    }
    if (exponent == 31) return bits_float(sign | 0x7f800000u | (mantissa << 13));
    return bits_float(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

/// binary32 -> binary16, round to nearest even.
PROMPTKD_HD inline std::uint16_t float_to_half(float x) {
    const std::uint32_t bits = float_bits(x);
    const std::uint16_t sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
    const std::uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // rounds to infinity
    if (magnitude < 0x38800000u) {  // subnormal result: let the addition of 0.5 round the last place
        const float shifted = bits_float(magnitude) + 0.5f;
        return static_cast<std::uint16_t>(sign | (float_bits(shifted) - 0x3f000000u));
    }
    const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

}  // namespace detail

/// IEEE binary16, storage only: arithmetic happens after conversion to float.
struct half {
    std::uint16_t bits = 0;  ///< sign, exponent and mantissa
    half() = default;
    /// Rounds to nearest even.
    PROMPTKD_HD explicit half(float x) : bits(detail::float_to_half(x)) {}
    /// Exact.
    PROMPTKD_HD operator float() const { return detail::half_to_float(bits); }
};

/// bfloat16 (the upper half of a binary32), storage only; conversion rounds to nearest even.
struct bf16 {
    std::uint16_t bits = 0;  ///< the upper half of a binary32
    bf16() = default;
    /// Rounds to nearest even; NaN stays NaN.
    PROMPTKD_HD explicit bf16(float x) {
        const std::uint32_t u = detail::float_bits(x);
        const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
        bits = static_cast<std::uint16_t>(nan ? ((u >> 16) | 0x40u) : ((u + 0x7fffu + ((u >> 16) & 1u)) >> 16));
    }
    /// Exact.
    PROMPTKD_HD operator float() const { return detail::bits_float(static_cast<std::uint32_t>(bits) << 16); }
};

/// DType of a C++ type: dtype_of<float> == DType::f32.
template <class T>
inline constexpr DType dtype_of = DType::u8;
/// The types that have a DType.
///@{
template <>
inline constexpr DType dtype_of<double> = DType::f64;
template <>
inline constexpr DType dtype_of<float> = DType::f32;
template <>
inline constexpr DType dtype_of<half> = DType::f16;
template <>
inline constexpr DType dtype_of<bf16> = DType::bf16;
template <>
inline constexpr DType dtype_of<std::int64_t> = DType::i64;
template <>
inline constexpr DType dtype_of<std::int32_t> = DType::i32;
template <>
inline constexpr DType dtype_of<std::int16_t> = DType::i16;
template <>
inline constexpr DType dtype_of<std::int8_t> = DType::i8;
template <>
inline constexpr DType dtype_of<bool> = DType::boolean;
///@}

}  // namespace promptkd
