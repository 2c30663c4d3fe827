// SPDX-License-Identifier: Apache-2.0
#include "support/tiny_clip.hpp"

#include <promptkd/clip/lora.hpp>

#include <doctest/doctest.h>

#include <map>

namespace text_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

using Values = std::vector<double>;

const TokenRows& texts = tiny_texts;

/// Texts as other towers read them: without a mask at the last position or the first; with LayerScale; without
/// projection; with a class token behind them.
TensorMap other_text(const std::string& kind) {
    TensorMap map = tiny_clip("tanh");
    const auto add = [&](const std::string& name, const Shape& shape, unsigned seed) {
        map.tensors[name] = make_tensor(numbers(count_of(shape), seed, 0.5), shape);
    };
    if (kind == "last") {
        map.metadata["text_mask"] = "none";
        map.metadata["eot"] = "last";
        map.metadata["text_epsilon"] = "1e-06";
        add("text_projection.bias", {6}, 70);
    } else if (kind == "unmasked") {
        map.metadata["text_mask"] = "none";
        for (const char* block : {"0", "1"})
            for (const char* scale : {".ls_1.gamma", ".ls_2.gamma"})
                add(std::string("transformer.resblocks.") + block + scale, {10}, 71);
    } else if (kind == "first") {
        map.metadata["text_mask"] = "none";
        map.metadata["eot"] = "first";
    } else if (kind == "no projection") {
        map.metadata["text_mask"] = "none";
        map.metadata["text_without"] = "projection";
        map.tensors.erase("text_projection");
        add("visual.proj", {12, 10}, 74);
    } else {
        add("cls_emb", {10}, 72);
        add("positional_embedding", {9, 10}, 73);
    }
    return map;
}
const char* const other_kinds[] = {"last", "unmasked", "first", "no projection", "class token"};

/// The tiny text encoder; context vectors and deep prompts are given and returned as one list.
template <class D>
struct Encoder {
    using T = typename D::Scalar;
    D device = make_device<D>();
    ClipModel<D> model;
    ParamSet<D> params{device};
    PromptLayers<T> layers;
    TextBatch<D> batch;

    Encoder(Index tokens, Index depth, bool class_specific, TextSavings savings, const TensorMap& weights = tiny_clip())
        : model(device, weights) {
        layers.tokens = tokens;
        layers.layers.push_back(&params.add("context", {class_specific ? texts.count * tokens : tokens, 10}));
        for (Index i = 1; i < depth; ++i)
            layers.layers.push_back(&params.add("deep" + std::to_string(i), {tokens, 10}));
        params.bind();
        batch = model.text().prepare(device, texts, ContextLayout::after_start(texts.count, tokens, class_specific),
                                     depth > 1 ? tokens : 0, savings);
    }
    Index size() const { return params.size(); }
    Index embed() const { return model.text().embed(); }

