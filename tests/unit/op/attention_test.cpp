// SPDX-License-Identifier: Apache-2.0
#include "support/devices.hpp"

#include <doctest/doctest.h>

#include <promptkd/op/attention.hpp>
#include <promptkd/op/fused_attention.hpp>

namespace attention_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

using Values = std::vector<double>;

struct Case {
    Sequences s;
    std::vector<std::int32_t> selected;  // local positions; empty: all rows are queries
    bool class_tokens = false;           // selection without positions: row 0 of every sequence
    Index heads = 2, head_dim = 5;

    bool selects() const { return class_tokens || !selected.empty(); }
    Index queries() const { return selects() ? s.count : s.rows(); }
    Index width() const { return heads * head_dim; }
    /// Row of token t of sequence i.
    Index row(Index i, Index t) const { return t < s.prefix ? t : s.prefix + i * s.length + t - s.prefix; }
    /// Sequence and token of query r. A prefix row may be counted to any sequence: causal, it sees the prefix alone.
    std::pair<Index, Index> query(Index r) const {
        if (selects()) return {r, s.prefix + (selected.empty() ? 0 : selected[static_cast<std::size_t>(r)])};
        return r < s.prefix ? std::pair<Index, Index>{0, r}
                            : std::pair<Index, Index>{(r - s.prefix) / s.length, s.prefix + (r - s.prefix) % s.length};
    }
};

/// Attention by its definition; also the probabilities (heads, queries, tokens).
Values attention(const Case& c, const Values& q, const Values& k, const Values& v, Values* probabilities = nullptr) {
    const Index d = c.width(), tokens = c.s.tokens();
    Values o(static_cast<std::size_t>(c.queries() * d));
    for (Index h = 0; h < c.heads; ++h)
        for (Index r = 0; r < c.queries(); ++r) {
            const auto [i, t] = c.query(r);
            const Index visible = c.s.causal ? t + 1 : tokens;
            Values p(static_cast<std::size_t>(tokens), 0.0);
            double total = 0;
            for (Index u = 0; u < visible; ++u) {
                double score = 0;
                for (Index e = 0; e < c.head_dim; ++e)
                    score += q[static_cast<std::size_t>(r * d + h * c.head_dim + e)] *
                             k[static_cast<std::size_t>(c.row(i, u) * d + h * c.head_dim + e)];
                total += p[static_cast<std::size_t>(u)] = std::exp(score / std::sqrt(static_cast<double>(c.head_dim)));
            }
            for (Index u = 0; u < tokens; ++u) {
                p[static_cast<std::size_t>(u)] /= total;
                for (Index e = 0; e < c.head_dim; ++e)
                    o[static_cast<std::size_t>(r * d + h * c.head_dim + e)] +=
                        p[static_cast<std::size_t>(u)] *
                        v[static_cast<std::size_t>(c.row(i, u) * d + h * c.head_dim + e)];
            }
            if (probabilities) probabilities->insert(probabilities->end(), p.begin(), p.end());
        }
    return o;
}

std::vector<Case> cases() {
    return {{{0, 2, 5, false}, {}, false},          {{0, 3, 4, false}, {}, true},
            {{0, 2, 5, true}, {}, false},           {{0, 3, 5, true}, {4, 0, 2}, false},
            {{3, 2, 4, true}, {}, false},           {{3, 3, 4, true}, {3, 1, 0}, false},
            {{1, 2, 1, true}, {0, 0}, false, 3, 2}, {{0, 1, 40, false}, {}, false, 1, 16},
            {{4, 2, 20, true}, {}, false, 2, 3}};
}

/// The operands of a case in device memory: with a selection q apart and k, v side by side, else all three side by
/// side.
template <class D>
struct Setup {
    using T = typename D::Scalar;
    D device = make_device<D>();
    const Case& c;
    Index d = c.width(), rows = c.s.rows(), queries = c.queries();
    Values q = numbers(queries * d, 1, 1.5), k = numbers(rows * d, 2, 1.5), v = numbers(rows * d, 3),
           d_o = numbers(queries * d, 4);
    Buffer<D, std::int32_t> positions{device, c.selected};
    AttentionShape shape;
    std::vector<Buffer<D, T>> packed;
    QueriesKeysValues<T> x;
    Buffer<D, T> probabilities, o;
    Arena<D> arena{device};
    Workspace<D> workspace{device, arena};

    explicit Setup(const Case& which) : c(which) {
        shape.sequences = c.s;
        if (c.selects()) shape.selection = Selection{c.selected.empty() ? nullptr : positions.data()};
        shape.heads = c.heads;
        shape.head_dim = c.head_dim;
        if (c.selects()) packed.emplace_back(device, as<T>(q));
        packed.emplace_back(device, as<T>(c.selects() ? side_by_side({&k, &v}) : side_by_side({&q, &k, &v})));
        x = views(packed);
        probabilities = Buffer<D, T>(device, shape.scores());
        o = Buffer<D, T>(device, queries * d);
    }

