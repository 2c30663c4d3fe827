// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/device.hpp>

#include <cmath>

namespace promptkd {

/// The two activations of CLIP's MLP: QuickGELU(x) = x·σ(1.702x) (OpenAI) and the exact GELU(x) = x·Φ(x).
enum class Gelu { quick, exact };

namespace detail {

template <class From, class To>
struct ConvertFunctor {
    const From* x;
    To* y;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        lane.store(y, lane.load(x));
    }
};

template <class T>
struct QuickGelu {
    template <class Lane>
    PROMPTKD_HD static typename Lane::Value value(const Lane& lane, const typename Lane::Value& v) {
        using std::exp;
        const typename Lane::Value e = exp(lane.value(v * T(-1.702)));
        return lane.value(v / (e + T(1)));
    }
};

template <class T>
struct ExactGelu {
    template <class Lane>
    PROMPTKD_HD static typename Lane::Value value(const Lane& lane, const typename Lane::Value& v) {
        using std::erf;
        const typename Lane::Value phi = erf(lane.value(v * T(0.70710678118654752440)));
        return lane.value(v * T(0.5) * (phi + T(1)));
    }
};

template <class Activation, class A>
struct GeluForward {
    const A* x;
    A* y;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        lane.store(y, Activation::value(lane, lane.load(x)));
    }
};

template <class T, class A>
struct QuickGeluBackward {
    const A* x;
    A* d;  // dy on entry, dx on exit
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        using std::exp;
        using V = typename Lane::Value;
        const V v = lane.load(x);
        const V e = exp(lane.value(v * T(-1.702)));
        const V s = lane.fill(T(1)) / (e + T(1));
        const V slope = s * (v * T(1.702) * (lane.fill(T(1)) - s) + T(1));
        lane.store(d, lane.value(lane.load(d) * slope));
    }
};

template <class T, class A>
struct ExactGeluBackward {
    const A* x;
    A* d;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        using std::erf;
        using std::exp;
        using V = typename Lane::Value;
        const V v = lane.load(x);
        const V phi = erf(lane.value(v * T(0.70710678118654752440)));
        const V density = exp(lane.value(v * v * T(-0.5)));
        const V slope = (phi + T(1)) * T(0.5) + v * density * T(0.39894228040143267794);
        lane.store(d, lane.value(lane.load(d) * slope));
    }
};

template <class T>
struct ReluForward {
    const T* x;
    T* y;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        lane.store(y, lane.max(lane.load(x), lane.fill(T(0))));
    }
};

template <class T>
struct ReluBackward {
    const T* y;
    T* d;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        lane.store(d, lane.where_positive(lane.load(y), lane.load(d)));
    }
};

template <class T>
struct Scale {
    T* x;
    T alpha;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        lane.store(x, lane.value(lane.load(x) * alpha));
    }
};

template <class T>
struct AddScaled {
    const T* x;
    T* y;
    T alpha;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        lane.store(y, lane.value(lane.load(y) + lane.load(x) * alpha));
    }
};

}  // namespace detail

/// x *= alpha, n elements.
template <Device D, class T>
void scale(D& device, double alpha, T* x, Index n) {
    device.map(n, detail::Scale<T>{x, static_cast<T>(alpha)});
}

/// y += alpha·x, n elements.
template <Device D, class T>
void add_scaled(D& device, double alpha, const T* x, T* y, Index n) {
    device.map(n, detail::AddScaled<T>{x, y, static_cast<T>(alpha)});
}

/// y[i] = x[i] converted between stored types, i < n.
template <Device D, class From, class To>
void convert(D& device, const From* x, To* y, Index n) {
    device.map(n, detail::ConvertFunctor<From, To>{x, y});
}

/// y = gelu(x), n elements; y may be x.
template <Device D, class A>
void gelu_forward(D& device, Gelu kind, const A* x, A* y, Index n) {
    using T = typename D::Scalar;
    if (kind == Gelu::quick)
        device.map(n, detail::GeluForward<detail::QuickGelu<T>, A>{x, y});
    else
        device.map(n, detail::GeluForward<detail::ExactGelu<T>, A>{x, y});
}

/// d = d · gelu'(x), n elements (d: the gradient of y on entry, of x on exit).
template <Device D, class A>
void gelu_backward(D& device, Gelu kind, const A* x, A* d, Index n) {
    using T = typename D::Scalar;
    if (kind == Gelu::quick)
        device.map(n, detail::QuickGeluBackward<T, A>{x, d});
    else
        device.map(n, detail::ExactGeluBackward<T, A>{x, d});
}

/// y = max(x, 0), n elements; y may be x.
template <Device D, class T>
void relu_forward(D& device, const T* x, T* y, Index n) {
    device.map(n, detail::ReluForward<T>{x, y});
}

/// d = d where y > 0, else 0 (y: the output of relu_forward).
template <Device D, class T>
void relu_backward(D& device, const T* y, T* d, Index n) {
    device.map(n, detail::ReluBackward<T>{y, d});
}

}  // namespace promptkd
