// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "emulated_cuda.hpp"

#include <promptkd/device/cpu.hpp>
#include <promptkd/device/memory.hpp>
#if defined(__CUDACC__)
#include <promptkd/cuda.hpp>
#endif

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace promptkd::test {

/// The devices that every operation is tested on. Compiled by nvcc, the same tests run on the GPU.
#if defined(__CUDACC__)
#define PROMPTKD_TEST_DEVICES promptkd::Cuda<float>, promptkd::Cuda<double>
#define PROMPTKD_TEST_DEVICES_16_BIT promptkd::Cuda<float>
#define PROMPTKD_TEST_DEVICES_MATRIX promptkd::Cuda<float, promptkd::bf16>, promptkd::Cuda<float, promptkd::half>
#else
#define PROMPTKD_TEST_DEVICES promptkd::Cpu<float>, promptkd::Cpu<double>, promptkd::test::EmulatedCuda<float>
#define PROMPTKD_TEST_DEVICES_16_BIT promptkd::Cpu<float>, promptkd::test::EmulatedCuda<float>
#define PROMPTKD_TEST_DEVICES_MATRIX \
    promptkd::test::EmulatedCuda<float, promptkd::bf16>, promptkd::test::EmulatedCuda<float, promptkd::half>
#endif

/// Relative accuracy that a sum of a few hundred products has in T.
template <class T>
inline constexpr double rounding = std::is_same_v<T, float> ? 2e-5 : 1e-12;

/// Two threads, so that work is divided, whatever the machine.
template <class D>
D make_device() {
    if constexpr (requires { D(2).threads(); })
        return D(2);
    else
        return D();
}

/// A device whose attention is `kernel` where the shape allows it.
template <class D>
D device_with(AttentionKernel kernel) {
#if defined(__CUDACC__)
    return D(CudaOptions{0, false, kernel});
#else
    return D(kernel);
#endif
}

/// n normal numbers, the same in every run, rounded to A: references in double then start from equal values.
template <class A = float>
std::vector<double> numbers(Index n, unsigned seed, double scale = 1) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal(0, scale);
    std::vector<double> values(static_cast<std::size_t>(n));
    for (double& value : values) value = static_cast<double>(A(static_cast<float>(normal(random))));
    return values;
}

/// The same values as another type.
template <class A>
std::vector<A> as(const std::vector<double>& x) {
    std::vector<A> out;
    for (const double value : x) {
        if constexpr (std::is_same_v<A, double>)
            out.push_back(value);
        else
            out.push_back(A(static_cast<float>(value)));
    }
    return out;
}

/// Values in device memory.
template <class D, class A = typename D::Scalar>
struct Tensor : Buffer<D, A> {
    Tensor(D& device, const std::vector<double>& values) : Buffer<D, A>(device, as<A>(values)) {}
    const A* read() const { return this->data(); }
};

/// max|got − want| / max|want|; infinite when a value is NaN or the sizes differ.
template <class T>
double difference(const std::vector<T>& got, const std::vector<double>& want) {
    if (got.size() != want.size()) return INFINITY;
    double worst = 0, magnitude = 0;
    for (std::size_t i = 0; i < want.size(); ++i) {
        const double d = std::abs(static_cast<double>(got[i]) - want[i]);
        if (std::isnan(d)) return INFINITY;
        worst = std::max(worst, d);
        magnitude = std::max(magnitude, std::abs(want[i]));
    }
    return magnitude > 0 ? worst / magnitude : worst;
}

/// f'(x_i) for every i in double by the 4-point formula (8(f(x+h) − f(x−h)) − (f(x+2h) − f(x−2h))) / 12h, error O(h⁴).
template <class F>
std::vector<double> numeric_gradient(std::vector<double> x, const F& f, double h = 1e-3) {
    std::vector<double> gradient;
    for (double& value : x) {
        const double old = value;
        const auto at = [&](double shift) {
            value = old + shift;
            return f(x);
        };
        gradient.push_back((8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h));
        value = old;
    }
    return gradient;
}

/// Σ x_i·w_i: turns a tensor into a loss whose gradient is w.
inline double dot(const std::vector<double>& x, const std::vector<double>& w) {
    double total = 0;
    for (std::size_t i = 0; i < x.size(); ++i) total += x[i] * w[i];
    return total;
}

/// Plans `step`, and runs it.
template <class D, class Step>
void planned(const Workspace<D>& w, const Step& step) {
    w.arena.plan(step);
    step();
}

}  // namespace promptkd::test
