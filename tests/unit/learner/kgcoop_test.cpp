// SPDX-License-Identifier: Apache-2.0
#include "support/tiny_clip.hpp"

#include <promptkd/learner/registry.hpp>

#include <doctest/doctest.h>

namespace promptkd::test::kgcoop_test {

namespace {

using Values = std::vector<double>;

/// KgCoOp by its name in the registry: two context vectors, three classes, three images.
template <class D>
struct Fixture {
    using T = typename D::Scalar;
    D device = make_device<D>();
    ClipModel<D> model{device, tiny_clip()};
    FrozenClip<D> clip{device, model};
    Recipe recipe = sized();
    LearnerTexts<T> texts{arrange_context(tiny_texts, 2, {}, {}), class_vectors(device, model, tiny_texts)};
    std::unique_ptr<PromptLearner<D>> learner = make_learner("kgcoop", clip, recipe, {}, 3);
    std::unique_ptr<LearnerTrainer<D>> trainer;
    Buffer<D, T> images{device, as<T>(numbers(3 * 3 * 8 * 8, 20))};
    Buffer<D, std::int32_t> labels{device, std::vector<std::int32_t>{2, 0, 1}};

    static Recipe sized() {
        Recipe recipe = published_recipe("kgcoop", 16);
        recipe.text = 2;
        return recipe;
    }

    explicit Fixture(double weight = 8) {
        recipe.options["knowledge-weight"] = weight;
        learner->initialize(1, {});
        initialize_normal(learner->params(), context_name, 2, 0.3);
        TrainerOptions<D> options;
        options.max_batch = 3;
        trainer = make_trainer("kgcoop", clip, *learner, texts, recipe, options);
    }

    double loss() {
        trainer->params().clear_gradients();
        trainer->accumulate(images.data(), labels.data(), 3);
        return trainer->loss();
    }
};

}  // namespace

TEST_CASE("KgCoOp: the gradient of its context against finite differences") {
    Fixture<Cpu<double>> f;
    f.loss();
    ParamSet<Cpu<double>>& params = f.learner->params();
    const Values gradient = params.gradients_of(context_name);
    const Values start = params.values_of(context_name);
    const auto at = [&](const Values& x) {
        params.set(context_name, x);
        return f.loss();
    };
    CHECK(difference(gradient, numeric_gradient(start, at, 1e-4)) < 1e-6);
}

TEST_CASE_TEMPLATE("KgCoOp: cross-entropy plus the weighted mean of 1 - cosine", D, Cpu<float>, Cpu<double>,
                   EmulatedCuda<float>) {
    Fixture<D> with(8), without(0);
    auto& prompts = dynamic_cast<PromptTrainer<D>&>(*with.trainer);
    const auto* w = prompts.class_features().data;
    std::vector<typename D::Scalar> rows(18);
    with.device.download(rows.data(), w, rows.size() * sizeof rows[0]);
    double cosine = 0;
    for (std::size_t i = 0; i < rows.size(); ++i)
        cosine += static_cast<double>(rows[i]) * static_cast<double>(with.texts.frozen[i]) / 3;
    CHECK(cosine < 0.99);
    CHECK(with.loss() - without.loss() == doctest::Approx(8 * (1 - cosine)).epsilon(1e-5));
}

}  // namespace promptkd::test::kgcoop_test
