// SPDX-License-Identifier: Apache-2.0
#include "support/devices.hpp"

#include <doctest/doctest.h>

#include <promptkd/op/elementwise.hpp>
#include <promptkd/op/reduce.hpp>

#include <cmath>
#include <limits>

namespace promptkd::test::elementwise_test {

namespace {

double gelu(Gelu kind, double x) {
    if (kind == Gelu::tanh)
        return 0.5 * x * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    return kind == Gelu::quick ? x / (1 + std::exp(-1.702 * x)) : 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
}

template <class F>
std::vector<double> mapped(std::vector<double> x, const F& f) {
    for (double& value : x) value = f(value);
    return x;
}

const Index sizes[] = {1, 7, 16, 33, 20000};  // less than a pack, packs, a tail, several threads

TEST_CASE_TEMPLATE("ReLU: NaN stays NaN, wherever it stands", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    constexpr Index n = 37;  // whole lanes of every device, and a rest
    for (Index at = 0; at < n; ++at) {
        std::vector<T> values = as<T>(numbers(n, 3));
        values[static_cast<std::size_t>(at)] = std::numeric_limits<T>::quiet_NaN();
        Buffer<D, T> x(device, values);
        relu_forward(device, x.matrix(1, n), x.matrix(1, n));
        const std::vector<T> y = x.to_host();
        for (Index i = 0; i < n; ++i) {
            const T value = y[static_cast<std::size_t>(i)];
            const T before = values[static_cast<std::size_t>(i)];
            const bool right = i == at ? std::isnan(value) : value == std::max(before, T(0));
            CHECK(right);
        }
    }
}

}  // namespace

TEST_CASE_TEMPLATE("gelu forward", D, PROMPTKD_TEST_DEVICES) {
    D device = make_device<D>();
    for (const Gelu kind : {Gelu::quick, Gelu::exact, Gelu::tanh})
        for (const Index n : sizes) {
            const std::vector<double> x = numbers(n, 1, 3);
            const auto want = mapped(x, [&](double v) { return gelu(kind, v); });
            Tensor<D> in(device, x), out(device, std::vector<double>(x.size()));
            gelu_forward(device, kind, in.matrix(1, n), out.matrix(1, n));
            CHECK(difference(out.to_host(), want) < rounding<typename D::Scalar>);
            gelu_forward(device, kind, in.matrix(1, n), in.matrix(1, n));  // in place
            CHECK(difference(in.to_host(), want) < rounding<typename D::Scalar>);
        }
}

TEST_CASE_TEMPLATE("gelu backward", D, PROMPTKD_TEST_DEVICES) {
    D device = make_device<D>();
    for (const Gelu kind : {Gelu::quick, Gelu::exact, Gelu::tanh})
        for (const Index n : {5, 50}) {
            const std::vector<double> x = numbers(n, 2, 2), dy = numbers(n, 3);
            const auto want = numeric_gradient(
                x, [&](const auto& v) { return dot(mapped(v, [&](double u) { return gelu(kind, u); }), dy); });
            Tensor<D> in(device, x), d(device, dy);
            gelu_backward(device, kind, in.matrix(1, n), d.matrix(1, n));
            CHECK(difference(d.to_host(), want) < std::max(1e-9, rounding<typename D::Scalar>));
        }
}

TEST_CASE_TEMPLATE("gelu saturates without overflow", D, PROMPTKD_TEST_DEVICES) {
    D device = make_device<D>();
    std::vector<double> x(40, -300.0);
    std::fill(x.begin() + 20, x.end(), 300.0);
    std::vector<double> want(40, 0.0), slope(40, 0.0);
    std::fill(want.begin() + 20, want.end(), 300.0);
    std::fill(slope.begin() + 20, slope.end(), 1.0);
    for (const Gelu kind : {Gelu::quick, Gelu::exact, Gelu::tanh}) {
        Tensor<D> in(device, x), out(device, x), d(device, std::vector<double>(40, 1.0));
        gelu_forward(device, kind, in.matrix(5, 8), out.matrix(5, 8));
        gelu_backward(device, kind, in.matrix(5, 8), d.matrix(5, 8));
        CHECK(difference(out.to_host(), want) < 1e-6);
        CHECK(difference(d.to_host(), slope) < 1e-6);
    }
}

TEST_CASE_TEMPLATE("relu forward and backward", D, PROMPTKD_TEST_DEVICES) {
    D device = make_device<D>();
    for (const Index n : sizes) {
        std::vector<double> x = numbers(n, 4), dy = numbers(n, 5), dx = dy;
        x[0] = 0;
        for (std::size_t i = 0; i < x.size(); ++i)
            if (x[i] <= 0) dx[i] = 0;
        Tensor<D> y(device, x), d(device, dy);
        relu_forward(device, y.matrix(1, n), y.matrix(1, n));
        relu_backward(device, y.matrix(1, n), d.matrix(1, n));
        CHECK(difference(y.to_host(), mapped(x, [](double v) { return std::max(v, 0.0); })) == 0);
        CHECK(difference(d.to_host(), dx) == 0);
    }
}

TEST_CASE_TEMPLATE("conversion between stored types", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    const auto round_trip = [&](auto type, Index n) {
        using A = decltype(type);
        const std::vector<double> x = numbers<A>(n, 6, 10);
        Tensor<D> in(device, x), out(device, std::vector<double>(x.size()));
        Buffer<D, A> stored(device, n);
        convert(device, in.matrix(1, n), stored.matrix(1, n));
        convert(device, stored.matrix(1, n), out.matrix(1, n));
        CHECK(difference(out.to_host(), x) == 0);
    };
    for (const Index n : sizes) {
        round_trip(half{}, n);
        round_trip(bf16{}, n);
        round_trip(T{}, n);
    }
}

TEST_CASE_TEMPLATE("column sums add up, sums replace or add", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    const Index rows = 19;
    for (const Index d : {1, 16, 45}) {
        const std::vector<double> x = numbers(rows * d, 7), start = numbers(d, 8);
        std::vector<double> want = start;
        double all = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
            want[i % static_cast<std::size_t>(d)] += x[i];
            all += x[i];
        }
        Tensor<D> in(device, x), y(device, start), total(device, {5.0});
        add_column_sums(device, in.matrix(rows, d), y.data());
        CHECK(difference(y.to_host(), want) < rounding<T>);
        sum(device, in.read(), total.data(), rows * d, 0.5);
        CHECK(difference(total.to_host(), {0.5 * all}) < 10 * rounding<T>);
        sum(device, in.read(), total.data(), rows * d, 2.0, Accumulate::yes);
        CHECK(difference(total.to_host(), {2.5 * all}) < 10 * rounding<T>);
    }
}

}  // namespace promptkd::test::elementwise_test
