// SPDX-License-Identifier: Apache-2.0
// Kernels that are chosen at run time: units compiled for one machine have one level, portable_tests all of them.
#include "support/devices.hpp"

#include <doctest/doctest.h>

#include <promptkd/nn/frozen.hpp>
#include <promptkd/op/elementwise.hpp>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>

namespace promptkd::test::level_test {

namespace {

/// The levels that this program can use on this machine and in this environment.
std::vector<ProcessorLevel> levels() {
    std::vector<ProcessorLevel> all;
    for (int level = 0; level <= static_cast<int>(Cpu<float>(1).level()); ++level)
        all.push_back(static_cast<ProcessorLevel>(level));
    return all;
}

struct ExpFunctor {
    const float* x;
    float* y;
    template <class Lane>
    void operator()(const Lane& lane) const {
        using std::exp;
        lane.store(y, lane.value(exp(lane.load(x))));
    }
};

struct ErfFunctor {
    const float* x;
    float* y;
    template <class Lane>
    void operator()(const Lane& lane) const {
        using std::erf;
        lane.store(y, lane.value(erf(lane.load(x))));
    }
};

template <class F>
std::vector<float> mapped(Cpu<float>& device, const std::vector<float>& x) {
    std::vector<float> y(x.size());
    device.map(static_cast<Index>(x.size()), F{x.data(), y.data()});
    return y;
}

/// y (m × n) = x·wᵀ at a level, w in panels of type W or of 8 bits.
template <class W>
std::vector<float> product(Cpu<float>& device, const std::vector<float>& x, const std::vector<W>& w, Index n,
                           bool int8) {
    const auto k = static_cast<Index>(w.size()) / n, m = static_cast<Index>(x.size()) / k;
    const std::size_t bytes = int8 ? Cpu<float>::int8_bytes(n, k) : Cpu<float>::packed_bytes(n, k, dtype_of<W>);
    Buffer<Cpu<float>, char> panels(device, static_cast<Index>(bytes));
    if (int8)
        device.pack_int8_panels(w.data(), n, k, dtype_of<W>, panels.data());
    else
        device.pack_panels(w.data(), n, k, dtype_of<W>, panels.data());
    std::vector<float> y(static_cast<std::size_t>(m * n));
    Gemm g;
    g.m = m;
    g.n = n;
    g.k = k;
    g.a = {x.data(), DType::f32, k, false, 0, 0};
    g.b = {panels.data(), int8 ? DType::i8 : dtype_of<W>, k, true, 0, 0, Cpu<float>::panel_columns};
    g.c = y.data();
    g.ldc = n;
    g.c_type = DType::f32;
    device.gemm(g);
    return y;
}

}  // namespace

TEST_CASE("levels: the machine's, the environment's or the caller's, whichever is lowest") {
    const ProcessorLevel here = Cpu<float>(1).level();
    CHECK(Cpu<float>(1, ProcessorLevel::compiled).level() == ProcessorLevel::compiled);
    CHECK(Cpu<float>(1, ProcessorLevel::v3).level() == std::min(here, ProcessorLevel::v3));
    const char* given = std::getenv("PROMPTKD_PROCESSOR_LEVEL");
    const std::string before = given ? given : "";
    ::setenv("PROMPTKD_PROCESSOR_LEVEL", "v3", 1);
    CHECK(Cpu<float>(1).level() == std::min(detail::machine_level(), ProcessorLevel::v3));
    for (const char* wrong : {"", "v5", "V3", "avx2"}) {
        ::setenv("PROMPTKD_PROCESSOR_LEVEL", wrong, 1);
        CHECK_THROWS_WITH_AS(Cpu<float>(1), doctest::Contains("expected compiled, v3, v4, v4-vnni or v4-bf16"), Error);
    }
    if (given)
        ::setenv("PROMPTKD_PROCESSOR_LEVEL", before.c_str(), 1);
    else
        ::unsetenv("PROMPTKD_PROCESSOR_LEVEL");
}

TEST_CASE("levels: products agree; those of 8 bits in their sums") {
    // Rows and columns below and above a tile, half a tile and a panel; a depth of one block and of two.
    for (const Index m : {1, 5, 17})
        for (const Index n : {3, 20, 40, 100})
            for (const Index k : {4, 68, 1100}) {
                CAPTURE(m);
                CAPTURE(n);
                CAPTURE(k);
                const std::vector<float> x = as<float>(numbers(m * k, 1));
                const std::vector<half> w = as<half>(numbers<half>(n * k, 2));
                Cpu<float> plain(1, ProcessorLevel::compiled);
                const std::vector<float> want = product(plain, x, w, n, false), want_8 = product(plain, x, w, n, true);
                const double tolerance = 1e-5 * std::sqrt(static_cast<double>(k));
                for (const ProcessorLevel level : levels()) {
                    CAPTURE(static_cast<int>(level));
                    Cpu<float> device(2, level);
                    const std::vector<float> y = product(device, x, w, n, false), y_8 = product(device, x, w, n, true);
                    double worst = 0, worst_8 = 0;
                    for (std::size_t i = 0; i < y.size(); ++i) {
                        worst = std::max(worst, std::abs(static_cast<double>(y[i]) - want[i]));
                        worst_8 = std::max(worst_8, std::abs(static_cast<double>(y_8[i]) - want_8[i]));
                    }
                    CHECK(worst < tolerance);
                    CHECK(worst_8 < 1e-6 * static_cast<double>(k));
                }
            }
}

TEST_CASE("levels: exp and erf over their whole range") {
    std::vector<float> x;
    for (int i = -12000; i <= 12000; ++i) x.push_back(static_cast<float>(i) * 0.01f);
    for (const ProcessorLevel level : levels()) {
        Cpu<float> device(1, level);
        const std::vector<float> e = mapped<ExpFunctor>(device, x), f = mapped<ErfFunctor>(device, x);
        double worst = 0, worst_erf = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
            const double want = std::exp(static_cast<double>(x[i]));
            if (std::abs(x[i]) <= 87) worst = std::max(worst, std::abs(e[i] / want - 1));
            if (want < 1e-45) CHECK(e[i] < 1e-37f);
            worst_erf = std::max(worst_erf, std::abs(f[i] - std::erf(static_cast<double>(x[i]))));
        }
        CHECK(worst < 4e-7);
        CHECK(worst_erf < 4e-7);
        const float infinity = std::numeric_limits<float>::infinity();
        const std::vector<float> ends(16, infinity), below(16, -infinity), nan(16, std::nanf(""));
        CHECK(mapped<ExpFunctor>(device, ends)[3] == infinity);
        CHECK(mapped<ExpFunctor>(device, below)[3] < 1e-37f);
        CHECK(std::isnan(mapped<ExpFunctor>(device, nan)[3]));
        CHECK(mapped<ErfFunctor>(device, ends)[3] == 1);
        CHECK(mapped<ErfFunctor>(device, below)[3] == -1);
    }
}

