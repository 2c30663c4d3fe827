// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/device.hpp>

#include <cmath>

namespace promptkd {

namespace detail {

/// A few values with the operators of one: what functors compute with on a VectorLane.
template <class T, int Width>
struct ShortVector {
    T x[Width];

    template <class F>
    PROMPTKD_HD static ShortVector each(const F& f) {
        ShortVector out;
        for (int i = 0; i < Width; ++i) out.x[i] = f(i);
        return out;
    }

    friend PROMPTKD_HD ShortVector operator+(const ShortVector& a, const ShortVector& b) {
        return each([&](int i) { return a.x[i] + b.x[i]; });
    }
    friend PROMPTKD_HD ShortVector operator-(const ShortVector& a, const ShortVector& b) {
        return each([&](int i) { return a.x[i] - b.x[i]; });
    }
    friend PROMPTKD_HD ShortVector operator*(const ShortVector& a, const ShortVector& b) {
        return each([&](int i) { return a.x[i] * b.x[i]; });
    }
    friend PROMPTKD_HD ShortVector operator/(const ShortVector& a, const ShortVector& b) {
        return each([&](int i) { return a.x[i] / b.x[i]; });
    }
    friend PROMPTKD_HD ShortVector operator+(const ShortVector& a, T b) {
        return each([&](int i) { return a.x[i] + b; });
    }
    friend PROMPTKD_HD ShortVector operator-(const ShortVector& a, T b) {
        return each([&](int i) { return a.x[i] - b; });
    }
    friend PROMPTKD_HD ShortVector operator*(const ShortVector& a, T b) {
        return each([&](int i) { return a.x[i] * b; });
    }
    friend PROMPTKD_HD ShortVector operator/(const ShortVector& a, T b) {
        return each([&](int i) { return a.x[i] / b; });
    }
    friend PROMPTKD_HD ShortVector operator-(const ShortVector& a) {
        return each([&](int i) { return -a.x[i]; });
    }
    friend PROMPTKD_HD ShortVector operator-(T a, const ShortVector& b) {
        return each([&](int i) { return a - b.x[i]; });
    }
    friend PROMPTKD_HD ShortVector operator+(T a, const ShortVector& b) { return b + a; }
    friend PROMPTKD_HD ShortVector operator*(T a, const ShortVector& b) { return b * a; }
    friend PROMPTKD_HD ShortVector exp(const ShortVector& a) {
        return each([&](int i) { return std::exp(a.x[i]); });
    }
    friend PROMPTKD_HD ShortVector erf(const ShortVector& a) {
        return each([&](int i) { return std::erf(a.x[i]); });
    }
    friend PROMPTKD_HD ShortVector sqrt(const ShortVector& a) {
        return each([&](int i) { return std::sqrt(a.x[i]); });
    }
};

/// The same number of stored elements, read and written in one instruction.
template <class P, int Width>
struct [[gnu::may_alias]] alignas(sizeof(P) * Width) StoredVector {
    P x[Width];
};

}  // namespace detail

/// The lane that a GPU thread takes: 16 bytes of T, whose elements, whatever they are stored as, are loaded and stored
/// at once where their address allows it. See ScalarLane.
template <class T>
struct VectorLane {
    /// See ScalarLane.
    ///@{
    static constexpr int values = static_cast<int>(16 / sizeof(T));
    static constexpr Index width = values;
    using Value = detail::ShortVector<T, values>;
    Index index;

    template <class P>
    PROMPTKD_HD Value load(const P* p) const {
        using Stored = detail::StoredVector<P, values>;
        const P* from = p + index;
        if (reinterpret_cast<std::uintptr_t>(from) % sizeof(Stored) == 0) {
            const Stored stored = *reinterpret_cast<const Stored*>(from);
            return Value::each([&](int i) { return static_cast<T>(stored.x[i]); });
        }
        return Value::each([&](int i) { return static_cast<T>(from[i]); });
    }
    template <class P>
    PROMPTKD_HD void store(P* p, const Value& v) const {
        using Stored = detail::StoredVector<P, values>;
        P* to = p + index;
        if (reinterpret_cast<std::uintptr_t>(to) % sizeof(Stored) == 0) {
            Stored stored;
            for (int i = 0; i < values; ++i) stored.x[i] = P(v.x[i]);
            *reinterpret_cast<Stored*>(to) = stored;
        } else {
            for (int i = 0; i < values; ++i) to[i] = P(v.x[i]);
        }
    }
    PROMPTKD_HD static Value fill(T v) {
        return Value::each([&](int) { return v; });
    }
    PROMPTKD_HD static Value value(const Value& v) { return v; }
    PROMPTKD_HD static Value max(const Value& a, const Value& b) {
        return Value::each([&](int i) { return a.x[i] < b.x[i] ? b.x[i] : a.x[i]; });
    }
    PROMPTKD_HD static Value abs(const Value& a) {
        return Value::each([&](int i) { return a.x[i] < 0 ? -a.x[i] : a.x[i]; });
    }
    PROMPTKD_HD static Value where_positive(const Value& condition, const Value& value) {
        return Value::each([&](int i) { return condition.x[i] > 0 ? value.x[i] : T(0); });
    }
    ///@}
    /// The sum, and the largest, of a vector's values.
    PROMPTKD_HD static T total(const Value& v) {
        T sum = v.x[0];
        for (int i = 1; i < values; ++i) sum += v.x[i];
        return sum;
    }
    /// The largest of a vector's values.
    PROMPTKD_HD static T largest(const Value& v) {
        T best = v.x[0];
        for (int i = 1; i < values; ++i) best = best > v.x[i] ? best : v.x[i];
        return best;
    }
};

namespace detail {

/// What thread `thread` of `threads` does of [0, n): whole vectors first, then single elements. These loops are the
/// GPU's and those of its emulation.
template <class T, class G>
PROMPTKD_HD void thread_each(Index n, Index thread, Index threads, const G& g) {
    const Index vectors = n / VectorLane<T>::width;
    for (Index i = thread; i < vectors; i += threads) g(VectorLane<T>{i * VectorLane<T>::width});
    for (Index i = vectors * VectorLane<T>::width + thread; i < n; i += threads) g(ScalarLane<T>{i});
}

template <class T, class G>
PROMPTKD_HD T thread_sum(Index n, Index thread, Index threads, const G& g) {
    const Index vectors = n / VectorLane<T>::width;
    typename VectorLane<T>::Value several = VectorLane<T>::fill(T(0));
    for (Index i = thread; i < vectors; i += threads) several = several + g(VectorLane<T>{i * VectorLane<T>::width});
    T sum = VectorLane<T>::total(several);
    for (Index i = vectors * VectorLane<T>::width + thread; i < n; i += threads) sum += g(ScalarLane<T>{i});
    return sum;
}

template <class T, class G>
PROMPTKD_HD T thread_max(Index n, Index thread, Index threads, const G& g) {
    const Index vectors = n / VectorLane<T>::width;
    typename VectorLane<T>::Value several = VectorLane<T>::fill(static_cast<T>(-INFINITY));
    for (Index i = thread; i < vectors; i += threads)
        several = VectorLane<T>::max(several, g(VectorLane<T>{i * VectorLane<T>::width}));
    T best = VectorLane<T>::largest(several);
    for (Index i = vectors * VectorLane<T>::width + thread; i < n; i += threads) {
        const T value = g(ScalarLane<T>{i});
        best = best > value ? best : value;
    }
    return best;
}

}  // namespace detail

}  // namespace promptkd
