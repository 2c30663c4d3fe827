// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/cpu/convert.hpp>
#include <promptkd/device/device.hpp>

namespace promptkd {

/// A lane of 64 bytes: 16 floats or 8 doubles at once, through Eigen's fixed-size arrays. See ScalarLane.
template <class T>
struct PackLane {
    /// See ScalarLane.
    ///@{
    static constexpr Index width = static_cast<Index>(64 / sizeof(T));
    using Value = Eigen::Array<T, static_cast<int>(width), 1>;
    Index index;

    template <class P>
    EIGEN_ALWAYS_INLINE Value load(const P* p) const {
        Value v;
        for (Index i = 0; i < width; i += detail::packet_width<T>)
            Eigen::internal::pstoreu(v.data() + i, detail::load_packet<T>(p + index + i));
        return v;
    }
    template <class P>
    EIGEN_ALWAYS_INLINE void store(P* p, const Value& v) const {
        for (Index i = 0; i < width; i += detail::packet_width<T>)
            detail::store_packet<T>(p + index + i, detail::load_packet<T>(v.data() + i));
    }
    static Value fill(T v) { return Value::Constant(v); }
    static Value value(const Value& v) { return v; }
    static Value max(const Value& a, const Value& b) { return a.max(b); }
    static Value abs(const Value& a) { return a.abs(); }
    static Value where_positive(const Value& condition, const Value& value) {
        return (condition > T(0)).select(value, Value::Zero());
    }
    ///@}
};

/// One CPU thread as a Team: packs, then a scalar tail.
template <class T>
struct CpuTeam {
    T* values = nullptr;  ///< the team's own memory

    /// A Team; see Device.
    ///@{
    T* memory() const { return values; }

    template <class G>
    void items(Index n, const G& g) {
        for (Index i = 0; i < n; ++i) g(i);
    }

    template <class G>
    void each(Index n, const G& g) {
        Index i = 0;
        for (; i + PackLane<T>::width <= n; i += PackLane<T>::width) g(PackLane<T>{i});
        for (; i < n; ++i) g(ScalarLane<T>{i});
    }

    template <class G>
    T sum(Index n, const G& g) {
        T total = 0;
        Index i = 0;
        if (n >= PackLane<T>::width) {
            typename PackLane<T>::Value packs = PackLane<T>::fill(0);
            for (; i + PackLane<T>::width <= n; i += PackLane<T>::width) packs += g(PackLane<T>{i});
            total = packs.sum();
        }
        for (; i < n; ++i) total += g(ScalarLane<T>{i});
        return total;
    }

    template <class G>
    T max(Index n, const G& g) {
        T best = -std::numeric_limits<T>::infinity();
        Index i = 0;
        if (n >= PackLane<T>::width) {
            typename PackLane<T>::Value packs = PackLane<T>::fill(best);
            for (; i + PackLane<T>::width <= n; i += PackLane<T>::width) packs = packs.max(g(PackLane<T>{i}));
            best = packs.maxCoeff();
        }
        for (; i < n; ++i) best = std::max(best, static_cast<T>(g(ScalarLane<T>{i})));
        return best;
    }

    template <class G>
    void once(const G& g) {
        g();
    }
    ///@}
};

}  // namespace promptkd
