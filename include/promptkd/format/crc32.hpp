// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <zlib.h>

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace promptkd {

namespace detail {

#if defined(__x86_64__)
// Functions, not lambdas: nvcc drops the attributes of a lambda.
__attribute__((target("pclmul,sse4.1"))) inline __m128i crc_load(const unsigned char* from) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}
__attribute__((target("pclmul,sse4.1"))) inline __m128i crc_fold(__m128i x, __m128i k, __m128i next) {
    return _mm_xor_si128(_mm_xor_si128(_mm_clmulepi64_si128(x, k, 0x00), _mm_clmulepi64_si128(x, k, 0x11)), next);
}

/// The CRC state after `size` more bytes (at least 64, a multiple of 16) by carry-less multiplication: four 128-bit
/// remainders are folded over 64 bytes a step, then into one, then reduced (Gopal et al., "Fast CRC Computation for
/// Generic Polynomials Using PCLMULQDQ Instruction", Intel 2009; constants for the reflected polynomial 0xedb88320).
__attribute__((target("pclmul,sse4.1"))) inline std::uint32_t fold_crc32(std::uint32_t state,
                                                                         const unsigned char* bytes, std::size_t size) {
    const __m128i by_64 = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4),
                  by_16 = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
    __m128i a = _mm_xor_si128(crc_load(bytes), _mm_cvtsi32_si128(static_cast<int>(state))), b = crc_load(bytes + 16),
            c = crc_load(bytes + 32), d = crc_load(bytes + 48);
    for (bytes += 64, size -= 64; size >= 64; bytes += 64, size -= 64) {
        a = crc_fold(a, by_64, crc_load(bytes)), b = crc_fold(b, by_64, crc_load(bytes + 16));
        c = crc_fold(c, by_64, crc_load(bytes + 32)), d = crc_fold(d, by_64, crc_load(bytes + 48));
    }
    a = crc_fold(crc_fold(crc_fold(a, by_16, b), by_16, c), by_16, d);
    for (; size >= 16; bytes += 16, size -= 16) a = crc_fold(a, by_16, crc_load(bytes));
    const __m128i low = _mm_setr_epi32(-1, 0, -1, 0);
    a = _mm_xor_si128(_mm_srli_si128(a, 8), _mm_clmulepi64_si128(a, by_16, 0x10));  // 128 -> 96 bits
    const __m128i by_4 = _mm_set_epi64x(0, 0x0163cd6124);
    a = _mm_xor_si128(_mm_srli_si128(a, 4), _mm_clmulepi64_si128(_mm_and_si128(a, low), by_4, 0x00));  // 96 -> 64 bits
    const __m128i polynomial = _mm_set_epi64x(0x01f7011641, 0x01db710641);  // Barrett: quotient by mu, then subtract
    __m128i q = _mm_clmulepi64_si128(_mm_and_si128(a, low), polynomial, 0x10);
    q = _mm_clmulepi64_si128(_mm_and_si128(q, low), polynomial, 0x00);
    return static_cast<std::uint32_t>(_mm_extract_epi32(_mm_xor_si128(a, q), 1));
}
#endif

}  // namespace detail

/// CRC-32 (zip's) of `bytes` appended to what gave `sum`; 0 to begin with. Weights are checked at the speed of memory
/// where the processor multiplies without carries, else by zlib.
inline std::uint32_t crc32_of(std::uint32_t sum, const void* bytes, std::size_t size) {
    const auto* at = static_cast<const unsigned char*>(bytes);
#if defined(__x86_64__)
    if (size >= 256 && __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1")) {
        const std::size_t folded = size / 16 * 16;
        sum = ~detail::fold_crc32(~sum, at, folded);
        at += folded, size -= folded;
    }
#endif
    return size == 0 ? sum : static_cast<std::uint32_t>(crc32_z(sum, at, size));
}

}  // namespace promptkd
