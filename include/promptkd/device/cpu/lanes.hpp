// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/cpu/convert.hpp>
#include <promptkd/device/cpu/wide.hpp>
#include <promptkd/device/device.hpp>

namespace promptkd {
inline namespace PROMPTKD_CPU_ABI {

/// A lane of 64 bytes: 16 floats or 8 doubles at once, through Eigen's fixed-size arrays, for processors of a level.
/// See ScalarLane.
template <class T, class Level = detail::Compiled>
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
    static T sum(const Value& a) { return a.sum(); }
    static T largest(const Value& a) { return a.maxCoeff(); }
    static Value where_positive(const Value& condition, const Value& value) {
        return (condition > T(0)).select(value, Value::Zero());
    }
    ///@}
};

#ifdef PROMPTKD_DISPATCH
/// The same for processors of level v3.
template <>
struct PackLane<float, detail::V3> {
    /// See ScalarLane.
    ///@{
    static constexpr Index width = 16;
    using Value = detail::Wide;
    Index index;

    template <class P>
    Value load(const P* p) const {
        return Value::load(p + index);
    }
    template <class P>
    void store(P* p, const Value& v) const {
        v.store(p + index);
    }
    static Value fill(float v) { return Value(v); }
    static Value value(const Value& v) { return v; }
    static Value max(const Value& a, const Value& b) { return Value::max(a, b); }
    static Value abs(const Value& a) { return Value::abs(a); }
    static float sum(const Value& a) { return a.sum(); }
    static float largest(const Value& a) { return a.largest(); }
    static Value where_positive(const Value& condition, const Value& value) {
        return Value::where_positive(condition, value);
    }
    ///@}
};
#endif

/// One CPU thread as a Team: packs, then a scalar tail.
template <class T, class Level = detail::Compiled>
struct CpuTeam {
    using Pack = PackLane<T, Level>;  ///< its lanes

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
        for (; i + Pack::width <= n; i += Pack::width) g(Pack{i});
        for (; i < n; ++i) g(ScalarLane<T>{i});
    }

    template <class G>
    T sum(Index n, const G& g) {
        T total = 0;
        Index i = 0;
        if (n >= Pack::width) {
            typename Pack::Value packs = Pack::fill(0);
            for (; i + Pack::width <= n; i += Pack::width) packs += g(Pack{i});
            total = Pack::sum(packs);
        }
        for (; i < n; ++i) total += g(ScalarLane<T>{i});
        return total;
    }

    template <class G>
    T max(Index n, const G& g) {
        T best = -std::numeric_limits<T>::infinity();
        Index i = 0;
        if (n >= Pack::width) {
            typename Pack::Value packs = Pack::fill(best);
            for (; i + Pack::width <= n; i += Pack::width) packs = Pack::max(packs, g(Pack{i}));
            best = Pack::largest(packs);
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

}  // namespace PROMPTKD_CPU_ABI
}  // namespace promptkd
