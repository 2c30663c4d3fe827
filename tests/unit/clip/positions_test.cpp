// SPDX-License-Identifier: Apache-2.0
// Position embeddings at another resolution: the three rules.
#include "support/tiny_clip.hpp"

#include <promptkd/clip/checkpoint/positions.hpp>
#include <promptkd/clip/checkpoint/resolution.hpp>

#include <doctest/doctest.h>

namespace promptkd::test::positions_test {

namespace {

/// One class token (9) and a grid of n × n, value of column x and row y: f(x, y).
template <class F>
HostTensor grid(Index n, F&& f) {
    std::vector<float> values{9};
    for (Index y = 0; y < n; ++y)
        for (Index x = 0; x < n; ++x) values.push_back(static_cast<float>(f(x, y)));
    return make_tensor(values, {n * n + 1, 1});
}

std::vector<float> line(Index from, Index to, PositionFilter filter) {
    const HostTensor out = resize_positions(grid(from, [](Index x, Index) { return x * x; }), 1, to, filter);
    const std::vector<float> all = out.to<float>();
    return {all.begin() + 1, all.begin() + 1 + to};
}

void check(const std::vector<float>& got, const std::vector<double>& want) {
    REQUIRE(got.size() == want.size());
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == doctest::Approx(want[i]).epsilon(3e-6));
}

}  // namespace

// 0, 1, 4, 9 (and 16): antialiased as Pillow's floating-point bicubic, the others by their sums of four and two.
TEST_CASE("positions: numbers of the three filters") {
    check(line(4, 6, PositionFilter::bilinear), {0, 0.5, 1.5, 3.5, 6.5, 9});
    check(line(4, 6, PositionFilter::bicubic_antialiased),
          {-0.06578948, 0.29411766, 1.36111116, 3.36111116, 6.82352924, 9.32894707});
    check(line(4, 3, PositionFilter::bicubic_antialiased), {0.07551488, 2.35919547, 7.93592691});
    check(line(5, 2, PositionFilter::bicubic_antialiased), {1.13513517, 10.28091049});
    check(line(4, 6, PositionFilter::bicubic), {-0.08680556, 0.21875, 1.43055556, 3.15277778, 6.78125, 9.43402778});
    check(line(4, 3, PositionFilter::bicubic), {0.09143519, 2.125, 8.33449074});
}

TEST_CASE("positions: what every filter keeps") {
    for (const PositionFilter filter :
         {PositionFilter::bicubic_antialiased, PositionFilter::bicubic, PositionFilter::bilinear}) {
        for (const Index to : {2, 3, 4, 5, 9}) {
            CAPTURE(to);
            const HostTensor flat = resize_positions(grid(4, [](Index, Index) { return 2; }), 1, to, filter);
            CHECK(flat.to<float>().front() == 9);  // the class token's
            for (std::size_t i = 1; i < static_cast<std::size_t>(to * to + 1); ++i)
                CHECK(flat.to<float>()[i] == doctest::Approx(2));
            const HostTensor a =
                resize_positions(grid(4, [](Index x, Index y) { return x * x + 3 * y; }), 1, to, filter);
            const HostTensor b =
                resize_positions(grid(4, [](Index x, Index y) { return y * y + 3 * x; }), 1, to, filter);
            for (Index y = 0; y < to; ++y)
                for (Index x = 0; x < to; ++x)
                    CHECK(a.to<float>()[static_cast<std::size_t>(1 + y * to + x)] ==
                          doctest::Approx(b.to<float>()[static_cast<std::size_t>(1 + x * to + y)]));
        }
        const HostTensor same = resize_positions(grid(4, [](Index x, Index y) { return x - 5 * y; }), 1, 4, filter);
        CHECK(same.to<float>() == grid(4, [](Index x, Index y) { return x - 5 * y; }).to<float>());
    }
    CHECK_THROWS_WITH_AS(resize_positions(make_tensor(std::vector<float>(6), {6, 1}), 1, 2, PositionFilter::bilinear),
                         doctest::Contains("not those of a square"), Error);
}

TEST_CASE("positions: a model at another resolution, and a preprocessing of that size") {
    TensorMap map = tiny_clip();
    detail::interpolate_positions(map, schema::Layout::openai, 16);
    CHECK(vision_config(map).resolution() == 16);
    detail::interpolate_positions(map, schema::Layout::openai, 15);  // three pixels are left over at the edge
    CHECK(vision_config(map).resolution() == 15);
    CHECK(vision_config(map).grid == 3);
    CHECK_THROWS_WITH_AS(detail::interpolate_positions(map, schema::Layout::openai, 3),
                         doctest::Contains("less than a patch of 4"), Error);
    ImageInputOptions options;
    options.resolution = 12;
    detail::use_image_input(options, schema::Layout::huggingface, {}, {}, map);
    CHECK(vision_config(map).resolution() == 12);
    CHECK(map.metadata.count(preprocessing_key) == 0);
    Cpu<float> device(1);
    CHECK(ClipModel<Cpu<float>>(device, map).preprocessing() == Preprocessing::clip(12));
}

TEST_CASE("positions: a configuration of another image size is followed as open_clip does, refused as Hugging Face") {
    std::string said;
    const auto warn = [&](const std::string& text) { said = text; };
    TensorMap map = tiny_clip();
    map.metadata[detail::image_size_key] = "8";
    detail::use_image_input({}, schema::Layout::openai, {}, warn, map);
    CHECK(said.empty());
    CHECK(map.metadata.count(detail::image_size_key) == 0);
    map.metadata[detail::image_size_key] = "18";  // two pixels are left over at the edge
    detail::use_image_input({}, schema::Layout::openai, {}, warn, map);
    CHECK(vision_config(map).resolution() == 18);
    CHECK(said.find("interpolated for the image_size 18") != std::string::npos);
    map.metadata[detail::image_size_key] = "8";
    CHECK_THROWS_WITH_AS(detail::use_image_input({}, schema::Layout::huggingface, {}, warn, map),
                         doctest::Contains("says image_size 8"), Error);
}

}  // namespace promptkd::test::positions_test
