// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/cpu/int8_step.hpp>
#include <promptkd/device/cpu/packets.hpp>

namespace promptkd::detail {
inline namespace PROMPTKD_CPU_ABI {

// The kernels' steps for the levels of processors, see Step.

#ifdef PROMPTKD_DISPATCH

template <>
struct Step<float, float, V3> : Packets<float, V3> {
    using Vector = Packet;
    static constexpr TileShape shape = tile_of_16_registers(width);
    PROMPTKD_TARGET_V3 static void zero(Packet& sum) { sum = _mm256_setzero_ps(); }
    PROMPTKD_TARGET_V3 static void broadcast(float a, Vector& to) { to = _mm256_set1_ps(a); }
    PROMPTKD_TARGET_V3 static void multiply_add(const Vector& a, const Vector& b, Packet& sum) {
        sum = _mm256_fmadd_ps(a, b, sum);
    }
};

template <>
struct Step<float, float, V4> {
    using Packet = __m512;
    using Vector = Packet;
    static constexpr Index width = 16;
    static constexpr TileShape shape = tile_of_32_registers(width);
    PROMPTKD_TARGET_V4 static void zero(Packet& sum) { sum = _mm512_setzero_ps(); }
    PROMPTKD_TARGET_V4 static void broadcast(float a, Vector& to) { to = _mm512_set1_ps(a); }
    PROMPTKD_TARGET_V4 static void load(const float* b, Vector& to) { to = _mm512_loadu_ps(b); }
    // With masks of all elements: g++ 12 warns of uninitialised values in its own functions without (GCC bug 105593).
    PROMPTKD_TARGET_V4 static void load(const half* b, Vector& to) {
        to = _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b)));
    }
    PROMPTKD_TARGET_V4 static void load(const bf16* b, Vector& to) {
        const __m512i bits =
            _mm512_maskz_cvtepu16_epi32(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b)));
        to = _mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, bits, 16));
    }
    PROMPTKD_TARGET_V4 static void store(float* to, const Packet& sum) { _mm512_storeu_ps(to, sum); }
    PROMPTKD_TARGET_V4 static void multiply_add(const Vector& a, const Vector& b, Packet& sum) {
        sum = _mm512_fmadd_ps(a, b, sum);
    }
};

template <>
struct Step<float, Bf16Pair, Bf16> {
    using Packet = __m512;
    using Vector = __m512i;
    static constexpr Index width = 16;
    static constexpr TileShape shape = tile_of_32_registers(width);
    PROMPTKD_TARGET_BF16 static void zero(Packet& sum) { sum = _mm512_setzero_ps(); }
    PROMPTKD_TARGET_BF16 static void broadcast(Bf16Pair a, Vector& to) {
        to = _mm512_set1_epi32(static_cast<int>(a.bits));
    }
    PROMPTKD_TARGET_BF16 static void load(const Bf16Pair* b, Vector& to) { to = _mm512_loadu_si512(b); }
    PROMPTKD_TARGET_BF16 static void store(float* to, const Packet& sum) { _mm512_storeu_ps(to, sum); }
    PROMPTKD_TARGET_BF16 static void multiply_add(const Vector& a, const Vector& b, Packet& sum) {
        sum = _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
    }
};

/// Four 8-bit values of each 32 bits as two pairs of 16, for the instruction that adds the two products of a pair.
struct Int8Pairs {
    __m256i even, odd;
};

template <>
struct Step<std::int32_t, Int8Quad, V3> {
    using Packet = __m256i;
    using Vector = Int8Pairs;
    static constexpr Index width = 8;
    static constexpr TileShape shape = tile_of_16_registers(width);
    PROMPTKD_TARGET_V3 static void zero(Packet& sum) { sum = _mm256_setzero_si256(); }
    PROMPTKD_TARGET_V3 static void broadcast(Int8Quad a, Vector& to) {
        to.even = _mm256_set1_epi32(static_cast<int>(a.bits & 0x00ff00ffu));
        to.odd = _mm256_set1_epi32(static_cast<int>(a.bits >> 8 & 0x00ff00ffu));
    }
    PROMPTKD_TARGET_V3 static void load(const Int8Quad* b, Vector& to) {
        const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b));
        to.even = _mm256_srai_epi16(_mm256_slli_epi16(bits, 8), 8);
        to.odd = _mm256_srai_epi16(bits, 8);
    }
    PROMPTKD_TARGET_V3 static void store(std::int32_t* to, const Packet& sum) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), sum);
    }
    PROMPTKD_TARGET_V3 static void multiply_add(const Vector& a, const Vector& b, Packet& sum) {
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a.even, b.even));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a.odd, b.odd));
    }
};

template <>
struct Step<std::int32_t, Int8Quad, Vnni> {
    using Packet = __m512i;
    using Vector = Packet;
    static constexpr Index width = 16;
    static constexpr TileShape shape = tile_of_32_registers(width);
    PROMPTKD_TARGET_VNNI static void zero(Packet& sum) { sum = _mm512_setzero_si512(); }
    PROMPTKD_TARGET_VNNI static void broadcast(Int8Quad a, Vector& to) {
        to = _mm512_set1_epi32(static_cast<int>(a.bits));
    }
    PROMPTKD_TARGET_VNNI static void load(const Int8Quad* b, Vector& to) { to = _mm512_loadu_si512(b); }
    PROMPTKD_TARGET_VNNI static void store(std::int32_t* to, const Packet& sum) { _mm512_storeu_si512(to, sum); }
    PROMPTKD_TARGET_VNNI static void multiply_add(const Vector& a, const Vector& b, Packet& sum) {
        sum = _mm512_dpbusd_epi32(sum, a, b);
    }
};

#endif

/// The kernels of the highest level that is allowed and has some.
template <class T, class E, class B>
const TileKernels<T, E, B>& tile_kernels([[maybe_unused]] ProcessorLevel level) {
#ifdef PROMPTKD_DISPATCH
    if constexpr (std::is_same_v<E, Bf16Pair>) {
        return kernels_of<T, E, B, Bf16>;
    } else if constexpr (std::is_same_v<E, Int8Quad>) {
        if (level >= ProcessorLevel::v4_vnni) return kernels_of<T, E, B, Vnni>;
        if (level >= ProcessorLevel::v3) return kernels_of<T, E, B, V3>;
    } else if constexpr (std::is_same_v<E, float>) {
        if (level >= ProcessorLevel::v4) return kernels_of<T, E, B, V4>;
        if (level >= ProcessorLevel::v3) return kernels_of<T, E, B, V3>;
    }
    if constexpr (!std::is_same_v<E, Bf16Pair>)
#endif
        return kernels_of<T, E, B, Compiled>;
}

}  // namespace PROMPTKD_CPU_ABI
}  // namespace promptkd::detail
