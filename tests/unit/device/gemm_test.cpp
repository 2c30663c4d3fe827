// SPDX-License-Identifier: Apache-2.0
#include "support/devices.hpp"

#include <doctest/doctest.h>

#include <promptkd/nn/frozen.hpp>

namespace promptkd::test::gemm_test {

namespace {

using Values = std::vector<double>;

/// How the matrices of a test lie in memory.
struct Layout {
    Index m, n, k;
    bool at, bt;  // stored transposed
    Index batch = 1, outer = 1;
    Index pad = 0;             // extra elements between rows
    bool interleaved = false;  // consecutive products beside each other in a row, as the heads of attention
    bool shared_b = false;     // one B for all products
};

/// A stored matrix of every product: leading dimension, strides, elements in all.
struct Stored {
    Index ld, stride, outer_stride, size;
    Stored(Index rows, Index columns, const Layout& s, bool shared = false) {
        const Index products = s.batch * s.outer;
        if (s.interleaved) {
            ld = products * columns + s.pad;
            stride = s.outer * columns;
            outer_stride = columns;
            size = rows * ld;
        } else {
            ld = columns + s.pad;
            stride = rows * ld + 3;
            outer_stride = s.batch * stride + (s.outer > 2 ? 5 : 0);
            size = s.outer * outer_stride + 3;
        }
        if (shared) stride = outer_stride = 0;
    }
    Index at(Index o, Index b, Index i, Index j) const { return o * outer_stride + b * stride + i * ld + j; }
};

struct Extra {
    double alpha = 1, beta = 0;
    bool bias = false, residual = false, in_place = false;
};

template <class D, class A, class C>
void check(D& device, const Layout& s, const Extra& e, double tolerance) {
    using T = typename D::Scalar;
    const Stored a(s.at ? s.k : s.m, s.at ? s.m : s.k, s), b(s.bt ? s.n : s.k, s.bt ? s.k : s.n, s, s.shared_b),
        c(s.m, s.n, s);
    const Values x = numbers<A>(a.size, 1), y = numbers<A>(b.size, 2), old = numbers<C>(c.size, 3),
                 bias = numbers(s.n, 4);
    const Values residual = e.in_place ? old : numbers<C>(c.size, 5);
    Values want = old;  // what lies between the results stays
    for (Index o = 0; o < s.outer; ++o)
        for (Index p = 0; p < s.batch; ++p)
            for (Index i = 0; i < s.m; ++i)
                for (Index j = 0; j < s.n; ++j) {
                    double total = 0;
                    for (Index l = 0; l < s.k; ++l)
                        total += x[static_cast<std::size_t>(s.at ? a.at(o, p, l, i) : a.at(o, p, i, l))] *
                                 y[static_cast<std::size_t>(s.bt ? b.at(o, p, j, l) : b.at(o, p, l, j))];
                    const auto at = static_cast<std::size_t>(c.at(o, p, i, j));
                    want[at] = e.alpha * total + e.beta * old[at] + (e.bias ? bias[static_cast<std::size_t>(j)] : 0) +
                               (e.residual ? residual[at] : 0);
                }
    Tensor<D, A> left(device, x), right(device, y);
    Tensor<D, C> result(device, old), added(device, residual);
    Tensor<D, T> shift(device, bias);
    Gemm g;
    g.m = s.m;
    g.n = s.n;
    g.k = s.k;
    g.alpha = e.alpha;
    g.beta = e.beta;
    g.batch = s.batch;
    g.outer = s.outer;
    g.a = strided({left.data(), dtype_of<A>, a.ld, s.at, 0, 0}, a.stride, a.outer_stride);
    g.b = strided({right.data(), dtype_of<A>, b.ld, s.bt, 0, 0}, b.stride, b.outer_stride);
    g.c = result.data();
    g.c_type = dtype_of<C>;
    g.ldc = c.ld;
    g.stride_c = c.stride;
    g.outer_stride_c = c.outer_stride;
    if (e.bias) g.bias = shift.data();
    if (e.residual) g.residual = e.in_place ? result.data() : added.data();
    device.gemm(g);
    INFO("m ", s.m, " n ", s.n, " k ", s.k, " transposed ", s.at, s.bt, " batch ", s.batch, "x", s.outer, " pad ",
         s.pad, " interleaved ", s.interleaved);
    CHECK(difference(result.to_host(), want) < tolerance);
}

const Layout layouts[] = {{1, 1, 1, false, false},
                          {5, 7, 3, false, false, 1, 1, 2},
                          {16, 48, 64, false, false},
                          {65, 33, 100, false, false, 1, 1, 4},
                          {130, 200, 60, false, false},
                          {20, 40, 1701, false, false, 1, 1, 1},
                          {4, 6, 5, false, false, 3},
                          {4, 6, 5, false, false, 3, 2, 1},
                          {6, 3, 4, false, false, 2, 5},
                          {7, 4, 8, false, false, 5, 3, 2, true},
                          {7, 4, 8, false, false, 1, 4, 0, true},
                          {5, 6, 7, false, false, 4, 1, 0, false, true},
                          {3, 2, 1, false, false, 3, 4, 0}};

}  // namespace

TEST_CASE_TEMPLATE("products: transposes, strides, batches, alpha and beta", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    for (Layout s : layouts)
        for (const bool at : {false, true})
            for (const bool bt : {false, true}) {
                s.at = at;
                s.bt = bt;
                check<D, T, T>(device, s, {}, rounding<T>);
                check<D, T, T>(device, s, {-0.5, 1}, rounding<T>);
                check<D, T, T>(device, s, {2, 0.25}, rounding<T>);
            }
}

TEST_CASE_TEMPLATE("products: bias and residual", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    for (const Index m : {1, 9, 70})
        for (const Index pad : {0, 3}) {
            const Layout s{m, 50, 20, false, true, 1, 1, pad};
            check<D, T, T>(device, s, {1, 0, true, false, false}, rounding<T>);
            check<D, T, T>(device, s, {1, 0, false, true, false}, rounding<T>);
            check<D, T, T>(device, s, {1, 0, true, true, false}, rounding<T>);
            check<D, T, T>(device, s, {1, 0, true, true, true}, rounding<T>);
        }
}

TEST_CASE_TEMPLATE("products of 16-bit matrices are accumulated in fp32", D, PROMPTKD_TEST_DEVICES_16_BIT) {
    D device = make_device<D>();
    const auto each = [&](auto type, double unit) {
        using A = decltype(type);
        for (Layout s : layouts)
            for (const bool at : {false, true})
                for (const bool bt : {false, true}) {
                    s.at = at;
                    s.bt = bt;
                    check<D, A, A>(device, s, {}, unit);
                    check<D, A, A>(device, s, {0.5, 1}, 2 * unit);
                    check<D, A, float>(device, s, {}, rounding<float>);
                }
        check<D, A, A>(device, {30, 40, 20, false, true}, {1, 0, true, false, false}, 2 * unit);
        check<D, A, A>(device, {30, 40, 20, false, true}, {1, 0, true, true, true}, 2 * unit);
        check<D, A, A>(device, {30, 40, 20, false, true}, {1, 0, true, true, false}, 2 * unit);
        check<D, A, float>(device, {30, 40, 20, false, true}, {1, 0, true, true, false}, rounding<float>);
    };
    each(half{}, 1.0 / 2048);
    each(bf16{}, 1.0 / 256);
}

TEST_CASE("products: a 16-bit weight against fp32 activations, as files store it") {
    Cpu<float> device(2);
    const Values x = numbers(30 * 20, 1), w = numbers<half>(40 * 20, 2);
    Values want(30 * 40, 0.0);
    for (std::size_t i = 0; i < 30; ++i)
        for (std::size_t j = 0; j < 40; ++j)
            for (std::size_t l = 0; l < 20; ++l) want[i * 40 + j] += x[i * 20 + l] * w[j * 20 + l];
    Tensor<Cpu<float>> in(device, x), out(device, want);
    Tensor<Cpu<float>, half> weight(device, w);
    Gemm g;
    g.m = 30;
    g.n = 40;
    g.k = 20;
    g.a = operand(in.read(), 20);
    g.b = transposed(weight.read(), 20);
    g.c = out.data();
    g.ldc = 40;
    device.gemm(g);
    CHECK(difference(out.to_host(), want) < rounding<float>);
}

/// Products with a matrix of W that was packed before: the same bits as with the matrix itself.
template <class T, class A, class W>
void check_packed(Index m, Index n, Index k) {
    using D = Cpu<T, A>;
    D device(2);
    Tensor<D, A> x(device, numbers<A>(m * k, 1));
    Tensor<D, W> w(device, numbers<W>(n * k, 2));
    Tensor<D, T> bias(device, numbers(n, 3));
    Buffer<D, std::byte> packed(device, static_cast<Index>(D::packed_bytes(n, k, dtype_of<W>)));
    device.pack_panels(w.read(), n, k, dtype_of<W>, packed.data());
    Gemm g;
    g.m = m;
    g.n = g.ldc = n;
    g.k = k;
    g.a = operand(x.read(), k);
    g.b = transposed(w.read(), k);
    g.bias = bias.read();
    g.c_type = dtype_of<T>;
    Buffer<D, T> plain(device, m * n), fast(device, m * n);
    g.c = plain.data();
    device.gemm(g);
    g.b.data = packed.data();
    g.b.panel = D::panel_columns;
    g.c = fast.data();
    device.gemm(g);
    INFO("m ", m, " n ", n, " k ", k);
    CHECK(fast.to_host() == plain.to_host());
    const Index first = D::panel_columns;  // rows of W from the second panel on
    if (n <= first) return;
    const WeightMatrix part =
        WeightMatrix{packed.data(), dtype_of<W>, n, k, D::panel_columns, 0}.row_range(first, n - first);
    g.b = part.as_transposed();
    g.n = n - first;
    g.c = fast.data() + first;
    g.bias = bias.read() + first;
    device.zero(fast.data(), static_cast<std::size_t>(m * n) * sizeof(T));
    device.gemm(g);
    std::vector<T> want = plain.to_host();
    for (Index i = 0; i < m; ++i) std::fill_n(want.begin() + i * n, first, T(0));
    CHECK(fast.to_host() == want);
}

TEST_CASE("products: a matrix packed before gives the same bits") {
    for (const Index m : {1, 5, 70, 300})
        for (const Index n : {7, 64, 200})
            for (const Index k : {2, 64, 2100}) {
                check_packed<float, float, float>(m, n, k);
                check_packed<float, float, half>(m, n, k);
                check_packed<float, float, bf16>(m, n, k);
                check_packed<float, bf16, bf16>(m, n, k);
                check_packed<float, half, half>(m, n, k);
                check_packed<double, double, double>(m, n, k);
            }
}

/// values[i·k + p] ≈ scale_i·q_ip with whole q of at most 127.
struct Quantized {
    std::vector<double> scales, q;
    Quantized(const Values& values, Index rows, Index k) : scales(static_cast<std::size_t>(rows)) {
        for (Index i = 0; i < rows; ++i) {
            double largest = 0;
            for (Index p = 0; p < k; ++p) largest = std::max(largest, std::abs(values[i * k + p]));
            scales[i] = largest / 127;
            for (Index p = 0; p < k; ++p)
                q.push_back(largest > 0 ? std::floor(values[i * k + p] * 127 / largest + 0.5) : 0);
        }
    }
};

/// Products with 8-bit weights against the sums of the quantized factors. Where a value is nearly a tie, the two round
/// it differently: a few units of one factor times the largest of the other.
template <class A>
void check_int8(Index m, Index n, Index k) {
    using D = Cpu<float, A>;
    D device(2);
    const Values rows = numbers<A>(m * k, 1), w = numbers<float>(n * k, 2), bias = numbers<float>(n, 3);
    Tensor<D, A> x(device, rows);
    Tensor<D, float> weights(device, w), b(device, bias);
    Buffer<D, char> packed(device, static_cast<Index>(D::int8_bytes(n, k)));
    device.pack_int8_panels(weights.read(), n, k, DType::f32, packed.data());
    Buffer<D, float> out(device, m * n);
    Gemm g;
    g.m = m;
    g.n = g.ldc = n;
    g.k = k;
    g.a = operand(x.read(), k);
    g.b = {packed.data(), DType::i8, k, true, 0, 0, D::panel_columns};
    g.bias = b.read();
    g.c = out.data();
    g.c_type = DType::f32;
    device.gemm(g);
    const Quantized qx(rows, m, k), qw(w, n, k);
    const std::vector<float> got = out.to_host();
    double worst = 0, worst_exact = 0, norm = 0, unit = 0;
    for (Index i = 0; i < m; ++i)
        for (Index j = 0; j < n; ++j) {
            double sum = 0, exact = 0, size = 0;
            for (Index p = 0; p < k; ++p) {
                sum += qx.q[i * k + p] * qw.q[j * k + p];
                exact += rows[i * k + p] * w[j * k + p];
                size += std::pow(rows[i * k + p], 2);
            }
            const double result = got[i * n + j];
            worst = std::max(worst, std::abs(result - bias[j] - sum * qx.scales[i] * qw.scales[j]));
            worst_exact = std::max(worst_exact, std::abs(result - bias[j] - exact));
            norm = std::max(norm, std::sqrt(size * k));
            unit = std::max(unit, 127 * qx.scales[i] * qw.scales[j]);
        }
    INFO("m ", m, " n ", n, " k ", k);
    CHECK(worst <= 3 * unit + 1e-5 * norm);
    CHECK(worst_exact <= 2e-2 * norm);  // half a unit in 127 of each factor
}

TEST_CASE("products: weights in 8 bits") {
    for (const Index m : {1, 5, 70, 300})
        for (const Index n : {7, 64, 200})
            for (const Index k : {4, 64, 2100}) {
                check_int8<float>(m, n, k);
                check_int8<bf16>(m, n, k);
            }
}

TEST_CASE("products: largest 8-bit sums do not overflow, zero rows stay zero, NaN stays NaN") {
    Cpu<float> device(2);
    const Index k = 4096, n = 40;
    std::vector<float> w(static_cast<std::size_t>(n * k), -1.0f), x(static_cast<std::size_t>(2 * k), 1.0f);
    std::fill_n(w.begin() + k, k, 0.0f);
    std::fill_n(x.begin() + k, k, 0.0f);
    std::vector<char> packed(Cpu<float>::int8_bytes(n, k) + 64);
    char* aligned = packed.data() + (64 - reinterpret_cast<std::uintptr_t>(packed.data()) % 64) % 64;
    device.pack_int8_panels(w.data(), n, k, DType::f32, aligned);
    std::vector<float> c(static_cast<std::size_t>(2 * n), 7.0f);
    Gemm g;
    g.m = 2;
    g.n = g.ldc = n;
    g.k = k;
    g.a = operand(x.data(), k);
    g.b = {aligned, DType::i8, k, true, 0, 0, Cpu<float>::panel_columns};
    g.c = c.data();
    g.c_type = DType::f32;
    device.gemm(g);
    CHECK(c[0] == doctest::Approx(-4096));
    CHECK(c[1] == 0);
    CHECK(c[static_cast<std::size_t>(n)] == 0);
    x[5] = NAN;
    device.gemm(g);
    CHECK(std::isnan(c[0]));
    CHECK(std::isnan(c[1]));
    CHECK(c[static_cast<std::size_t>(n)] == 0);
}

TEST_CASE("products: what a packed matrix is not for is refused") {
    WeightMatrix w{nullptr, DType::f16, 64, 64, 32, 0};
    CHECK_THROWS_WITH_AS(w.as_operand(), doctest::Contains("packed weights are for inference"), Error);
    CHECK_THROWS_WITH_AS(w.row_range(8, 8), doctest::Contains("inside a panel"), Error);
}

TEST_CASE("products: a factor that cannot be widened is an error, and nobody waits for it") {
    Cpu<float> device(2);
    const Index size = 256;  // large enough for all threads
    Tensor<Cpu<float>> x(device, Values(size * size, 1.0)), out(device, Values(size * size, 0.0));
    Gemm g;
    g.m = g.n = g.k = g.ldc = size;
    g.a = g.b = operand(x.read(), size);
    g.c = out.data();
    g.b.type = DType::i8;
    CHECK_THROWS_WITH_AS(device.gemm(g), doctest::Contains("a factor of type i8"), Error);
    g.b.type = DType::f32;
    g.a.type = DType::i8;
    CHECK_THROWS_WITH_AS(device.gemm(g), doctest::Contains("a factor of type i8"), Error);
    g.a.type = DType::f32;
    device.gemm(g);
    CHECK(out.to_host().front() == doctest::Approx(256));
}

TEST_CASE_TEMPLATE("products: without an inner dimension C becomes beta·C", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    check<D, T, T>(device, {4, 5, 0, false, false, 1, 1, 1}, {}, 1e-30);
    check<D, T, T>(device, {4, 5, 0, false, false, 1, 1, 1}, {1, 2}, 1e-30);
}

TEST_CASE("products: what cuBLAS cannot take is refused") {
    EmulatedCuda<float> device;
    using D = EmulatedCuda<float>;
    Tensor<D> x(device, Values(100, 1.0));
    Tensor<D, half> w(device, Values(100, 1.0));
    Gemm g;
    g.m = 4;
    g.n = 5;
    g.k = 6;
    g.a = operand(x.read(), 6);
    g.b = operand(x.read(), 5);
    g.c = x.data();
    g.ldc = 5;
    const auto refuses = [&](Gemm wrong, const char* why) {
        CHECK_THROWS_WITH_AS(device.gemm(wrong), doctest::Contains(why), Error);
    };
    Gemm wrong = g;
    wrong.a.ld = 5;
    refuses(wrong, "leading dimension 5 of B is less than its 6 rows");
    wrong = g;
    wrong.b.ld = 4;
    refuses(wrong, "leading dimension 4 of A is less than its 5 rows");
    wrong = g;
    wrong.ldc = 4;
    refuses(wrong, "leading dimension 4 of C is less than its 5 rows");
    wrong = g;
    wrong.m = Index{1} << 31;
    refuses(wrong, "cuBLAS cannot take");
    wrong = g;
    wrong.b = operand(w.read(), 5);
    refuses(wrong, "factors of types f32 and f16");
    wrong = g;
    wrong.beta = 1;
    wrong.residual = x.data();
    refuses(wrong, "need beta = 0");
}

}  // namespace promptkd::test::gemm_test
