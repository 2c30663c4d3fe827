// SPDX-License-Identifier: Apache-2.0
#include "support/tiny_clip.hpp"

#include <doctest/doctest.h>

namespace block_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

using Values = std::vector<double>;

struct Case {
    Sequences s;
    std::vector<std::int32_t> selected;  // empty and not class_tokens: no selection
    bool class_tokens = false;
    const char* gelu = "quick";
};

const Case cases[] = {
    {{0, 2, 5, false}, {}}, {{0, 2, 5, false}, {}, true}, {{0, 2, 4, true}, {}, false, "exact"},
    {{2, 2, 3, true}, {}},  {{2, 3, 3, true}, {2, 0, 1}}, {{0, 3, 3, true}, {1, 1, 2}, false, "exact"}};

/// One block of the tiny model's text (width 10).
template <class D>
struct Runner {
    using T = typename D::Scalar;
    D device = make_device<D>();
    TensorMap map;
    FrozenStore<D> store{device, WeightStorage::native};
    Block<D> block;
    const Case& c;
    Buffer<D, std::int32_t> positions{device, c.selected};

    explicit Runner(const Case& which) : map(tiny_clip(which.gelu)), c(which) {
        WeightReader<D> reader(store, map, schema::text_transformer, sizes_of(text_config(map)));
        Transformer<D> transformer = promptkd::detail::empty_blocks<D>(1, 10, 2, block_design(map, "text"));
        promptkd::detail::visit_blocks(reader, transformer);
        block = transformer.blocks[0];
    }
    std::optional<Selection> selected() const {
        if (c.selected.empty() && !c.class_tokens) return {};
        return Selection{c.selected.empty() ? nullptr : positions.data()};
    }
    Index queries() const { return selected() ? c.s.count : c.s.rows(); }

    /// y without a tape; `gradient` null, or dx for this dy, after a forward pass with a tape, whose y must be the
    /// same.
    Values forward(const Values& x, const Values* dy = nullptr, Values* gradient = nullptr) {
        Tensor<D> in(device, x), d_y(device, dy ? *dy : Values(1)),
            y(device, Values(static_cast<std::size_t>(queries() * 10)));
        Tensor<D> dx(device, x);
        Arena<D> arena(device);
        const Workspace<D> workspace{device, arena};
        planned(workspace, [&] {
            BlockTape<D> tape;
            block.forward(workspace, c.s, selected(), in.matrix(c.s.rows(), 10), y.matrix(queries(), 10),
                          dy ? &tape : nullptr);
            if (dy) block.backward(workspace, tape, d_y.matrix(queries(), 10), dx.matrix(c.s.rows(), 10));
        });
        if (gradient) {
            const std::vector<T> host = dx.to_host();
            gradient->assign(host.begin(), host.end());
        }
        const std::vector<T> host = y.to_host();
        return Values(host.begin(), host.end());
    }
};

}  // namespace

TEST_CASE_TEMPLATE("residual attention block: gradient, with and without a tape", D, PROMPTKD_TEST_DEVICES) {
    const double bound = std::max(2e-8, 10 * rounding<typename D::Scalar>);
    for (const Case& c : cases) {
        Runner<D> runner(c);
        Runner<Cpu<double>> reference(c);
        const Values x = numbers(c.s.rows() * 10, 100), dy = numbers(runner.queries() * 10, 101);
        Values dx;
        const Values taped = runner.forward(x, &dy, &dx);
        CHECK(difference(taped, reference.forward(x)) < bound);
        CHECK(difference(runner.forward(x), taped) == 0);
        CHECK(difference(dx, numeric_gradient(x, [&](const Values& v) { return dot(reference.forward(v), dy); })) <
              bound);
    }
}

TEST_CASE_TEMPLATE("residual attention block: selecting rows is computing all and reading some", D,
                   PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    for (const Case& c : cases) {
        if (c.selected.empty() && !c.class_tokens) continue;
        Case all = c;
        all.selected.clear();
        all.class_tokens = false;
        Runner<D> some(c), every(all);
        const Values x = numbers(c.s.rows() * 10, 102), dy = numbers(c.s.count * 10, 103);
        Values d_all(x.size(), 0.0), dx, dx_all, want;
        const auto row = [&](Index i) {
            return c.s.prefix + i * c.s.length + (c.selected.empty() ? 0 : c.selected[static_cast<std::size_t>(i)]);
        };
        for (Index i = 0; i < c.s.count; ++i) std::copy_n(dy.begin() + i * 10, 10, d_all.begin() + row(i) * 10);
        const Values y = some.forward(x, &dy, &dx), y_all = every.forward(x, &d_all, &dx_all);
        for (Index i = 0; i < c.s.count; ++i)
            want.insert(want.end(), y_all.begin() + row(i) * 10, y_all.begin() + row(i) * 10 + 10);
        CHECK(difference(y, want) < rounding<T>);
        CHECK(difference(dx, dx_all) < 2 * rounding<T>);
    }
}

}  // namespace block_test