TEST_CASE("levels: every value of 16 bits becomes the same float, every float is rounded the same way") {
    constexpr Index n = 65536;
    std::vector<half> halves(n);
    std::vector<bf16> shorts(n);
    std::vector<float> floats(n);
    for (Index i = 0; i < n; ++i) {
        const auto at = static_cast<std::size_t>(i);
        halves[at].bits = static_cast<std::uint16_t>(i);
        shorts[at].bits = static_cast<std::uint16_t>(i);
        // Between two values of bf16, and of half: ties, and both sides of them.
        floats[at] = detail::bits_float(static_cast<std::uint32_t>(i) << 16 | (i % 3 == 0 ? 0x8000u : 0x7fffu + i % 3));
    }
    for (const ProcessorLevel level : levels()) {
        Cpu<float> device(1, level);
        std::vector<float> a(n), b(n);
        std::vector<half> c(n);
        std::vector<bf16> d(n);
        convert(device, halves.data(), a.data(), n);
        convert(device, shorts.data(), b.data(), n);
        convert(device, floats.data(), c.data(), n);
        convert(device, floats.data(), d.data(), n);
        Index wrong = 0;
        const auto same = [](float x, float y) { return detail::float_bits(x) == detail::float_bits(y); };
        for (std::size_t i = 0; i < n; ++i) {
            const float x = halves[i], y = shorts[i], z = floats[i];
            if (!(std::isnan(x) ? std::isnan(a[i]) : same(x, a[i]))) ++wrong;
            if (!(std::isnan(y) ? std::isnan(b[i]) : same(y, b[i]))) ++wrong;
            if (!(std::isnan(z) ? std::isnan(static_cast<float>(c[i])) : c[i].bits == half(z).bits)) ++wrong;
            if (std::abs(z) < std::numeric_limits<float>::min()) continue;  // some processors round them to zero
            if (!(std::isnan(z) ? std::isnan(static_cast<float>(d[i])) : d[i].bits == bf16(z).bits)) ++wrong;
        }
        CHECK(wrong == 0);
    }
}

}  // namespace promptkd::test::level_test