    /// Queries, keys and values in memory laid out as `packed`.
    QueriesKeysValues<T> views(std::vector<Buffer<D, T>>& memory) const {
        if (c.selects()) {
            const Matrix<T> kv = memory[1].matrix(rows, 2 * d);
            return {memory[0].matrix(queries, d), kv.column_range(0, d), kv.column_range(d, d)};
        }
        const Matrix<T> all = memory[0].matrix(rows, 3 * d);
        return {all.column_range(0, d), all.column_range(d, d), all.column_range(2 * d, d)};
    }
    std::vector<Buffer<D, T>> gradient_memory() {
        std::vector<Buffer<D, T>> memory;
        for (const Buffer<D, T>& buffer : packed) memory.emplace_back(device, buffer.size());
        return memory;
    }
    Matrix<T> output() { return o.matrix(queries, d); }

    Values side_by_side(std::vector<const Values*> parts) const {
        Values out;
        for (Index i = 0; i < rows; ++i)
            for (const Values* part : parts) out.insert(out.end(), part->begin() + i * d, part->begin() + (i + 1) * d);
        return out;
    }

    void forward() {
        planned(workspace, [&] { attention_forward(workspace, shape, x, probabilities.data(), output()); });
    }
    /// Gradients in the memory of gradient_memory().
    void backward(const Tensor<D>& d_output, std::vector<Buffer<D, T>>& memory) {
        planned(workspace, [&] {
            attention_backward(workspace, shape, x, probabilities.data(), d_output.matrix(queries, d), views(memory));
        });
    }
    void fused_forward(Buffer<D, T>& log_sum) { fused_attention_forward(device, shape, x, log_sum.data(), output()); }
    void fused_backward(const Buffer<D, T>& log_sum, const Tensor<D>& d_output, std::vector<Buffer<D, T>>& memory) {
        planned(workspace, [&] {
            fused_attention_backward(workspace, shape, x, log_sum.data(), d_output.matrix(queries, d), views(memory));
        });
    }

    /// The probabilities without the columns that fill up their rows.
    std::vector<T> read_probabilities() {
        const std::vector<T> all = probabilities.to_host();
        std::vector<T> out;
        for (auto row = all.begin(); row != all.end(); row += shape.score_ld())
            out.insert(out.end(), row, row + c.s.tokens());
        return out;
    }
};

}  // namespace

TEST_CASE_TEMPLATE("attention forward: prefix, causal, selection", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    for (const Case& c : cases()) {
        Setup<D> x(c);
        x.forward();
        Values p;
        const Values want = attention(c, x.q, x.k, x.v, &p);
        CHECK(difference(x.o.to_host(), want) < rounding<T>);
        CHECK(difference(x.read_probabilities(), p) < rounding<T>);
    }
}

TEST_CASE_TEMPLATE("attention backward: prefix, causal, selection", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    for (const Case& c : cases()) {
        Setup<D> x(c);
        x.forward();
        std::vector<Buffer<D, T>> gradients = x.gradient_memory();
        x.backward(Tensor<D>(x.device, x.d_o), gradients);
        const Values gq = numeric_gradient(x.q, [&](const Values& q) { return dot(attention(c, q, x.k, x.v), x.d_o); });
        const Values gk = numeric_gradient(x.k, [&](const Values& k) { return dot(attention(c, x.q, k, x.v), x.d_o); });
        const Values gv = numeric_gradient(x.v, [&](const Values& v) { return dot(attention(c, x.q, x.k, v), x.d_o); });
        const double bound = std::max(1e-8, 2 * rounding<T>);
        if (c.selects()) {
            CHECK(difference(gradients[0].to_host(), gq) < bound);
            CHECK(difference(gradients[1].to_host(), x.side_by_side({&gk, &gv})) < bound);
        } else {
            CHECK(difference(gradients[0].to_host(), x.side_by_side({&gq, &gk, &gv})) < bound);
        }
    }
}

