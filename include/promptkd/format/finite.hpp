// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>

#include <algorithm>
#include <cstring>
#include <string>

namespace promptkd {

namespace detail {

/// Whether one of the numbers in `bytes` has all exponent bits set (infinity or NaN). `exponent` is the mask of those
/// bits repeated over 64 bits; adding their lowest one carries into the (cleared) sign bit exactly where all are set.
inline bool has_full_exponent(const std::byte* bytes, std::size_t size, std::uint64_t exponent, std::uint64_t lowest,
                              std::uint64_t sign) {
    std::uint64_t found = 0;
    std::size_t at = 0;
    for (; at + 64 <= size; at += 64) {
        std::uint64_t words[8];
        std::memcpy(words, bytes + at, sizeof words);
        for (const std::uint64_t word : words) found |= (word & exponent) + lowest;
    }
    for (; at < size; at += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, bytes + at, std::min<std::size_t>(8, size - at));
        found |= (word & exponent) + lowest;
    }
    return (found & sign) != 0;
}

inline bool has_full_exponent(DType type, const std::byte* bytes, std::size_t size) {
    switch (type) {
        case DType::f64:
            return has_full_exponent(bytes, size, 0x7ff0000000000000, 0x0010000000000000, 0x8000000000000000);
        case DType::f32:
            return has_full_exponent(bytes, size, 0x7f8000007f800000, 0x0080000000800000, 0x8000000080000000);
        case DType::f16:
            return has_full_exponent(bytes, size, 0x7c007c007c007c00, 0x0400040004000400, 0x8000800080008000);
        case DType::bf16:
            return has_full_exponent(bytes, size, 0x7f807f807f807f80, 0x0080008000800080, 0x8000800080008000);
        default:
            return false;
    }
}

}  // namespace detail

/// Whether all values are finite. Pages of a mapped file are given back behind the reader.
inline bool all_finite(const HostTensor& tensor) {
    constexpr std::size_t step = std::size_t{1} << 20;  // bytes
    const std::size_t size = is_floating(tensor.dtype) ? tensor.size_bytes() : 0;
    for (std::size_t at = 0; at < size; at += step) {
        const std::size_t n = std::min(step, size - at);
        const bool bad = detail::has_full_exponent(tensor.dtype, tensor.bytes + at, n);
        if (tensor.mapped) detail::drop_pages(tensor.bytes + at, n);
        if (bad) return false;
    }
    return true;
}

/// Throws Error when `tensor`, the one called `name` in the file `source`, holds NaN or infinity.
inline void require_finite(const HostTensor& tensor, const std::string& name, const std::string& source) {
    require(all_finite(tensor), source, ": tensor '", name, "' holds NaN or infinity; nothing can be computed with it");
}

/// Throws Error naming the first tensor that holds NaN or infinity.
inline void require_finite(const TensorMap& map) {
    for (const auto& [name, tensor] : map.tensors) require_finite(tensor, name, map.source);
}

/// Whether every value is one that binary16 holds exactly.
inline bool all_half_exact(const HostTensor& tensor) {
    if (tensor.dtype == DType::f16) return true;
    if (tensor.dtype != DType::f32) return false;
    for (Index i = 0; i < tensor.count(); ++i) {
        const float x = detail::load_as<float, float>(tensor.bytes, i);
        if (static_cast<float>(half(x)) != x) return false;
    }
    return true;
}

}  // namespace promptkd
