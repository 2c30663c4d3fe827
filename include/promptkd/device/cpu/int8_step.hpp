// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/cpu/kernel.hpp>

#include <cstdint>

#if defined(__AVX512VNNI__) && defined(EIGEN_VECTORIZE_AVX512) && !defined(__CUDACC__)
#define PROMPTKD_INT8_INSTRUCTIONS  ///< the processor adds four products of 8 bits to a sum of 32 at once
#endif

namespace promptkd::detail {
inline namespace PROMPTKD_CPU_ABI {

/// Four 8-bit values that follow one another along the inner dimension: of A unsigned (128 stands for 0), of B signed.
struct [[gnu::may_alias]] Int8Quad {
    std::uint32_t bits;
};

template <>
inline constexpr Index terms_of<Int8Quad> = 4;

template <>
struct Step<std::int32_t, Int8Quad> {
    using Packet = PacketOf<std::int32_t>;
    using Vector = Packet;
    static constexpr Index width = packet_width<std::int32_t>;
    static constexpr TileShape shape = compiled_tile<std::int32_t>;
    EIGEN_ALWAYS_INLINE static void zero(Packet& sum) { sum = Eigen::internal::pset1<Packet>(0); }
    EIGEN_ALWAYS_INLINE static void broadcast(Int8Quad a, Vector& to) {
        to = Eigen::internal::pset1<Vector>(static_cast<std::int32_t>(a.bits));
    }
    EIGEN_ALWAYS_INLINE static void load(const Int8Quad* b, Vector& to) {
        to = Eigen::internal::pload<Vector>(reinterpret_cast<const std::int32_t*>(b));
    }
    EIGEN_ALWAYS_INLINE static void store(std::int32_t* to, const Packet& sum) { Eigen::internal::pstore(to, sum); }
    EIGEN_ALWAYS_INLINE static void multiply_add(const Vector& a, const Vector& b, Packet& sum) {
#ifdef PROMPTKD_INT8_INSTRUCTIONS
        sum = _mm512_dpbusd_epi32(sum, a, b);
#else
        using namespace Eigen::internal;
        const auto term = [&](Vector high_a, Vector high_b) {  // of the uppermost 8 bits
            const Vector x = pand(Vector(parithmetic_shift_right<24>(high_a)), pset1<Vector>(255));
            sum = padd(sum, Vector(pmul(x, Vector(parithmetic_shift_right<24>(high_b)))));
        };
        term(Vector(plogical_shift_left<24>(a)), Vector(plogical_shift_left<24>(b)));
        term(Vector(plogical_shift_left<16>(a)), Vector(plogical_shift_left<16>(b)));
        term(Vector(plogical_shift_left<8>(a)), Vector(plogical_shift_left<8>(b)));
        term(a, b);
#endif
    }
};

}  // namespace PROMPTKD_CPU_ABI
}  // namespace promptkd::detail
