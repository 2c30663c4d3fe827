// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>

#include <algorithm>
#include <cstring>
#include <string>

namespace promptkd {

namespace detail {

/// Whether one of `n` numbers has all exponent bits set (infinity or NaN). `Word` has the width of the number.
template <class Word>
bool has_full_exponent(const std::byte* bytes, std::size_t n, Word exponent) {
    constexpr std::size_t chunk = 4096 / sizeof(Word);
    Word buffer[chunk];
    Word found = 0;
    for (std::size_t i = 0; i < n; i += chunk) {
        const std::size_t length = std::min(chunk, n - i);
        std::memcpy(buffer, bytes + i * sizeof(Word), length * sizeof(Word));
        for (std::size_t j = 0; j < length; ++j) found |= static_cast<Word>((buffer[j] & exponent) == exponent);
    }
    return found != 0;
}

}  // namespace detail

/// Whether all values are finite. Pages of a mapped file are given back behind the reader.
inline bool all_finite(const HostTensor& tensor) {
    constexpr std::size_t step = std::size_t{1} << 20;  // elements
    const std::size_t unit = size_of(tensor.dtype), count = static_cast<std::size_t>(tensor.count());
    for (std::size_t i = 0; i < count && is_floating(tensor.dtype); i += step) {
        const std::byte* bytes = tensor.bytes + i * unit;
        const std::size_t n = std::min(step, count - i);
        const bool bad = tensor.dtype == DType::f64   ? detail::has_full_exponent<std::uint64_t>(bytes, n, 0x7ff0000000000000u)
                         : tensor.dtype == DType::f32 ? detail::has_full_exponent<std::uint32_t>(bytes, n, 0x7f800000u)
                         : tensor.dtype == DType::f16 ? detail::has_full_exponent<std::uint16_t>(bytes, n, 0x7c00u)
                                                      : detail::has_full_exponent<std::uint16_t>(bytes, n, 0x7f80u);
        if (tensor.mapped) detail::drop_pages(bytes, n * unit);
        if (bad) return false;
    }
    return true;
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
