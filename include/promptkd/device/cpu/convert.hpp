// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/dtype.hpp>
#include <promptkd/core/eigen.hpp>
#include <promptkd/device/cpu/instruction_sets.hpp>

#include <type_traits>

#if defined(__F16C__) && defined(EIGEN_VECTORIZE_AVX) && !defined(__CUDACC__)
#include <immintrin.h>
#define PROMPTKD_HALF_INSTRUCTIONS  ///< Eigen 3.4.0 uses them under clang only and is many times slower without
#endif

namespace promptkd::detail {
inline namespace PROMPTKD_CPU_ABI {

/// Eigen's own name of an element type: its casts of whole packets use the processor's instructions.
template <class P>
struct EigenElement {
    using type = P;
};
template <>
struct EigenElement<half> {
    using type = Eigen::half;
};
template <>
struct EigenElement<bf16> {
    using type = Eigen::bfloat16;
};

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"  // a packet as a template argument
#endif

/// A vector register of T; of 32-bit integers as many as of floats.
template <class T>
struct PacketType {
    using type = typename Eigen::internal::packet_traits<T>::type;
};
template <>
struct PacketType<std::int32_t> {
    using type = typename Eigen::internal::unpacket_traits<Eigen::internal::packet_traits<float>::type>::integer_packet;
};

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

template <class T>
using PacketOf = typename PacketType<T>::type;
template <class T>
inline constexpr Index packet_width = Eigen::internal::unpacket_traits<PacketOf<T>>::size;

/// Whether Eigen casts as many P as a packet of T holds at once.
template <class T, class P>
constexpr bool casts_packets() {
    using E = typename EigenElement<P>::type;
    return Eigen::internal::type_casting_traits<E, T>::VectorizedCast != 0 &&
           Eigen::internal::type_casting_traits<T, E>::VectorizedCast != 0 && packet_width<E> == packet_width<T>;
}

#ifdef PROMPTKD_HALF_INSTRUCTIONS
inline constexpr bool converts_halves = true;

// With masks of all elements: g++ 12 warns of uninitialised values in its own functions without (GCC bug 105593).

EIGEN_ALWAYS_INLINE PacketOf<float> load_halves(const half* p) {
#ifdef EIGEN_VECTORIZE_AVX512
    return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#else
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#endif
}

EIGEN_ALWAYS_INLINE void store_halves(half* p, const PacketOf<float>& packet) {
#ifdef EIGEN_VECTORIZE_AVX512
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_maskz_cvtps_ph(0xffff, packet, _MM_FROUND_TO_NEAREST_INT));
#else
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(packet, _MM_FROUND_TO_NEAREST_INT));
#endif
}
#else
inline constexpr bool converts_halves = false;
#endif

/// The packet of T that starts at p, whatever the alignment.
template <class T, class P>
EIGEN_ALWAYS_INLINE PacketOf<T> load_packet(const P* p) {
    using namespace Eigen::internal;
    using E = typename EigenElement<P>::type;
    if constexpr (std::is_same_v<P, T>) {
        return ploadu<PacketOf<T>>(p);
    } else if constexpr (converts_halves && std::is_same_v<P, half> && std::is_same_v<T, float>) {
        return load_halves(p);
    } else if constexpr (casts_packets<T, P>()) {
        return pcast<PacketOf<E>, PacketOf<T>>(ploadu<PacketOf<E>>(reinterpret_cast<const E*>(p)));
    } else {
        alignas(64) T values[packet_width<T>];
        for (Index i = 0; i < packet_width<T>; ++i) values[i] = static_cast<T>(p[i]);
        return pload<PacketOf<T>>(values);
    }
}

/// Stores a packet of T at p, rounded to P.
template <class T, class P>
EIGEN_ALWAYS_INLINE void store_packet(P* p, const PacketOf<T>& packet) {
    using namespace Eigen::internal;
    using E = typename EigenElement<P>::type;
    if constexpr (std::is_same_v<P, T>) {
        pstoreu(p, packet);
    } else if constexpr (converts_halves && std::is_same_v<P, half> && std::is_same_v<T, float>) {
        store_halves(p, packet);
    } else if constexpr (casts_packets<T, P>()) {
        pstoreu(reinterpret_cast<E*>(p), pcast<PacketOf<T>, PacketOf<E>>(packet));
    } else {
        alignas(64) T values[packet_width<T>];
        pstore(values, packet);
        for (Index i = 0; i < packet_width<T>; ++i) p[i] = P(values[i]);
    }
}

/// The first n < packet_width<T> elements of the packet of T at p, then zeros: nothing is read behind them.
template <class T, class P>
EIGEN_ALWAYS_INLINE PacketOf<T> load_first(const P* p, Index n) {
#if defined(EIGEN_VECTORIZE_AVX512) && defined(PROMPTKD_HALF_INSTRUCTIONS)
    if constexpr (std::is_same_v<P, float> && std::is_same_v<T, float>)
        return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
#endif
    P values[packet_width<T>] = {};
    for (Index i = 0; i < n; ++i) values[i] = p[i];
    return load_packet<T>(values);
}

/// Stores the first n < packet_width<T> elements of a packet of T at p, rounded to P.
template <class T, class P>
EIGEN_ALWAYS_INLINE void store_first(P* p, const PacketOf<T>& packet, Index n) {
#if defined(EIGEN_VECTORIZE_AVX512) && defined(PROMPTKD_HALF_INSTRUCTIONS)
    if constexpr (std::is_same_v<P, float> && std::is_same_v<T, float>)
        return _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), packet);
#endif
    P values[packet_width<T>];
    store_packet<T>(values, packet);
    for (Index i = 0; i < n; ++i) p[i] = values[i];
}

}  // namespace PROMPTKD_CPU_ABI
}  // namespace promptkd::detail
