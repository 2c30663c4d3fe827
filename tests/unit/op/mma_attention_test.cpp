// SPDX-License-Identifier: Apache-2.0
// Attention on the matrix units against its formulas in double and against the composed attention of the same device.
#include "support/devices.hpp"

#include <doctest/doctest.h>

#include <promptkd/op/recomputed_attention.hpp>

namespace mma_attention_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

using Values = std::vector<double>;

/// Rounding to A in front of products, and of results.
template <class A>
constexpr double bound_of = std::is_same_v<A, bf16> ? 1.5e-2 : 2e-3;

struct Case {
    Sequences s;
    Index heads = 1, head_dim = 64;

    Index width() const { return heads * head_dim; }
    AttentionShape shape() const {
        AttentionShape shape;
        shape.sequences = s;
        shape.heads = heads;
        shape.head_dim = head_dim;
        return shape;
    }
};

struct Gradients {
    Values q, k, v;
};

/// Attention by its definition in double, forward and backward. All matrices are (rows, width).
class Reference {
public:
    Reference(const Case& c, const Values& q, const Values& k, const Values& v) : c_(c), q_(q), k_(k), v_(v) {
        o = Values(q.size());
        for (Index i = 0; i < c.s.count; ++i)
            for (Index h = 0; h < c.heads; ++h)
                for (Index t = 0; t < c.s.length; ++t) {
                    const Place at{i, h, t};
                    const Values p = weights(at);
                    for (Index u = 0; u < visible(at); ++u) add(o, at, p[index(u)], v_, at.with(u));
                }
    }

    Gradients gradients(const Values& d_o) const {
        Gradients g{Values(o.size()), Values(o.size()), Values(o.size())};
        for (Index i = 0; i < c_.s.count; ++i)
            for (Index h = 0; h < c_.heads; ++h)
                for (Index t = 0; t < c_.s.length; ++t) add_gradients({i, h, t}, d_o, g);
        return g;
    }

    Values o;

private:
    struct Place {
        Index sequence, head, token;
        Place with(Index other) const { return {sequence, head, other}; }
    };
    static std::size_t index(Index i) { return static_cast<std::size_t>(i); }
    std::size_t first(const Place& at) const {
        return index((at.sequence * c_.s.length + at.token) * c_.width() + at.head * c_.head_dim);
    }
    Index visible(const Place& at) const { return c_.s.causal ? at.token + 1 : c_.s.length; }
    double scale() const { return 1 / std::sqrt(static_cast<double>(c_.head_dim)); }

    double product(const Values& x, const Place& at, const Values& y, const Place& of) const {
        double total = 0;
        for (std::size_t e = 0; e < index(c_.head_dim); ++e) total += x[first(at) + e] * y[first(of) + e];
        return total;
    }
    void add(Values& to, const Place& at, double factor, const Values& x, const Place& from) const {
        for (std::size_t e = 0; e < index(c_.head_dim); ++e) to[first(at) + e] += factor * x[first(from) + e];
    }
    Values weights(const Place& at) const {
        Values p(index(visible(at)));
        for (Index u = 0; u < visible(at); ++u) p[index(u)] = scale() * product(q_, at, k_, at.with(u));
        softmax_on_host(p.data(), visible(at));
        return p;
    }
    void add_gradients(const Place& at, const Values& d_o, Gradients& g) const {
        const Values p = weights(at);
        Values d_p(p.size());
        for (Index u = 0; u < visible(at); ++u) d_p[index(u)] = product(d_o, at, v_, at.with(u));
        const double mean = dot(p, d_p);
        for (Index u = 0; u < visible(at); ++u) {
            const double d_s = scale() * p[index(u)] * (d_p[index(u)] - mean);
            add(g.q, at, d_s, k_, at.with(u));
            add(g.k, at.with(u), d_s, q_, at);
            add(g.v, at.with(u), p[index(u)], d_o, at);
        }
    }

    Case c_;
    Values q_, k_, v_;
};

/// Columns of a matrix in device memory that has columns and rows of NaN beside it, which must stay.
template <class D>
class Framed {
public:
    using A = typename D::Activation;
    static constexpr Index side = 8;

