// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/matrix.hpp>
#include <promptkd/device/device.hpp>

#include <cmath>

namespace promptkd {

/// The activations of an MLP: QuickGELU(x) = x·σ(1.702x) (OpenAI's CLIP), the exact GELU(x) = x·Φ(x), and its
/// approximation ½x(1 + tanh u) = x·σ(2u), u = √(2/π)·(x + 0.044715x³) (SigLIP).
enum class Gelu { quick, exact, tanh };

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

/// −2u of the approximation by tanh.
template <class T, class Lane>
PROMPTKD_HD typename Lane::Value tanh_exponent(const Lane& lane, const typename Lane::Value& v) {
    return lane.value(v * (v * v * T(0.044715) + T(1)) * T(-1.59576912160573071176));
}

template <class T>
struct TanhGelu {
    template <class Lane>
    PROMPTKD_HD static typename Lane::Value value(const Lane& lane, const typename Lane::Value& v) {
        using std::exp;
        const typename Lane::Value e = exp(tanh_exponent<T>(lane, v));
        return lane.value(v / (e + T(1)));
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

template <class T, class A>
struct TanhGeluBackward {
    const A* x;
    A* d;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        using std::exp;
        using V = typename Lane::Value;
        const V v = lane.load(x);
        const V e = exp(tanh_exponent<T>(lane, v));
        const V s = lane.fill(T(1)) / (e + T(1));
        const V inner = (v * v * T(3 * 0.044715) + T(1)) * T(1.59576912160573071176);  // 2u'
        const V slope = s * (v * inner * (lane.fill(T(1)) - s) + T(1));
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
void add_scaled(D& device, double alpha, ConstPointer<T> x, T* y, Index n) {
    device.map(n, detail::AddScaled<T>{x, y, static_cast<T>(alpha)});
}

/// y[i] = x[i] converted between stored types, i < n.
template <Device D, class From, class To>
void convert(D& device, const From* x, To* y, Index n) {
    device.map(n, detail::ConvertFunctor<From, To>{x, y});
}

/// The same for matrices of one shape.
template <Device D, class From, class To>
void convert(D& device, Matrix<From> x, Matrix<To> y) {
    require_contiguous(x, y.rows, y.columns, "conversion: x");
    require_contiguous(y, y.rows, y.columns, "conversion: y");
    convert(device, x.data, y.data, y.count());
}

/// y = gelu(x), matrices of one shape; y may be x.
template <Device D, class A>
void gelu_forward(D& device, Gelu kind, ConstMatrix<A> x, Matrix<A> y) {
    using T = typename D::Scalar;
    require_contiguous(x, y.rows, y.columns, "GELU: x");
    require_contiguous(y, y.rows, y.columns, "GELU: y");
    if (kind == Gelu::quick)
        device.map(y.count(), detail::GeluForward<detail::QuickGelu<T>, A>{x.data, y.data});
    else if (kind == Gelu::exact)
        device.map(y.count(), detail::GeluForward<detail::ExactGelu<T>, A>{x.data, y.data});
    else
        device.map(y.count(), detail::GeluForward<detail::TanhGelu<T>, A>{x.data, y.data});
}

/// d = d · gelu'(x), matrices of one shape (d: the gradient of y on entry, of x on exit).
template <Device D, class A>
void gelu_backward(D& device, Gelu kind, ConstMatrix<A> x, Matrix<A> d) {
    using T = typename D::Scalar;
    require_contiguous(x, d.rows, d.columns, "gradient of GELU: x");
    require_contiguous(d, d.rows, d.columns, "gradient of GELU: d");
    if (kind == Gelu::quick)
        device.map(d.count(), detail::QuickGeluBackward<T, A>{x.data, d.data});
    else if (kind == Gelu::exact)
        device.map(d.count(), detail::ExactGeluBackward<T, A>{x.data, d.data});
    else
        device.map(d.count(), detail::TanhGeluBackward<T, A>{x.data, d.data});
}

/// y = max(x, 0), matrices of one shape; y may be x. NaN stays NaN.
template <Device D, class T>
void relu_forward(D& device, ConstMatrix<T> x, Matrix<T> y) {
    require_contiguous(x, y.rows, y.columns, "ReLU: x");
    require_contiguous(y, y.rows, y.columns, "ReLU: y");
    device.map(y.count(), detail::ReluForward<T>{x.data, y.data});
}

/// d = d where y > 0, else 0 (y: the output of relu_forward), matrices of one shape.
template <Device D, class T>
void relu_backward(D& device, ConstMatrix<T> y, Matrix<T> d) {
    require_contiguous(y, d.rows, d.columns, "gradient of ReLU: y");
    require_contiguous(d, d.rows, d.columns, "gradient of ReLU: d");
    device.map(d.count(), detail::ReluBackward<T>{y.data, d.data});
}

}  // namespace promptkd
