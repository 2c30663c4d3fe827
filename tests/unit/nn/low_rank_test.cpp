// SPDX-License-Identifier: Apache-2.0
// The third policy of a Linear: W + scale·B·A beside frozen weights of any type.
#include "support/devices.hpp"

#include <promptkd/nn/linear.hpp>

#include <doctest/doctest.h>

namespace promptkd::test::low_rank_test {

namespace {

using Values = std::vector<double>;

constexpr Index rows = 5, in = 10, out = 12, rank = 3;

/// A layer with an update of so many parts, its input and the gradient of its output.
struct Numbers {
    Index parts;
    Values w = numbers<half>(out * in, 1), bias = numbers(out, 2), x = numbers<half>(rows * in, 3),
           dy = numbers<half>(rows * out, 4), b = numbers(out * rank, 5), a;

    explicit Numbers(Index n) : parts(n), a(numbers(n * rank * in, 6)) {}
};

struct Results {
    Values y, dx, da, db;
};

/// What a device makes of them. `W` is the type of the stored weights.
template <class D, class W>
Results run(const Numbers& n, double scale, const InputDropout& dropout = {}) {
    using T = typename D::Scalar;
    using A = typename D::Activation;
    D device = make_device<D>();
    const Buffer<D, W> w(device, as<W>(n.w));
    const Buffer<D, T> bias(device, as<T>(n.bias)), a(device, as<T>(n.a)), b(device, as<T>(n.b));
    const Buffer<D, A> x(device, as<A>(n.x)), dy(device, as<A>(n.dy));
    Buffer<D, A> y(device, rows * out), dx(device, rows * in);
    Buffer<D, T> da(device, a.size()), db(device, b.size());
    device.zero(da.data(), static_cast<std::size_t>(da.size()) * sizeof(T));
    device.zero(db.data(), static_cast<std::size_t>(db.size()) * sizeof(T));
    Linear<T> layer{{w.data(), dtype_of<W>, out, in}, bias.data()};
    layer.low_rank = {a.data(), b.data(), da.data(), db.data(), rank, n.parts, scale, dropout};
    Arena<D> arena(device);
    const Workspace<D> work{device, arena};
    planned(work, [&] {
        linear_forward(work, layer, x.matrix(rows, in), y.matrix(rows, out));
        linear_backward(work, layer, dy.matrix(rows, out), dx.matrix(rows, in));
        add_linear_gradients(work, layer, x.matrix(rows, in), dy.matrix(rows, out));
    });
    const auto wide = [](const auto& buffer) {
        Values values;
        for (const auto v : buffer.to_host()) values.push_back(static_cast<double>(v));
        return values;
    };
    return {wide(y), wide(dx), wide(da), wide(db)};
}

double loss(const Numbers& n, double scale, const InputDropout& dropout) {
    return dot(run<Cpu<double>, double>(n, scale, dropout).y, n.dy);
}

/// Σ y∘dy has these gradients.
void check_gradients(const Numbers& n, double scale, const Results& got, double bound,
                     const InputDropout& dropout = {}) {
    const auto numeric = [&](Values Numbers::*part) {
        Numbers at = n;
        return numeric_gradient(n.*part, [&](const Values& v) {
            at.*part = v;
            return loss(at, scale, dropout);
        });
    };
    CHECK(difference(got.dx, numeric(&Numbers::x)) < bound);
    CHECK(difference(got.da, numeric(&Numbers::a)) < bound);
    CHECK(difference(got.db, numeric(&Numbers::b)) < bound);
}

}  // namespace

TEST_CASE_TEMPLATE("low-rank update: the layer of W + scale·B·A, and its gradients", D, PROMPTKD_TEST_DEVICES) {
    const double bound = std::max(1e-8, rounding<typename D::Scalar>);
    for (const Index parts : {1, 3}) {
        const Numbers n(parts);
        const Results got = run<D, typename D::Scalar>(n, 0.7);
        Values want;
        for (Index r = 0; r < rows; ++r)
            for (Index o = 0; o < out; ++o) {
                double sum = n.bias[static_cast<std::size_t>(o)];
                for (Index i = 0; i < in; ++i) {
                    double w = n.w[static_cast<std::size_t>(o * in + i)];
                    for (Index k = 0; k < rank; ++k)
                        w += 0.7 * n.b[static_cast<std::size_t>(o * rank + k)] *
                             n.a[static_cast<std::size_t>((o / (out / parts) * rank + k) * in + i)];
                    sum += w * n.x[static_cast<std::size_t>(r * in + i)];
                }
                want.push_back(sum);
            }
        CHECK(difference(got.y, want) < bound);
        check_gradients(n, 0.7, got, bound);
    }
}

TEST_CASE("low-rank update: beside weights of 16 bits") {
    const Numbers n(3);
    const Results want = run<Cpu<double>, double>(n, 1);
    for (const Results& got : {run<Cpu<float>, half>(n, 1), run<Cpu<double>, half>(n, 1)}) {
        CHECK(difference(got.y, want.y) < 2e-5);
        CHECK(difference(got.dx, want.dx) < 2e-5);
        CHECK(difference(got.da, want.da) < 2e-5);
        CHECK(difference(got.db, want.db) < 2e-5);
    }
}

TEST_CASE_TEMPLATE("low-rank update: with activations of 16 bits", D, EmulatedCuda<float, bf16>,
                   EmulatedCuda<float, half>, Cpu<float, bf16>) {
    const Numbers n(1);
    const Results want = run<Cpu<double>, double>(n, 1), got = run<D, typename D::Activation>(n, 1);
    const double bound = std::is_same_v<typename D::Activation, half> ? 5e-3 : 4e-2;
    CHECK(difference(got.y, want.y) < bound);
    CHECK(difference(got.dx, want.dx) < bound);
    CHECK(difference(got.da, want.da) < bound);
    CHECK(difference(got.db, want.db) < bound);
}

TEST_CASE_TEMPLATE("low-rank update: dropout of its input is the same forth and back", D, PROMPTKD_TEST_DEVICES) {
    const Numbers n(3);
    const InputDropout dropout{0.25, 7, 11, 3};
    const Results got = run<D, typename D::Scalar>(n, 0.7, dropout);
    const double bound = std::max(1e-8, rounding<typename D::Scalar>);
    check_gradients(n, 0.7, got, bound, dropout);
    CHECK(difference(run<Cpu<double>, double>(n, 0.7, dropout).y, got.y) < bound);
    CHECK(difference(run<D, typename D::Scalar>(n, 0.7, {0.25, 7, 11, 4}).y, got.y) > 0.01);
    CHECK(difference(run<D, typename D::Scalar>(n, 0.7).y, got.y) > 0.01);
}

TEST_CASE("low-rank update: a range of outputs has its part of it") {
    Cpu<double> device(1);
    std::vector<double> weight(12 * 4), a(6 * 4), b(12 * 2);
    Linear<double> layer{{weight.data(), DType::f64, 12, 4}, nullptr};
    layer.low_rank.a = a.data();
    layer.low_rank.b = b.data();
    layer.low_rank.rank = 2;
    layer.low_rank.parts = 3;
    const LowRank<double> last = layer.row_range(4, 8).low_rank;
    CHECK(last.parts == 2);
    CHECK(last.a == a.data() + 2 * 4);
    CHECK(last.b == b.data() + 4 * 2);
    CHECK_THROWS_WITH_AS(layer.row_range(2, 4), doctest::Contains("inside a part"), Error);
    CHECK(!Linear<double>().row_range(0, 0).low_rank);
}

}  // namespace promptkd::test::low_rank_test