TEST_CASE_TEMPLATE("attention in tiles is the same", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    for (const bool causal : {false, true})
        for (const Index tile : {1, 2, 3, 4, 5, 7, 8, 9, 20}) {
            const Case c{{0, 5, 6, causal}, {}, false, 4, 3};
            Setup<D> whole(c), parts(c);
            parts.shape.tile = tile;
            CHECK(parts.shape.tiled() == (tile < 20));
            const auto run = [&](Setup<D>& x) {
                x.forward();
                std::vector<Buffer<D, T>> gradients = x.gradient_memory();
                x.backward(Tensor<D>(x.device, x.d_o), gradients);
                std::vector<T> all = gradients[0].to_host();
                const auto add = [&](const Buffer<D, T>& buffer) {
                    const std::vector<T> values = buffer.to_host();
                    all.insert(all.end(), values.begin(), values.end());
                };
                Buffer<D, T> output(x.device, x.o.size()), passing(x.device, x.shape.tile_scores());
                const Matrix<T> o = output.matrix(x.queries, x.d);
                attention_output(x.device, x.shape, x.x.v, x.probabilities.data(), o);
                add(output);
                planned(x.workspace,
                        [&] { attention_forward(x.workspace, x.shape, x.x, passing.data(), o, Keep::no); });
                add(output);
                add(x.o);
                return all;
            };
            // A GPU's library may choose another order of summation for other numbers of products.
            const std::vector<T> want = run(whole);
            constexpr bool exact = requires { D::host_memory; };
            const double bound = exact ? 0 : 2 * rounding<T>;
            CHECK(difference(run(parts), Values(want.begin(), want.end())) <= bound);
        }
}

TEST_CASE_TEMPLATE("fused attention is attention: outputs and gradients", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    const std::vector<Case> shapes = {{{0, 2, 5, false}, {}, false},        {{0, 2, 5, true}, {}, false},
                                      {{0, 2, 8, true}, {}, false, 3, 4},   {{0, 3, 19, false}, {}, false, 2, 6},
                                      {{0, 1, 21, true}, {}, false, 1, 16}, {{0, 1, 1, false}, {}, false},
                                      {{0, 1, 41, false}, {}, false, 1, 16}};
    for (const Case& c : shapes) {
        Setup<D> x(c);
        Buffer<D, T> log_sum(x.device, c.heads * x.rows);
        x.fused_forward(log_sum);
        CHECK(difference(x.o.to_host(), attention(c, x.q, x.k, x.v)) < rounding<T>);
        std::vector<Buffer<D, T>> gradients = x.gradient_memory();
        x.fused_backward(log_sum, Tensor<D>(x.device, x.d_o), gradients);
        const Values gq = numeric_gradient(x.q, [&](const Values& q) { return dot(attention(c, q, x.k, x.v), x.d_o); });
        const Values gk = numeric_gradient(x.k, [&](const Values& k) { return dot(attention(c, x.q, k, x.v), x.d_o); });
        const Values gv = numeric_gradient(x.v, [&](const Values& v) { return dot(attention(c, x.q, x.k, v), x.d_o); });
        CHECK(difference(gradients[0].to_host(), x.side_by_side({&gq, &gk, &gv})) < std::max(1e-8, 3 * rounding<T>));
    }
}

TEST_CASE_TEMPLATE("fused attention of CLIP's sequence lengths is the composed one", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    for (const Case& c : {Case{{0, 1, 577, false}, {}, false, 1, 64}, Case{{0, 1, 261, false}, {}, false, 1, 80},
                          Case{{0, 1, 77, true}, {}, false, 2, 64}}) {
        Setup<D> x(c);
        x.forward();
        const std::vector<T> o = x.o.to_host();
        const Tensor<D> d_o(x.device, x.d_o);
        std::vector<Buffer<D, T>> composed = x.gradient_memory(), fused = x.gradient_memory();
        Buffer<D, T> log_sum(x.device, c.heads * x.rows);
        x.backward(d_o, composed);
        x.fused_forward(log_sum);
        if constexpr (requires { D::team_memory_bytes; }) {  // on the CPU nothing limits a team's memory
            const D told = device_with<D>(AttentionKernel::fused);
            CHECK(uses_fused_attention(told, x.shape) == (sizeof(T) == 4 || c.s.length < 300));
            if (!uses_fused_attention(told, x.shape)) continue;
        }
        CHECK(!uses_fused_attention(x.device, x.shape));
        x.fused_backward(log_sum, d_o, fused);
        CHECK(difference(x.o.to_host(), Values(o.begin(), o.end())) < rounding<T>);
        const std::vector<T> want = composed[0].to_host();
        CHECK(difference(fused[0].to_host(), Values(want.begin(), want.end())) < 5 * rounding<T>);
    }
}

TEST_CASE_TEMPLATE("attention softmax survives large scores and hides keys", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    const Sequences s{0, 1, 3, true};
    Tensor<D> scores(device, {500, 999, 999, 88, 90, 999, -1e30, 1000, 1000});
    attention_softmax(device, s, {}, scores.matrix(3, 3), scores.matrix(3, 3));
    const double e = 1 / (1 + std::exp(-2.0));
    CHECK(difference(scores.to_host(), {1, 0, 0, 1 - e, e, 0, 0, 0.5, 0.5}) < rounding<T>);
}

}  // namespace attention_test
