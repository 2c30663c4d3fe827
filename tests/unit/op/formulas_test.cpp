// SPDX-License-Identifier: Apache-2.0
#include "support/devices.hpp"

#include <promptkd/op/formulas.hpp>

#include <doctest/doctest.h>

namespace formulas_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

using Values = std::vector<double>;

/// out = (or +=) r·(g·w − m − x̂·s), s = mean(g·w): the shape of LayerNorm's gradient. Here g++ 12 -O3 -mavx512f loses
/// a conditional assignment in front of one store: written so inside store_or_add, this test fails.
template <class T, class A>
struct WriteOrAdd {
    const A *x, *g;
    const T *w, *mean, *rstd;
    A* out;
    Index d;
    bool add;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const A *in = x + row * d, *slope = g + row * d;
        A* to = out + row * d;
        const T* weight = w;
        const T m = mean[row], r = rstd[row];
        const T s = team.sum(d, [=](const auto& lane) { return lane.value(lane.load(slope) * lane.load(weight)); }) /
                    static_cast<T>(d);
        const bool accumulate = add;
        team.each(d, [=](const auto& lane) {
            const LaneValue<decltype(lane)> x_hat = promptkd::detail::standardized(lane, in, m, r);
            const LaneValue<decltype(lane)> value = lane.load(slope) * lane.load(weight) - lane.fill(m) - x_hat * s;
            promptkd::detail::store_or_add(lane, to, value, r, accumulate);
        });
    }
};

/// sums[row] and logs[row] of a row's exponentials, whose terms go to `terms`; and those for a temperature.
template <class T>
struct Exponentials {
    const T* x;
    T *terms, *totals, *logs, *cooled;
    Index n;
    T inverse_temperature;
    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const T* in = x + row * n;
        const auto sum = promptkd::detail::store_exponentials(team, n, in, terms + row * n);
        const T cool = promptkd::detail::sum_exponentials(team, n, in, inverse_temperature).log(inverse_temperature);
        team.once([this, row, sum, cool] {
            totals[row] = sum.total;
            logs[row] = sum.log();
            cooled[row] = cool;
        });
    }
};

Values softmax(Values x) {
    const double top = *std::max_element(x.begin(), x.end());
    double total = 0;
    for (double& v : x) total += v = std::exp(v - top);
    for (double& v : x) v /= total;
    return x;
}

}  // namespace

TEST_CASE_TEMPLATE("a result replaces what is there or is added to it, in packs and behind them", D,
                   PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    const Index rows = 9;
    for (const Index d : {5, 33, 48, 64, 768})
        for (const bool add : {false, true}) {
            const Values x = numbers(rows * d, 1), g = numbers(rows * d, 2), w = numbers(d, 3),
                         before = numbers(rows * d, 4), mean = numbers(rows, 5), rstd = numbers(rows, 6);
            Values want = before;
            for (Index i = 0; i < rows; ++i) {
                const double m = mean[static_cast<std::size_t>(i)], r = rstd[static_cast<std::size_t>(i)];
                const auto at = [&](Index j) { return static_cast<std::size_t>(i * d + j); };
                double s = 0;
                for (Index j = 0; j < d; ++j) s += g[at(j)] * w[static_cast<std::size_t>(j)] / static_cast<double>(d);
                for (Index j = 0; j < d; ++j) {
                    const double slope = g[at(j)] * w[static_cast<std::size_t>(j)];
                    want[at(j)] = (slope - m - (x[at(j)] - m) * r * s) * r + (add ? before[at(j)] : 0);
                }
            }
            Tensor<D> in(device, x), slope(device, g), weight(device, w), means(device, mean), rstds(device, rstd),
                out(device, before);
            device.rows(rows, 4 * d,
                        WriteOrAdd<T, T>{in.read(), slope.read(), weight.read(), means.read(), rstds.read(), out.data(),
                                         d, add});
            CHECK(difference(out.to_host(), want) < rounding<T>);
        }
}

TEST_CASE_TEMPLATE("exponentials of a row do not overflow and sum up to its softmax", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    for (const Index n : {1, 3, 16, 45}) {
        Values x = numbers(n, 7, 30);
        x[0] = 800;  // exp of it is infinite in single precision
        Tensor<D> in(device, x), terms(device, x), totals(device, {0}), logs(device, {0}), cooled(device, {0});
        device.rows(1, 4 * n,
                    Exponentials<T>{in.read(), terms.data(), totals.data(), logs.data(), cooled.data(), n, T(0.125)});
        const T total = totals.to_host()[0];
        std::vector<T> p = terms.to_host();
        for (T& v : p) v /= total;
        CHECK(difference(p, softmax(x)) < rounding<T>);
        double sum = 0, cool = 0;
        for (const double v : x) {
            sum += std::exp(v - 800);
            cool += std::exp((v - 800) / 8);
        }
        CHECK(difference(logs.to_host(), {800 + std::log(sum)}) < rounding<T>);
        CHECK(difference(cooled.to_host(), {100 + std::log(cool)}) < rounding<T>);
    }
}

TEST_CASE("softmax on the host survives large values") {
    std::vector<double> row = {1000, 1001, 0};
    softmax_on_host(row.data(), 3);
    CHECK(difference(row, softmax({1000, 1001, 0})) < 1e-15);
}

}  // namespace formulas_test
