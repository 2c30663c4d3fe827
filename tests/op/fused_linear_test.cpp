// SPDX-License-Identifier: Apache-2.0
// The fused epilogues give what the separate operations give, and in 16 bits no less.
#include "support/devices.hpp"

#include <promptkd/op/fused_linear.hpp>

#include <doctest/doctest.h>

namespace fused_linear_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

constexpr Index rows = 7, d = 67;

/// x + bias (+ residual), in type A of the device.
template <class A, class T>
std::vector<double> added(const std::vector<double>& x, const std::vector<double>& bias,
                          const std::vector<double>& residual) {
    std::vector<double> out;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const T sum = static_cast<T>(x[i]) + static_cast<T>(bias[i % static_cast<std::size_t>(d)]) +
                      static_cast<T>(residual.empty() ? 0 : residual[i]);
        out.push_back(static_cast<double>(static_cast<T>(A(sum))));
    }
    return out;
}

template <class D, class A>
void check_bias_gelu(double bound) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    for (const Gelu kind : {Gelu::quick, Gelu::exact}) {
        const std::vector<double> x = numbers<A>(rows * d, 1, 2), bias = numbers(d, 2);
        const std::vector<double> sums = added<A, T>(x, bias, {});
        Tensor<D, A> hidden(device, x), separate(device, sums);
        Tensor<D> b(device, bias);
        Buffer<D, A> y(device, rows * d), want(device, rows * d);
        bias_gelu(device, kind, b.read(), hidden.data(), y.data(), rows, d);
        gelu_forward(device, kind, separate.read(), want.data(), rows * d);
        const auto host = want.to_host();
        std::vector<double> reference;
        for (const A v : host) reference.push_back(static_cast<double>(static_cast<T>(v)));
        CHECK(difference(hidden.to_host(), sums) <= bound);
        CHECK(difference(y.to_host(), reference) <= bound);
    }
}

template <class D, class A>
void check_residual_norm(double bound) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    const std::vector<double> x = numbers<A>(rows * d, 3, 2), residual = numbers<A>(rows * d, 4), bias = numbers(d, 5),
                              w = numbers(d, 6), shift = numbers(d, 7);
    const std::vector<double> sums = added<A, T>(x, bias, residual);
    Tensor<D, A> line(device, x), r(device, residual), separate(device, sums);
    Tensor<D> b(device, bias), weight(device, w), norm_bias(device, shift);
    Buffer<D, A> y(device, rows * d), want(device, rows * d);
    Buffer<D, T> mean(device, rows), rstd(device, rows), want_mean(device, rows), want_rstd(device, rows);
    bias_residual_norm(device, b.read(), r.read(), line.data(), weight.read(), norm_bias.read(), y.data(), mean.data(),
                       rstd.data(), rows, d);
    layer_norm_forward(device, separate.read(), d, weight.read(), norm_bias.read(), want.data(), want_mean.data(),
                       want_rstd.data(), rows, d);
    const auto wide = [](const auto& buffer) {
        std::vector<double> out;
        for (const auto v : buffer.to_host()) out.push_back(static_cast<double>(static_cast<T>(v)));
        return out;
    };
    CHECK(difference(line.to_host(), sums) <= bound);
    CHECK(difference(y.to_host(), wide(want)) <= bound);
    CHECK(difference(mean.to_host(), wide(want_mean)) <= bound);
    CHECK(difference(rstd.to_host(), wide(want_rstd)) <= bound);
}

}  // namespace

TEST_CASE_TEMPLATE("bias and GELU in one pass", D, PROMPTKD_TEST_DEVICES) {
    check_bias_gelu<D, typename D::Scalar>(rounding<typename D::Scalar>);
}

TEST_CASE_TEMPLATE("bias, residual and layer norm in one pass", D, PROMPTKD_TEST_DEVICES) {
    check_residual_norm<D, typename D::Scalar>(rounding<typename D::Scalar>);
}

TEST_CASE_TEMPLATE("fused epilogues in 16 bits", D, PROMPTKD_TEST_DEVICES_16_BIT) {
    check_bias_gelu<D, bf16>(8e-3);  // a last bit of the sum may round the other way
    check_bias_gelu<D, half>(1e-3);
    check_residual_norm<D, bf16>(8e-3);
    check_residual_norm<D, half>(1e-3);
}

}  // namespace fused_linear_test
