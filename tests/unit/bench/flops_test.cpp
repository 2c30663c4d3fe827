// SPDX-License-Identifier: Apache-2.0
// The products that a pass runs, counted and compared with a formula: savings that are not in force would show.
#include "support/tiny_clip.hpp"

#include <bench/support/profile.hpp>

#include <doctest/doctest.h>

namespace flops_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

using D = bench::Profiled<Cpu<double>>;

/// Linear layers of a block, forward or backward to the input: in_proj 3d², out_proj d², c_fc and c_proj 4d² each.
double linear(Index rows, Index d) { return 24.0 * static_cast<double>(rows * d * d); }
/// The last block's: keys and values of every row, all else of one row a sequence.
double last_linear(Index rows, Index count, Index d) {
    return static_cast<double>(4 * rows * d * d + 20 * count * d * d);
}
/// `products` products of attention, over `pairs` of a query and a key.
double attention(Index products, Index pairs, Index d) { return 2.0 * static_cast<double>(products * pairs * d); }

constexpr Index width = 12, patches = 4, layers = 3, embedding = 6, batch = 3, prompts = 2;

}  // namespace

TEST_CASE("FLOPs of the image encoder: no more than the class token of the last block, none for frozen weights") {
    D device(1);
    ClipModel<D> model(device, tiny_clip());
    ParamSet<D> params(device);
    auto layers_of_prompts = add_visual_prompts(params, prompts, layers, width);
    params.bind();
    auto table = model.vision().place_prompts(device, prompts, batch);
    const Buffer<D, double> images(device, numbers(batch * 192, 1)), d_features(device, numbers(batch * embedding, 2));
    Buffer<D, double> features(device, batch * embedding);
    Arena<D> arena(device);
    const auto counted = [&](bool backward) {
        const Workspace<D> workspace{device, arena};
        const PlacedPrompts<double> placed{&layers_of_prompts, table.view(batch)};
        planned(workspace, [&] {
            device.reset();
            VisionTape<D> tape;
            model.vision().forward(workspace, images.matrix(batch, 192), placed, features.matrix(batch, embedding),
                                   backward ? &tape : nullptr);
            if (backward) model.vision().backward(workspace, d_features.matrix(batch, embedding), placed, tape);
        });
        return device.flops();
    };
    const Index tokens = 1 + patches + prompts, rows = batch * tokens, pairs = rows * tokens;
    const double blocks = (layers - 1) * linear(rows, width) + last_linear(rows, batch, width);
    const double projection = 2.0 * batch * width * embedding, patch = 2.0 * batch * patches * 48 * width;
    const auto mixing = [&](Index products) {
        return (layers - 1) * attention(products, pairs, width) + attention(products, rows, width);
    };
    const double forward = patch + blocks + mixing(2) + projection;
    CHECK(counted(false) == forward);
    CHECK(counted(true) == forward + blocks + mixing(4) + projection);
}

TEST_CASE("FLOPs: counted without waiting as with it, none while planning") {
    bench::Counted<Cpu<double>> counted(1);
    const Buffer<Cpu<double>, double> x(counted, numbers(12, 1)), y(counted, numbers(20, 2));
    Buffer<Cpu<double>, double> z(counted, 15);
    Gemm g;
    g.m = 3;
    g.n = 5;
    g.k = 4;
    g.a = operand(x.data(), 4);
    g.b = transposed(y.data(), 4);
    g.c = z.data();
    g.ldc = 5;
    g.c_type = dtype_of<double>;
    counted.gemm(g);
    {
        const PlanningScope planning(counted);
        counted.gemm(g);
    }
    CHECK(counted.flops() == 2.0 * 3 * 5 * 4);
    counted.reset();
    CHECK(counted.flops() == 0);
}

TEST_CASE("FLOPs of the text encoder: shared tokens once, nothing behind the longest text") {
    D device(1);
    ClipModel<D> model(device, tiny_clip());
    ParamSet<D> params(device);
    const Param<double>& context = params.add("context", {2, 10});
    params.bind();
    const TokenRows& texts = tiny_texts;
    Arena<D> arena(device);
    Buffer<D, double> features(device, texts.count * embedding);
    const auto counted = [&](TextSavings savings) {
        auto prepared =
            model.text().prepare(device, texts, ContextLayout::after_start(texts.count, 2, false), 0, savings);
        const Workspace<D> workspace{device, arena};
        planned(workspace, [&] {
            device.reset();
            model.text().forward(workspace, prepared, {context.value, nullptr}, features.matrix(texts.count, embedding),
                                 nullptr);
        });
        return device.flops();
    };
    const auto expected = [&](Index prefix, Index tokens) {
        const Index d = 10, run = tokens - prefix, count = texts.count, rows = prefix + count * run;
        return linear(rows, d) + attention(2, rows * prefix + count * run * run, d) + last_linear(rows, count, d) +
               attention(2, count * tokens, d) + 2.0 * static_cast<double>(count * d * embedding);
    };
    CHECK(counted({false, false}) == expected(0, 8));
    CHECK(counted({true, false}) == expected(0, 7));
    CHECK(counted({false, true}) == expected(4, 8));
    CHECK(counted({true, true}) == expected(4, 7));
}

}  // namespace flops_test