    Framed(D& device, Index rows, Index columns) : rows_(rows), columns_(columns), ld_(columns + 2 * side) {
        memory_ = Buffer<D, A>(device, std::vector<A>(static_cast<std::size_t>((rows + 2) * ld_), A(NAN)));
    }
    /// Holds `parts`, (rows, width) each, side by side.
    Framed(D& device, Index rows, const std::vector<const Values*>& parts)
        : Framed(device, rows, static_cast<Index>(parts.size() * parts[0]->size()) / rows) {
        std::vector<A> host = memory_.to_host();
        const Index width = columns_ / static_cast<Index>(parts.size());
        for (Index i = 0; i < rows; ++i)
            for (Index j = 0; j < columns_; ++j)
                host[at(i, j)] = A(static_cast<float>(
                    (*parts[static_cast<std::size_t>(j / width)])[static_cast<std::size_t>(i * width + j % width)]));
        device.upload(memory_.data(), host.data(), host.size() * sizeof(A));
        device.synchronize();
    }
    Matrix<A> matrix() { return {memory_.data() + ld_ + side, rows_, columns_, ld_}; }
    /// Part `which` of `parts`; throws when the frame was written to.
    Values read(Index which, Index parts) const {
        const std::vector<A> host = memory_.to_host();
        const Index width = columns_ / parts;
        Values found;
        for (Index i = -1; i <= rows_; ++i)
            for (Index j = -side; j < columns_ + side; ++j) {
                const auto value = static_cast<double>(static_cast<float>(host[at(i, j)]));
                const bool inside = i >= 0 && i < rows_ && j >= 0 && j < columns_;
                require(inside || std::isnan(value), "something wrote beside the matrix");
                if (inside && j / width == which) found.push_back(value);
            }
        return found;
    }

private:
    std::size_t at(Index i, Index j) const { return static_cast<std::size_t>((i + 1) * ld_ + side + j); }

    Index rows_, columns_, ld_;
    Buffer<D, A> memory_;
};

/// Queries, keys and values side by side.
template <class D>
QueriesKeysValues<typename D::Activation> split(Framed<D>& x) {
    const auto all = x.matrix();
    const Index d = all.columns / 3;
    return {all.column_range(0, d), all.column_range(d, d), all.column_range(2 * d, d)};
}

/// Output and gradients of an attention.
struct Result {
    Values o, log_sum, dq, dk, dv;
};

/// Scores whose weights are unequal, so that a key in a wrong place is seen.
template <class D>
struct Setup {
    using A = typename D::Activation;
    D device = device_with<D>(AttentionKernel::mma);
    Case c;
    AttentionShape shape = c.shape();
    Index rows = c.s.rows(), d = c.width();
    Values q = numbers<A>(rows * d, 1, 1.5), k = numbers<A>(rows * d, 2, 1.5), v = numbers<A>(rows * d, 3),
           d_o = numbers<A>(rows * d, 4);
    Framed<D> x{device, rows, {&q, &k, &v}}, d_out{device, rows, {&d_o}};
    Arena<D> arena{device};
    Workspace<D> workspace{device, arena};

    explicit Setup(const Case& which) : c(which) {}

    Result run() {
        REQUIRE(attention_kernel(device, shape) == AttentionKernel::mma);
        Framed<D> o(device, rows, d), gradients(device, rows, 3 * d);
        Buffer<D, float> log_sum(device, std::vector<float>(static_cast<std::size_t>(c.heads * rows), NAN));
        planned(workspace, [&] {
            recomputed_attention_forward(device, shape, split(x), log_sum.data(), o.matrix());
            recomputed_attention_backward(workspace, shape, split(x), log_sum.data(), d_out.matrix(), split(gradients));
        });
        const std::vector<float> sums = log_sum.to_host();
        return {o.read(0, 1), Values(sums.begin(), sums.end()), gradients.read(0, 3), gradients.read(1, 3),
                gradients.read(2, 3)};
    }
    Result run_composed() {
        Framed<D> o(device, rows, d), gradients(device, rows, 3 * d);
        Buffer<D, A> probabilities(device, shape.scores());
        planned(workspace, [&] {
            attention_forward(workspace, shape, split(x), probabilities.data(), o.matrix());
            attention_backward(workspace, shape, split(x), probabilities.data(), Matrix<const A>(d_out.matrix()),
                               split(gradients));
        });
        return {o.read(0, 1), {}, gradients.read(0, 3), gradients.read(1, 3), gradients.read(2, 3)};
    }
};

