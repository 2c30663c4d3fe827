// SPDX-License-Identifier: Apache-2.0
#include "support/tiny_clip.hpp"

#include <doctest/doctest.h>

namespace text_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

using Values = std::vector<double>;

const TokenRows& texts = tiny_texts;

/// The tiny text encoder; context vectors and deep prompts are given and returned as one list.
template <class D>
struct Encoder {
    using T = typename D::Scalar;
    D device = make_device<D>();
    ClipModel<D> model{device, tiny_clip()};
    ParamSet<D> params{device};
    PromptLayers<T> layers;
    TextBatch<D> batch;

    Encoder(Index tokens, Index depth, bool class_specific, TextSavings savings) {
        layers.tokens = tokens;
        layers.layers.push_back(&params.add("context", {class_specific ? texts.count * tokens : tokens, 10}));
        for (Index i = 1; i < depth; ++i)
            layers.layers.push_back(&params.add("deep" + std::to_string(i), {tokens, 10}));
        params.bind();
        batch = model.text().prepare(device, texts, ContextLayout::after_start(texts.count, tokens, class_specific),
                                     depth > 1 ? tokens : 0, savings);
    }
    Index size() const { return params.size(); }

    Values run(const Values& values, const Values* d_features, Values* gradient) {
        const std::vector<T> start = as<T>(values);
        device.upload(params.values(), start.data(), start.size() * sizeof(T));
        params.clear_gradients();
        Tensor<D> d(device, d_features ? *d_features : Values(1));
        Buffer<D, T> features(device, texts.count * 6);
        Arena<D> arena(device);
        const Workspace<D> workspace{device, arena};
        planned(workspace, [&] {
            TextTape<D> tape;
            model.text().forward(workspace, batch, {layers.layers[0]->value, &layers}, features.matrix(texts.count, 6),
                                 d_features ? &tape : nullptr);
            if (d_features)
                model.text().backward(workspace, batch, d.matrix(texts.count, 6), layers.layers[0]->grad, &layers,
                                      tape);
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

struct Design {
    Index tokens, depth;
    bool class_specific;
};
const Design designs[] = {{2, 1, false}, {2, 2, false}, {2, 1, true}, {4, 2, false}};

}  // namespace

TEST_CASE_TEMPLATE("text encoder: gradients of context vectors and deep prompts", D, PROMPTKD_TEST_DEVICES) {
    const double bound = std::max(1e-7, 10 * rounding<typename D::Scalar>);
    for (const Design& x : designs) {
        Encoder<D> encoder(x.tokens, x.depth, x.class_specific, {});
        Encoder<Cpu<double>> reference(x.tokens, x.depth, x.class_specific, {});
        const Values prompts = numbers(encoder.size(), 301), dy = numbers(texts.count * 6, 302);
        Values gradient;
        CHECK(difference(encoder.run(prompts, &dy, &gradient), reference.run(prompts, nullptr, nullptr)) < bound);
        const auto loss = [&](const Values& p) { return dot(reference.run(p, nullptr, nullptr), dy); };
        CHECK(difference(gradient, numeric_gradient(prompts, loss)) < bound);
    }
}

TEST_CASE_TEMPLATE("text encoder: cutting at the end and sharing the prefix change nothing", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    for (const Design& x : designs) {
        Encoder<D> plain(x.tokens, x.depth, x.class_specific, {false, false});
        const Values prompts = numbers(plain.size(), 303), dy = numbers(texts.count * 6, 304);
        Values want_gradient;
        const Values want = plain.run(prompts, &dy, &want_gradient);
        CHECK(plain.batch.sequences.rows() == 24);
        for (const TextSavings savings :
             {TextSavings{true, false}, TextSavings{false, true}, TextSavings{true, true}}) {
            Encoder<D> encoder(x.tokens, x.depth, x.class_specific, savings);
            Values gradient;
            CHECK(difference(encoder.run(prompts, &dy, &gradient), want) < 5 * rounding<T>);
            CHECK(difference(gradient, want_gradient) < 5 * rounding<T>);
            CHECK(encoder.batch.sequences.rows() < 24);
        }
    }
}

}  // namespace text_test
