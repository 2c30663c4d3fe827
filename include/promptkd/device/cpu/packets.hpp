// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/cpu/convert.hpp>
#include <promptkd/device/cpu/level.hpp>

namespace promptkd::detail {
inline namespace PROMPTKD_CPU_ABI {

/// Packets of T of a level, for what finishes and widens: loaded from and stored as P (T or a type of 16 bits), whole
/// or only their first n < width elements, whatever the alignment.
template <class T, class Level>
struct Packets {
    using Packet = PacketOf<T>;
    static constexpr Index width = packet_width<T>;
    template <class P>
    EIGEN_ALWAYS_INLINE static void load(const P* from, Packet& to) {
        to = load_packet<T>(from);
    }
    template <class P>
    EIGEN_ALWAYS_INLINE static void load_first(const P* from, Index n, Packet& to) {
        to = detail::load_first<T>(from, n);
    }
    template <class P>
    EIGEN_ALWAYS_INLINE static void store(P* to, const Packet& x) {
        store_packet<T>(to, x);
    }
    template <class P>
    EIGEN_ALWAYS_INLINE static void store_first(P* to, const Packet& x, Index n) {
        detail::store_first<T>(to, x, n);
    }
    /// x ← factor·x.
    EIGEN_ALWAYS_INLINE static void scale(T factor, Packet& x) {
        x = Eigen::internal::pmul(Eigen::internal::pset1<Packet>(factor), x);
    }
    /// sum ← sum + x.
    EIGEN_ALWAYS_INLINE static void add(const Packet& x, Packet& sum) { sum = Eigen::internal::padd(sum, x); }
};

#ifdef PROMPTKD_DISPATCH
template <>
struct Packets<float, V3> {
    using Packet = __m256;
    static constexpr Index width = 8;

    PROMPTKD_TARGET_V3 static void load(const float* from, Packet& to) { to = _mm256_loadu_ps(from); }
    PROMPTKD_TARGET_V3 static void load(const half* from, Packet& to) {
        to = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    }
    PROMPTKD_TARGET_V3 static void load(const bf16* from, Packet& to) {
        const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
        to = _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
    }
    PROMPTKD_TARGET_V3 static void load_first(const float* from, Index n, Packet& to) {
        to = _mm256_maskload_ps(from, first(n));
    }
    template <class P>
    PROMPTKD_TARGET_V3 static void load_first(const P* from, Index n, Packet& to) {
        P values[width] = {};
        for (Index i = 0; i < n; ++i) values[i] = from[i];
        load(values, to);
    }

    PROMPTKD_TARGET_V3 static void store(float* to, const Packet& x) { _mm256_storeu_ps(to, x); }
    PROMPTKD_TARGET_V3 static void store(half* to, const Packet& x) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
    }
    /// As bf16's constructor rounds.
    PROMPTKD_TARGET_V3 static void store(bf16* to, const Packet& x) {
        const __m256i bits = _mm256_castps_si256(x), upper = _mm256_srli_epi32(bits, 16);
        const __m256i last = _mm256_and_si256(upper, _mm256_set1_epi32(1));
        const __m256i tie = _mm256_add_epi32(last, _mm256_set1_epi32(0x7fff));
        const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, tie), 16);
        const __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
        const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
        const __m256i all = _mm256_blendv_epi8(rounded, quiet, nan);
        const __m256i halves = _mm256_permute4x64_epi64(_mm256_packus_epi32(all, all), 0x08);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(halves));
    }
    PROMPTKD_TARGET_V3 static void store_first(float* to, const Packet& x, Index n) {
        _mm256_maskstore_ps(to, first(n), x);
    }
    template <class P>
    PROMPTKD_TARGET_V3 static void store_first(P* to, const Packet& x, Index n) {
        P values[width];
        store(values, x);
        for (Index i = 0; i < n; ++i) to[i] = values[i];
    }

    PROMPTKD_TARGET_V3 static void scale(float factor, Packet& x) { x = _mm256_mul_ps(_mm256_set1_ps(factor), x); }
    PROMPTKD_TARGET_V3 static void add(const Packet& x, Packet& sum) { sum = _mm256_add_ps(sum, x); }

private:
    PROMPTKD_TARGET_V3 static __m256i first(Index n) {
        const __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), places);
    }
};
#endif

}  // namespace PROMPTKD_CPU_ABI
}  // namespace promptkd::detail
