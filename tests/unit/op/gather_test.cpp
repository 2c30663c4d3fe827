// SPDX-License-Identifier: Apache-2.0
#include "support/devices.hpp"

#include <doctest/doctest.h>

#include <promptkd/op/patches.hpp>
#include <promptkd/op/sequences.hpp>

namespace gather_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

using Values = std::vector<double>;

/// Row i of a (·, d) matrix.
double& element(Values& x, Index i, Index j, Index d) { return x[static_cast<std::size_t>(i * d + j)]; }
double element(const Values& x, Index i, Index j, Index d) { return x[static_cast<std::size_t>(i * d + j)]; }

/// Three prompts, each used up to twice; one use is absent, and the table is wider than the uses.
const std::vector<std::int32_t> table = {2, 9, 77, 4, -1, 77, 0, 7, 77};
constexpr Index prompts = 3, uses = 2, stride = 3, rows = 10;

}  // namespace

TEST_CASE_TEMPLATE("prompts are placed, added, collected and cleared", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    for (const Index d : {3, 16, 37}) {
        const Values x = numbers(rows * d, 1), p = numbers(prompts * d, 2), g = numbers(prompts * d, 3);
        Values overwritten = x, added = x, collected = g, cleared = x;
        for (Index j = 0; j < prompts; ++j)
            for (Index b = 0; b < uses; ++b) {
                const Index at = table[static_cast<std::size_t>(j * stride + b)];
                for (Index c = 0; at >= 0 && c < d; ++c) {
                    element(overwritten, at, c, d) = element(p, j, c, d);
                    element(added, at, c, d) += element(p, j, c, d);
                    element(collected, j, c, d) += element(x, at, c, d);
                    element(cleared, at, c, d) = 0;
                }
            }
        Buffer<D, std::int32_t> places(device, table);
        const Placement place{prompts, uses, stride, places.data()};
        Tensor<D> vectors(device, p), a(device, x), b(device, x), c(device, x), gradient(device, g);
        overwrite_prompts(device, place, vectors.matrix(prompts, d), a.matrix(rows, d));
        add_prompts(device, place, vectors.matrix(prompts, d), b.matrix(rows, d));
        collect_prompt_gradients(device, place, c.matrix(rows, d), gradient.matrix(prompts, d));
        clear_prompt_rows(device, place, c.matrix(rows, d));
        CHECK(difference(a.to_host(), overwritten) == 0);
        CHECK(difference(b.to_host(), added) < rounding<T>);
        CHECK(difference(gradient.to_host(), collected) < rounding<T>);
        CHECK(difference(c.to_host(), cleared) == 0);
    }
}

TEST_CASE_TEMPLATE("selected rows are gathered and scattered back", D, PROMPTKD_TEST_DEVICES) {
    D device = make_device<D>();
    const Sequences s{2, 3, 4, true};
    const std::vector<std::int32_t> positions = {3, 0, 2};
    for (const Index d : {1, 16, 21})
        for (const bool chosen : {false, true}) {
            const Values x = numbers(s.rows() * d, 4), y = numbers(s.count * d, 5);
            Values gathered(y.size()), scattered = x;
            for (Index i = 0; i < s.count; ++i)
                for (Index j = 0; j < d; ++j) {
                    const Index row = 2 + i * 4 + (chosen ? positions[static_cast<std::size_t>(i)] : 0);
                    element(gathered, i, j, d) = element(x, row, j, d);
                    element(scattered, row, j, d) += element(y, i, j, d);
                }
            Buffer<D, std::int32_t> ends(device, positions);
            const Selection selection{chosen ? ends.data() : nullptr};
            Tensor<D> in(device, x), parts(device, y), out(device, y);
            gather_selected(device, s, selection, in.matrix(s.rows(), d), out.matrix(s.count, d));
            scatter_add_selected(device, s, selection, parts.matrix(s.count, d), in.matrix(s.rows(), d));
            CHECK(difference(out.to_host(), gathered) == 0);
            CHECK(difference(in.to_host(), scattered) < rounding<typename D::Scalar>);
        }
}

TEST_CASE_TEMPLATE("patches in the order of a convolution's weight", D, PROMPTKD_TEST_DEVICES) {
    D device = make_device<D>();
    const Index batch = 2, grid = 3, patch = 5, resolution = 16;  // one pixel is left over at the edge
    const Values images = numbers(batch * 3 * resolution * resolution, 6);
    Values want;
    for (Index b = 0; b < batch; ++b)
        for (Index gy = 0; gy < grid; ++gy)
            for (Index gx = 0; gx < grid; ++gx)
                for (Index channel = 0; channel < 3; ++channel)
                    for (Index y = 0; y < patch; ++y)
                        for (Index x = 0; x < patch; ++x)
                            want.push_back(images[static_cast<std::size_t>(
                                ((b * 3 + channel) * resolution + gy * patch + y) * resolution + gx * patch + x)]);
    Tensor<D> in(device, images), out(device, want);
    device.zero(out.data(), want.size() * sizeof(typename D::Scalar));
    const PatchGrid cut{grid, patch, resolution};
    extract_patches(device, in.matrix(batch, cut.image_values()), cut,
                    out.matrix(batch * cut.cells(), cut.patch_values()));
    CHECK(difference(out.to_host(), want) == 0);
}

TEST_CASE_TEMPLATE("tokens: class token, patches, prompts; positions under all but the prompts", D,
                   PROMPTKD_TEST_DEVICES) {
    D device = make_device<D>();
    const Index batch = 2, cells = 4, d = 18;
    for (const Index count : {0, 3}) {
        const Values patches = numbers(batch * cells * d, 7), first = numbers(d, 8);
        const Values positions = numbers((cells + 1) * d, 9), p = numbers(3 * d, 10);
        Values want;
        for (Index b = 0; b < batch; ++b)
            for (Index t = 0; t < 1 + cells + count; ++t)
                for (Index j = 0; j < d; ++j)
                    want.push_back(t == 0 ? first[static_cast<std::size_t>(j)] + element(positions, 0, j, d)
                                   : t > cells
                                       ? element(p, t - cells - 1, j, d)
                                       : element(patches, b * cells + t - 1, j, d) + element(positions, t, j, d));
        Tensor<D> in(device, patches), token(device, first), place(device, positions), prompt(device, p),
            out(device, want);
        device.zero(out.data(), want.size() * sizeof(typename D::Scalar));
        const TokenParts<typename D::Scalar> parts{token.read(), place.matrix(cells + 1, d), prompt.matrix(count, d)};
        assemble_tokens(device, in.matrix(batch * cells, d), cells, parts, out.matrix(batch * (1 + cells + count), d));
        CHECK(difference(out.to_host(), want) < rounding<typename D::Scalar>);
    }
}

}  // namespace gather_test