template <class D>
void check_case(const Case& c, bool composed) {
    const double bound = bound_of<typename D::Activation>;
    CAPTURE(c.s.length);
    CAPTURE(c.s.causal);
    CAPTURE(c.head_dim);
    Setup<D> x(c);
    const Result found = x.run();
    const Reference reference(c, x.q, x.k, x.v);
    const Gradients want = reference.gradients(x.d_o);
    CHECK(difference(found.o, reference.o) < bound);
    CHECK(difference(found.dq, want.q) < bound);
    CHECK(difference(found.dk, want.k) < bound);
    CHECK(difference(found.dv, want.v) < bound);
    if (!composed) return;
    const Result other = x.run_composed();
    CHECK(difference(found.o, other.o) < bound);
    CHECK(difference(found.dq, other.dq) < bound);
    CHECK(difference(found.dk, other.dk) < bound);
    CHECK(difference(found.dv, other.dv) < bound);
}

/// A product of the primitives alone: c (16 × 16) = left·rightᵀ + left·right, all of A, stored where
/// accumulator_place() says.
template <class A>
struct MultiplyTiles {
    static constexpr int warps = 2, teams_at_once = 1;
    using Tile = promptkd::detail::MemoryTile<32, 16>;
    const A* left;
    const A* right;
    float* c;

    Index memory_bytes() const { return 2 * Tile::values * static_cast<Index>(sizeof(A)); }

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index) const {
        using Warp = typename Team::Warp;
        A* memory = team.template memory<A>();
        const A *x = left, *y = right;
        team.template copy_async<16, 2>(2 * 32, [=](int i, int chunk) {
            const int which = i / 32, row = i % 32;
            const A* from = (which ? y : x) + row * 16 + 8 * chunk;
            return AsyncCopy{memory + which * Tile::values + row * Tile::ld + 8 * chunk, from, row != 31};
        });
        team.commit();
        team.template wait<0>();
        team.warps([&](Warp& warp) {
            typename Warp::template Values<std::uint32_t, 4> factor;
            typename Warp::template Values<float, 8> sum;
            const A* own = memory + 16 * warp.index() * Tile::ld;
            promptkd::detail::fill<8>(warp, sum, 0.0f);
            Tile::load_left(warp, factor, own);
            Tile::add_products(warp, sum, 0, factor, own + Tile::values);
            Tile::add_mix(warp, sum, factor, 0, own + Tile::values);
            float* to = c + warp.index() * 256;
            warp.lanes([&](int lane) {
                for (int i = 0; i < 8; ++i) {
                    const FragmentPlace place = accumulator_place(lane, i % 4);
                    to[place.row * 16 + i / 4 * 8 + place.column] = sum.at(lane, i);
                }
            });
        });
    }
};

}  // namespace

TEST_CASE_TEMPLATE("matrix units: fragments, products, copies", D, PROMPTKD_TEST_DEVICES_MATRIX) {
    using A = typename D::Activation;
    D device;
    const Values left = numbers<A>(32 * 16, 1), right = numbers<A>(32 * 16, 2);
    const Tensor<D, A> x(device, left), y(device, right);
    Buffer<D, float> c(device, 512);
    device.matrix_teams(1, MultiplyTiles<A>{x.data(), y.data(), c.data()});
    Values want(512);
    for (std::size_t w = 0; w < 2; ++w)
        for (std::size_t i = 0; i < 16; ++i)
            for (std::size_t j = 0; j < 16; ++j)
                for (std::size_t k = 0; k < 16; ++k) {
                    const auto at = [w](const Values& of, std::size_t row, std::size_t column) {
                        return 16 * w + row == 31 ? 0 : of[(16 * w + row) * 16 + column];
                    };
                    want[w * 256 + i * 16 + j] += at(left, i, k) * (at(right, j, k) + at(right, k, j));
                }
    CHECK(difference(c.to_host(), want) < 1e-5);
}

TEST_CASE_TEMPLATE("attention on the matrix units: short sequences, heads, causal", D, PROMPTKD_TEST_DEVICES_MATRIX) {
    for (const bool causal : {false, true})
        for (const Index head_dim : {64, 80}) {
            check_case<D>({{0, 3, 1, causal}, 2, head_dim}, true);
            check_case<D>({{0, 3, 5, causal}, 2, head_dim}, true);
            check_case<D>({{0, 2, 50, causal}, 2, head_dim}, true);
        }
    check_case<D>({{0, 2, 64, true}, 1, 64}, true);
    check_case<D>({{0, 2, 77, true}, 1, 64}, true);
}

