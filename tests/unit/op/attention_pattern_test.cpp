// SPDX-License-Identifier: Apache-2.0
#include "support/devices.hpp"

#include <doctest/doctest.h>

#include <promptkd/op/attention_pattern.hpp>

namespace attention_pattern_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

using Values = std::vector<double>;

constexpr Index count = 2, length = 5, heads = 2, head_dim = 3, width = heads * head_dim, rows = count * length;

/// Σ S(a, b)·v by its definition; `part`: 0 queries, 1 keys of qkv (rows, 3·width).
void add_attention(const Values& qkv, Index left, Index right, const Values& near, Values& o) {
    const auto at = [&](Index row, Index part, Index column) {
        return qkv[static_cast<std::size_t>(row * 3 * width + part * width + column)];
    };
    for (Index r = 0; r < rows; ++r)
        for (Index h = 0; h < heads; ++h) {
            Values p;
            double total = 0;
            for (Index u = 0; u < length; ++u) {
                double score = 0;
                for (Index e = 0; e < head_dim; ++e)
                    score += at(r, left, h * head_dim + e) * at(r / length * length + u, right, h * head_dim + e);
                score /= std::sqrt(static_cast<double>(head_dim));
                if (!near.empty()) score += near[static_cast<std::size_t>(r % length * length + u)];
                total += p.emplace_back(std::exp(score));
            }
            for (Index u = 0; u < length; ++u)
                for (Index e = 0; e < head_dim; ++e)
                    o[static_cast<std::size_t>(r * width + h * head_dim + e)] +=
                        p[static_cast<std::size_t>(u)] / total * at(r / length * length + u, 2, h * head_dim + e);
        }
}

Values expected(const Values& qkv, Compared compared, const Values& near) {
    Values o(static_cast<std::size_t>(rows * width), 0.0);
    if (compared == Compared::nothing)
        for (Index r = 0; r < rows; ++r)
            for (Index c = 0; c < width; ++c)
                o[static_cast<std::size_t>(r * width + c)] =
                    qkv[static_cast<std::size_t>(r * 3 * width + 2 * width + c)];
    if (compared == Compared::queries_keys) add_attention(qkv, 0, 1, near, o);
    if (compared == Compared::queries || compared == Compared::queries_and_keys) add_attention(qkv, 0, 0, near, o);
    if (compared == Compared::keys || compared == Compared::queries_and_keys) add_attention(qkv, 1, 1, near, o);
    return o;
}

}  // namespace

TEST_CASE_TEMPLATE("patterned attention: forward, output and gradients", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    const Values qkv = numbers(rows * 3 * width, 1), near = numbers(length * length, 2), d_o = numbers(rows * width, 3);
    AttentionShape shape;
    shape.sequences = {0, count, length, false};
    shape.heads = heads;
    shape.head_dim = head_dim;
    for (const Compared compared :
         {Compared::queries_keys, Compared::nothing, Compared::queries_and_keys, Compared::queries, Compared::keys})
        for (const bool is_near : {false, true})
            for (const Index tile : {Index(0), Index(1)}) {
                CAPTURE(static_cast<int>(compared));
                CAPTURE(is_near);
                shape.tile = tile;
                const Values bias = is_near ? near : Values();
                Tensor<D> in(device, qkv), added(device, near), out(device, d_o), again(device, d_o), g(device, d_o);
                Tensor<D> d_qkv(device, qkv), alone(device, d_o);
                const AttentionPattern<T> pattern{compared, is_near ? added.data() : nullptr};
                Tensor<D> p(device, Values(static_cast<std::size_t>(2 * shape.scores()), 0.0));
                Arena<D> arena(device);
                const Workspace<D> w{device, arena};
                const Matrix<T> x = in.matrix(rows, 3 * width);
                const QueriesKeysValues<const T> inputs(x.column_range(0, width), x.column_range(width, width),
                                                        x.column_range(2 * width, width));
                planned(w, [&] {
                    const PatternedAttention<D> attention(w, shape, pattern);
                    attention.forward(inputs, p.data(), alone.matrix(rows, width), Keep::no);
                    attention.forward(inputs, p.data(), out.matrix(rows, width), Keep::yes);
                    attention.output(inputs.v, p.data(), again.matrix(rows, width));
                    attention.backward(inputs, p.data(), g.matrix(rows, width), d_qkv.matrix(rows, 3 * width));
                });
                const Values want = expected(qkv, compared, bias);
                CHECK(difference(alone.to_host(), want) < rounding<T>);
                CHECK(difference(out.to_host(), want) < rounding<T>);
                CHECK(difference(again.to_host(), want) < rounding<T>);
                const Values gradient =
                    numeric_gradient(qkv, [&](const Values& at) { return dot(expected(at, compared, bias), d_o); });
                CHECK(difference(d_qkv.to_host(), gradient) < (std::is_same_v<T, float> ? 2e-5 : 1e-8));
            }
}

TEST_CASE("patterned attention takes whole sequences alone") {
    Cpu<float> device;
    Arena<Cpu<float>> arena(device);
    AttentionShape shape;
    shape.sequences = {0, 1, 2, true};
    CHECK_THROWS_AS(PatternedAttention<Cpu<float>>({device, arena}, shape, {}), Error);
}

}  // namespace attention_pattern_test
