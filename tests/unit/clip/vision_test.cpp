// SPDX-License-Identifier: Apache-2.0
#include "support/tiny_towers.hpp"

#include <promptkd/clip/trainable_vision.hpp>

#include <doctest/doctest.h>

namespace vision_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

using Values = std::vector<double>;

/// The tiny image encoder with `tokens` prompts of `depth`; prompts are given and returned as one list.
template <class D>
struct Encoder {
    using T = typename D::Scalar;
    D device = make_device<D>();
    ClipModel<D> model;
    ParamSet<D> params{device};
    PromptLayers<T> prompts;
    PlacementTable<D> table;
    Index batch;
    Tensor<D> images;

    Encoder(Index tokens, Index depth, Index n, const TensorMap& weights = tiny_clip())
        : model(device, weights), batch(n), images(device, numbers(n * values(), 200)) {
        prompts = add_visual_prompts(params, tokens, depth, 12);
        params.bind();
        table = model.vision().place_prompts(device, tokens, n + 1);
    }
    Index size() const { return params.size(); }
    Index values() const { return 3 * model.vision().resolution() * model.vision().resolution(); }
    Index embed() const { return model.vision().embed(); }

    Values run(const Values& prompt_values, const Values* d_features, Values* gradient) {
        const std::vector<T> start = as<T>(prompt_values);
        device.upload(params.values(), start.data(), start.size() * sizeof(T));
        params.clear_gradients();
        Tensor<D> d(device, d_features ? *d_features : Values(1));
        Buffer<D, T> features(device, batch * embed());
        Arena<D> arena(device);
        const Workspace<D> workspace{device, arena};
        const PlacedPrompts<T> placed{&prompts, table.view(batch)};
        planned(workspace, [&] {
            VisionTape<D> tape;
            model.vision().forward(workspace, images.matrix(batch, values()), placed, features.matrix(batch, embed()),
                                   d_features ? &tape : nullptr);
            if (d_features) model.vision().backward(workspace, d.matrix(batch, embed()), placed, tape);
        });
        if (gradient) {
            std::vector<T> host(start.size());
            device.download(host.data(), params.gradients(), host.size() * sizeof(T));
            gradient->assign(host.begin(), host.end());
        }
        const std::vector<T> host = features.to_host();
        return Values(host.begin(), host.end());
    }
};

/// Features and gradients of `depth` prompts in a model, on D beside Cpu<double> and finite differences.
template <class D>
void check_prompts(const TensorMap& model, Index depth, double bound) {
    const Index batch = 2;
    Encoder<D> encoder(2, depth, batch, model);
    Encoder<Cpu<double>> reference(2, depth, batch, model);
    const Values prompts = numbers(encoder.size(), 201), dy = numbers(batch * encoder.embed(), 202);
    Values gradient;
    const Values features = encoder.run(prompts, &dy, &gradient);
    CHECK(difference(features, reference.run(prompts, nullptr, nullptr)) < bound);
    CHECK(difference(encoder.run(prompts, nullptr, nullptr), features) == 0);
    const auto loss = [&](const Values& p) { return dot(reference.run(p, nullptr, nullptr), dy); };
    CHECK(difference(gradient, numeric_gradient(prompts, loss)) < bound);
}

}  // namespace

TEST_CASE_TEMPLATE("image encoder: gradients of shallow and deep prompts", D, PROMPTKD_TEST_DEVICES) {
    const double bound = std::max(1e-7, 10 * rounding<typename D::Scalar>);
    for (const Index depth : {1, 3}) check_prompts<D>(tiny_clip(depth == 1 ? "exact" : "quick"), depth, bound);
}

TEST_CASE_TEMPLATE("towers of other kinds: gradients of shallow and deep prompts", D, PROMPTKD_TEST_DEVICES) {
    const double bound = std::max(2e-7, 20 * rounding<typename D::Scalar>);
    for (const std::string& kind : tower_kinds)
        for (const Index depth : {1, 3}) {
            CAPTURE(kind);
            CAPTURE(depth);
            check_prompts<D>(tiny_tower(kind), depth, bound);
        }
}

TEST_CASE("towers of other kinds: what full fine-tuning does not know is refused by name") {
    Cpu<double> device(1);
    for (const char* kind : {"pe", "siglip", "coca", "wide coca", "stem"}) {
        const ClipModel<Cpu<double>> model(device, tiny_tower(kind));
        ParamSet<Cpu<double>> params(device);
        CHECK_THROWS_WITH_AS(TrainableVision(params, model.vision().transformer()),
                             doctest::Contains("full fine-tuning does not know"), Error);
    }
}

TEST_CASE_TEMPLATE("image encoder: an image's features do not depend on its batch", D, PROMPTKD_TEST_DEVICES) {
    Encoder<D> three(2, 2, 3), one(2, 2, 1);
    const Values prompts = numbers(three.size(), 203);
    Values features = three.run(prompts, nullptr, nullptr);
    features.resize(6);
    CHECK(difference(one.run(prompts, nullptr, nullptr), features) < rounding<typename D::Scalar>);
}

TEST_CASE("image encoder: 8-bit weights where there are no such products are refused") {
    Cpu<double> wide(1);
    CHECK_THROWS_WITH_AS(ClipModel(wide, tiny_clip(), WeightStorage::int8),
                         doctest::Contains("8-bit weights are for the CPU in single precision"), Error);
    Cpu<float> device(1);
    CHECK_THROWS_WITH_AS(ClipModel(device, tiny_clip(), WeightStorage::int8), doctest::Contains("cannot be packed"),
                         Error);
}

}  // namespace vision_test