TEST_CASE_TEMPLATE("attention on the matrix units: CLIP's sequence lengths", D, PROMPTKD_TEST_DEVICES_MATRIX) {
    const bool brain = std::is_same_v<typename D::Activation, bf16>;  // the long ones once for each type
    check_case<D>({{0, 1, 197, false}, 1, 64}, true);
    check_case<D>({{0, 1, 201, brain}, 1, 64}, false);
    check_case<D>({{0, 1, 257, !brain}, 1, 80}, false);
    check_case<D>({{0, 1, 261, brain}, 1, 80}, false);
    check_case<D>({{0, 1, 577, !brain}, 1, brain ? 64 : 80}, false);
}

TEST_CASE_TEMPLATE("attention on the matrix units: the logarithm, large scores, every run the same", D,
                   PROMPTKD_TEST_DEVICES_MATRIX) {
    using A = typename D::Activation;
    const Case c{{0, 1, 70, false}, 2, 64};
    Setup<D> x(c);
    x.q = numbers<A>(x.rows * x.d, 1, 12);  // one key alone has most of the weight: exp would overflow
    x.x = Framed<D>(x.device, x.rows, {&x.q, &x.k, &x.v});
    const Result found = x.run(), again = x.run();
    const Reference reference(c, x.q, x.k, x.v);
    CHECK(difference(found.o, reference.o) < bound_of<A>);
    CHECK(difference(found.dv, reference.gradients(x.d_o).v) < bound_of<A>);
    CHECK(found.o == again.o);
    CHECK(found.dq == again.dq);
    CHECK(found.dk == again.dk);
    CHECK(found.dv == again.dv);
    Values sums;
    for (Index h = 0; h < c.heads; ++h)
        for (Index t = 0; t < c.s.length; ++t) {
            Values scores;
            for (Index u = 0; u < c.s.length; ++u) {
                double score = 0;
                for (Index e = h * 64; e < (h + 1) * 64; ++e)
                    score +=
                        x.q[static_cast<std::size_t>(t * x.d + e)] * x.k[static_cast<std::size_t>(u * x.d + e)] / 8;
                scores.push_back(score);
            }
            const double top = *std::max_element(scores.begin(), scores.end());
            double total = 0;
            for (const double score : scores) total += std::exp(score - top);
            sums.push_back(top + std::log(total));
        }
    CHECK(difference(found.log_sum, sums) < 1e-5);
}

TEST_CASE_TEMPLATE("attention on the matrix units: which shapes it takes", D, PROMPTKD_TEST_DEVICES_MATRIX) {
    const D told = device_with<D>(AttentionKernel::mma), plain = device_with<D>(AttentionKernel::composed);
    const std::int32_t* some = nullptr;
    const Case taken{{0, 2, 50, true}, 2, 64};
    CHECK(attention_kernel(told, taken.shape()) == AttentionKernel::mma);
    CHECK(attention_kernel(plain, taken.shape()) == AttentionKernel::composed);
    CHECK(attention_kernel(told, Case{{0, 2, 600, false}, 2, 80}.shape()) == AttentionKernel::mma);
    for (const Case& c : {Case{{0, 2, 601, false}, 2, 64}, Case{{3, 2, 50, true}, 2, 64}, Case{{0, 2, 50, true}, 2, 32},
                          Case{{0, 2, 50, true}, 2, 96}})
        CHECK(attention_kernel(told, c.shape()) == AttentionKernel::composed);
    AttentionShape one_query = taken.shape();
    one_query.selection = Selection{some};
    CHECK(attention_kernel(told, one_query) == AttentionKernel::composed);
    AttentionShape limited = taken.shape();
    const std::int32_t keys = 1;
    limited.sequences.last_row_keys = &keys;
    CHECK(attention_kernel(told, limited) == AttentionKernel::composed);
}

TEST_CASE("the attention that is asked for, or that the environment names") {
    CHECK(chosen_attention({}) == AttentionKernel::composed);
    CHECK(chosen_attention(AttentionKernel::fused) == AttentionKernel::fused);
    CHECK(parse_attention_kernel("composed", "x") == AttentionKernel::composed);
    CHECK(parse_attention_kernel("fused", "x") == AttentionKernel::fused);
    CHECK(parse_attention_kernel("mma", "x") == AttentionKernel::mma);
    CHECK_THROWS_WITH_AS(parse_attention_kernel("Mma", "PROMPTKD_ATTENTION"),
                         "PROMPTKD_ATTENTION=Mma: expected composed, fused or mma", Error);
}

}  // namespace mma_attention_test
