// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/dtype.hpp>
#include <promptkd/core/eigen.hpp>

#include <type_traits>

namespace promptkd::detail {

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

/// A vector register of T.
template <class T>
using PacketOf = typename Eigen::internal::packet_traits<T>::type;
template <class T>
inline constexpr Index packet_width = Eigen::internal::unpacket_traits<PacketOf<T>>::size;

/// Whether Eigen casts as many P as a packet of T holds at once.
template <class T, class P>
constexpr bool casts_packets() {
    using E = typename EigenElement<P>::type;
    return Eigen::internal::type_casting_traits<E, T>::VectorizedCast != 0 &&
           Eigen::internal::type_casting_traits<T, E>::VectorizedCast != 0 && packet_width<E> == packet_width<T>;
}

/// The packet of T that starts at p, whatever the alignment.
template <class T, class P>
EIGEN_ALWAYS_INLINE PacketOf<T> load_packet(const P* p) {
    using namespace Eigen::internal;
    using E = typename EigenElement<P>::type;
    if constexpr (std::is_same_v<P, T>) {
        return ploadu<PacketOf<T>>(p);
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
    } else if constexpr (casts_packets<T, P>()) {
        pstoreu(reinterpret_cast<E*>(p), pcast<PacketOf<T>, PacketOf<E>>(packet));
    } else {
        alignas(64) T values[packet_width<T>];
        pstore(values, packet);
        for (Index i = 0; i < packet_width<T>; ++i) p[i] = P(values[i]);
    }
}

}  // namespace promptkd::detail