    Values run(const Values& values, const Values* d_features, Values* gradient) {
        const std::vector<T> start = as<T>(values);
        device.upload(params.values(), start.data(), start.size() * sizeof(T));
        params.clear_gradients();
        Tensor<D> d(device, d_features ? *d_features : Values(1));
        Buffer<D, T> features(device, texts.count * embed());
        Arena<D> arena(device);
        const Workspace<D> workspace{device, arena};
        planned(workspace, [&] {
            TextTape<D> tape;
            model.text().forward(workspace, batch, {layers.layers[0]->value, &layers},
                                 features.matrix(texts.count, embed()), d_features ? &tape : nullptr);
            if (d_features)
                model.text().backward(workspace, batch, d.matrix(texts.count, embed()), layers.layers[0]->grad, &layers,
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

TEST_CASE_TEMPLATE("texts of other towers: gradients of context vectors and deep prompts", D, PROMPTKD_TEST_DEVICES) {
    const double bound = std::max(1e-7, 10 * rounding<typename D::Scalar>);
    for (const char* kind : other_kinds) {
        CAPTURE(kind);
        Encoder<D> encoder(2, 2, false, {}, other_text(kind));
        Encoder<Cpu<double>> reference(2, 2, false, {}, other_text(kind));
        const Values prompts = numbers(encoder.size(), 301), dy = numbers(texts.count * encoder.embed(), 302);
        Values gradient;
        CHECK(difference(encoder.run(prompts, &dy, &gradient), reference.run(prompts, nullptr, nullptr)) < bound);
        const auto loss = [&](const Values& p) { return dot(reference.run(p, nullptr, nullptr), dy); };
        CHECK(difference(gradient, numeric_gradient(prompts, loss)) < bound);
    }
}

TEST_CASE("texts of other towers: savings that would change a result are not taken") {
    for (const char* kind : other_kinds) {
        CAPTURE(kind);
        const bool causal = std::string(kind) == "class token";
        Encoder<Cpu<double>> plain(2, 2, false, {false, false}, other_text(kind));
        Encoder<Cpu<double>> asked(2, 2, false, {true, true}, other_text(kind));
        const Index all = plain.batch.sequences.rows();
        CHECK(all == texts.count * (causal ? 9 : 8));
        CHECK(asked.batch.sequences.prefix == (causal ? 4 : 0));
        CHECK(asked.batch.sequences.tokens() == plain.batch.sequences.tokens());
        const Values prompts = numbers(plain.size(), 303);
        CHECK(difference(asked.run(prompts, nullptr, nullptr), plain.run(prompts, nullptr, nullptr)) < 1e-11);
    }
}

TEST_CASE("texts of other towers: one that is read at its last position needs them all") {
    Cpu<double> device(1);
    const ClipModel<Cpu<double>> model(device, other_text("last"));
    const TokenRows cut{{17, 3, 19}, 1, 3};
    CHECK_THROWS_WITH_AS(model.text().prepare(device, cut),
                         doctest::Contains("texts of 3 tokens, but this model reads the last of its 8"), Error);
}

namespace {

/// The tiny text encoder whose own weights are parameters, low-rank updates beside them, with context and deep prompts.
struct TrainedText {
    using D = Cpu<double>;
    D device = make_device<D>();
    ClipModel<D> model{device, tiny_clip()};
    TextTransformer<D> encoder{model.text()};
    ParamSet<D> params{device};
    PromptLayers<double> layers;
    TextBatch<D> batch;

    TrainedText() {
        layers.tokens = 2;
        layers.layers.push_back(&params.add("context", {2, 10}));
        layers.layers.push_back(&params.add("deep", {2, 10}));
        std::vector<const Param<double>*> weights;
        encoder.visit_weights([&](const std::string& name, const auto&, double*&, const Shape& shape) {
            weights.push_back(&params.add(name, shape));
        });
        LoraConfig config;
        config.rank = 2;
        const LoraWeights<D> lora(params, encoder.transformer(), config, "text_lora.");
        params.bind();
        std::size_t next = 0;
        encoder.visit_weights([&](const std::string&, auto& tensor, double*& gradient, const Shape&) {
            take(tensor, *weights[next]);
            gradient = weights[next++]->grad;
        });
        lora.adopt(encoder.transformer());
        for (const std::string& name : params.names())
            if (name.rfind("text_lora", 0) == 0 || name == "context" || name == "deep")
                initialize_normal(params, name, 3, 0.4);
        batch = encoder.prepare(device, texts, ContextLayout::after_start(texts.count, 2, false), 2, {});
    }
    void take(const double*& pointer, const Param<double>& param) {
        device.copy(param.value, pointer, static_cast<std::size_t>(param.count()) * sizeof(double));
        pointer = param.value;
    }
    void take(WeightMatrix& matrix, const Param<double>& param) {
        device.copy(param.value, matrix.data, static_cast<std::size_t>(param.count()) * sizeof(double));
        matrix.data = param.value;
    }

    /// Σ features∘d, and its gradients in `params`.
    double loss(const Values& d, bool gradients) {
        params.clear_gradients();
        Tensor<D> d_features(device, d);
        Buffer<D, double> features(device, texts.count * 6);
        Arena<D> arena(device);
        const Workspace<D> w{device, arena};
        planned(w, [&] {
            TextTape<D> tape;
            encoder.forward(w, batch, {layers.layers[0]->value, &layers}, features.matrix(texts.count, 6),
                            gradients ? &tape : nullptr);
            if (!gradients) return;
            params.clear_gradients();
            encoder.backward(w, batch, d_features.matrix(texts.count, 6), layers.layers[0]->grad, &layers, tape);
        });
        return dot(features.to_host(), d);
    }
};

}  // namespace

TEST_CASE("text encoder: gradients of its weights and of low-rank updates, prompts in place") {
    TrainedText text;
    const Values d = numbers(texts.count * 6, 91);
    text.loss(d, true);
    std::map<std::string, Values> gradients;
    for (const std::string& name : text.params.names()) gradients[name] = text.params.gradients_of(name);
    CHECK(gradients.size() == 2 + 2 * 12 + 3 + 2 * 8);
    for (const auto& entry : gradients) {
        const std::string& name = entry.first;
        const Values& gradient = entry.second;
        CAPTURE(name);
        const Values start = text.params.values_of(name);
        const auto at = [&](const Values& x) {
            text.params.set(name, x);
            return text.loss(d, false);
        };
        double largest = 0, worst = 0;
        for (const double g : gradient) largest = std::max(largest, std::abs(g));
        CHECK(largest > 0);
        const Values want = numeric_gradient(start, at, 1e-4);
        text.params.set(name, start);
        for (std::size_t i = 0; i < want.size(); ++i) worst = std::max(worst, std::abs(gradient[i] - want[i]));
        CHECK(worst < 1e-6 * largest + 1e-9);
    }
}

}  // namespace text_test
