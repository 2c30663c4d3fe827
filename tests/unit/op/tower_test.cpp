// SPDX-License-Identifier: Apache-2.0
// Operations of towers of other kinds than CLIP's: gate, rotation, branches, pooling, blocks of pixels.
#include "support/devices.hpp"

#include <promptkd/op/branch.hpp>
#include <promptkd/op/convolution.hpp>
#include <promptkd/op/gate.hpp>
#include <promptkd/op/pool.hpp>
#include <promptkd/op/rotate.hpp>

#include <doctest/doctest.h>

namespace promptkd::test::tower_op_test {

namespace {

using Values = std::vector<double>;

double silu(double g) { return g / (1 + std::exp(-g)); }

Values gated(const Values& g, const Values& x) {
    Values y;
    for (std::size_t i = 0; i < g.size(); ++i) y.push_back(silu(g[i]) * x[i]);
    return y;
}

}  // namespace

TEST_CASE_TEMPLATE("SwiGLU and its gradients", D, PROMPTKD_TEST_DEVICES) {
    const double bound = std::max(1e-9, rounding<typename D::Scalar>);
    D device = make_device<D>();
    for (const Index n : {1, 21, 40}) {
        const Values g = numbers(n, 1, 2), x = numbers(n, 2), dy = numbers(n, 3);
        Tensor<D> gate(device, g), in(device, x), y(device, x), d_gate(device, x), d(device, dy);
        swiglu_forward(device, gate.matrix(1, n), in.matrix(1, n), y.matrix(1, n));
        CHECK(difference(y.to_host(), gated(g, x)) < bound);
        swiglu_backward(device, gate.matrix(1, n), in.matrix(1, n), d_gate.matrix(1, n), d.matrix(1, n));
        CHECK(difference(d_gate.to_host(), numeric_gradient(g, [&](const Values& v) { return dot(gated(v, x), dy); })) <
              bound);
        CHECK(difference(d.to_host(), numeric_gradient(x, [&](const Values& v) { return dot(gated(g, v), dy); })) <
              bound);
    }
}

TEST_CASE_TEMPLATE("rotation turns neighbours of the image's cells, and back", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    const Index count = 2, tokens = 5, heads = 2, pairs = 2, columns = 8;
    const Values angles = numbers(3 * pairs, 4), x = numbers(count * tokens * columns, 5);
    Values cosine, sine, want = x;
    for (const double angle : angles) {
        cosine.push_back(std::cos(angle));
        sine.push_back(std::sin(angle));
    }
    for (Index row = 0; row < count * tokens; ++row)
        for (Index pair = 0; pair < heads * pairs; ++pair) {
            const Index cell = row % tokens - 1;
            if (cell < 0 || cell >= 3) continue;  // a class token, three cells, a prompt
            const std::size_t at = static_cast<std::size_t>(row * columns + 2 * pair);
            const double phi = angles[static_cast<std::size_t>(cell * pairs + pair % pairs)];
            want[at] = x[at] * std::cos(phi) - x[at + 1] * std::sin(phi);
            want[at + 1] = x[at + 1] * std::cos(phi) + x[at] * std::sin(phi);
        }
    Tensor<D> c(device, cosine), s(device, sine), y(device, x);
    const Rotation<T> by{c.read(), s.read(), 1, 3, pairs};
    rotate(device, by, tokens, Turn::forth, y.matrix(count * tokens, columns));
    CHECK(difference(y.to_host(), want) < rounding<T>);
    rotate(device, by, tokens, Turn::back, y.matrix(count * tokens, columns));
    CHECK(difference(y.to_host(), x) < rounding<T>);
    CHECK_THROWS_WITH_AS(rotate(device, by, tokens, Turn::back, y.matrix(10, 6)),
                         doctest::Contains("6 columns are not heads of 4 components"), Error);
}

TEST_CASE_TEMPLATE("LayerScale, sums, means of patches, repeated rows", D, PROMPTKD_TEST_DEVICES) {
    const double bound = rounding<typename D::Scalar>;
    D device = make_device<D>();
    const Index rows = 6, d = 19;
    const Values f = numbers(rows * d, 6), x = numbers(rows * d, 7), gamma = numbers(d, 8);
    Values joined, scaled, sum, mean(static_cast<std::size_t>(2 * d), 0.0), spread(f.size(), 0.0), repeated;
    for (Index i = 0; i < rows * d; ++i) {
        const std::size_t at = static_cast<std::size_t>(i), column = static_cast<std::size_t>(i % d);
        scaled.push_back(gamma[column] * f[at]);
        joined.push_back(x[at] + scaled.back());
        sum.push_back(x[at] + f[at]);
        repeated.push_back(gamma[column]);
        if (i / d % 3 == 0) continue;  // two sequences of three tokens, the first of each apart
        const std::size_t image = static_cast<std::size_t>(i / d / 3 * d) + column;
        mean[image] += f[at] / 2;
        spread[at] = x[image] / 2;
    }
    const PatchTokens patches{1, 2, 3};
    Tensor<D> branch(device, f), in(device, x), scale(device, gamma), y(device, x), means(device, mean);
    add_scaled_columns(device, branch.matrix(rows, d), scale.read(), in.matrix(rows, d), y.matrix(rows, d));
    CHECK(difference(y.to_host(), joined) < bound);
    scale_columns(device, branch.matrix(rows, d), scale.read(), y.matrix(rows, d));
    CHECK(difference(y.to_host(), scaled) < bound);
    copy(device, in.matrix(rows, d), y.matrix(rows, d));
    add(device, branch.matrix(rows, d), y.matrix(rows, d));
    CHECK(difference(y.to_host(), sum) < bound);
    mean_of_tokens(device, patches, branch.matrix(rows, d), means.matrix(2, d));
    CHECK(difference(means.to_host(), mean) < bound);
    mean_of_tokens_backward(device, patches, in.matrix(2, d), y.matrix(rows, d));
    CHECK(difference(y.to_host(), spread) < bound);
    repeat_row(device, scale.read(), y.matrix(rows, d));
    CHECK(difference(y.to_host(), repeated) < bound);
}

TEST_CASE_TEMPLATE("blocks of pixels stand one behind the other", D, PROMPTKD_TEST_DEVICES) {
    D device = make_device<D>();
    const MapShape shape{2, 4, 6, 3};
    const Values x = numbers(shape.pixels() * 3, 9);
    Values want;
    for (Index b = 0; b < 2; ++b)
        for (Index y = 0; y < 2; ++y)
            for (Index column = 0; column < 3; ++column)
                for (Index p = 0; p < 4; ++p)
                    for (Index c = 0; c < 3; ++c)
                        want.push_back(
                            x[static_cast<std::size_t>(((b * 4 + 2 * y + p / 2) * 6 + 2 * column + p % 2) * 3 + c)]);
    Tensor<D> in(device, x), out(device, x);
    gather_blocks(device, in.matrix(48, 3), shape, 2, out.matrix(12, 12));
    CHECK(difference(out.to_host(), want) == 0);
    CHECK_THROWS_WITH_AS(gather_blocks(device, in.matrix(48, 3), shape, 4, out.matrix(12, 12)),
                         doctest::Contains("a map of 4 x 6 is not divided into blocks of 4"), Error);
}

}  // namespace promptkd::test::tower_op_test
