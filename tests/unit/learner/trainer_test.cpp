// SPDX-License-Identifier: Apache-2.0
#include "support/tiny_clip.hpp"

#include <promptkd/learner/maple.hpp>

#include <doctest/doctest.h>

namespace promptkd::test::prompt_trainer_test {

namespace {

using Values = std::vector<double>;

/// MaPLe, the learner with most parts, on three images of three classes; two prompts in both branches.
template <class D>
struct Fixture {
    using T = typename D::Scalar;
    D device = make_device<D>();
    ClipModel<D> model{device, tiny_clip()};
    MaPLe<D> learner{device, model, 2, 2};
    TokenRows texts{{18, 1, 1, 3, 19, 0, 0, 0, 18, 1, 1, 4, 19, 0, 0, 0, 18, 1, 1, 5, 19, 0, 0, 0}, 3, 8};
    PromptTrainer<D> trainer{device, model, learner, {texts, ContextLayout::after_start(3, 2)}, options()};
    Buffer<D, T> images{device, as<T>(numbers(3 * 3 * 8 * 8, 20))};
    Buffer<D, std::int32_t> labels{device, std::vector<std::int32_t>{2, 0, 1}};

    static TrainerOptions<D> options() {
        TrainerOptions<D> options;
        options.max_batch = 3;
        return options;
    }

    Fixture() {
        learner.initialize(1, {});
        for (const std::string& name : learner.params().names())
            if (name.find("weight") == std::string::npos) initialize_normal(learner.params(), name, 2, 0.3);
    }

    void step() { trainer.step(images.data(), labels.data(), 3, 0.01); }

    Values gradients() {
        Values all;
        for (const std::string& name : learner.params().names()) {
            const auto part = learner.params().gradients_of(name);
            all.insert(all.end(), part.begin(), part.end());
        }
        return all;
    }
};

}  // namespace

TEST_CASE_TEMPLATE("fp16: a learner's gradients pass the encoders scaled, and are divided again", D, Cpu<float, half>,
                   EmulatedCuda<float, half>) {
    Fixture<Cpu<double>> exact;
    Fixture<D> brief;
    CHECK(!exact.trainer.loss_scale());
    REQUIRE(brief.trainer.loss_scale());
    exact.step();
    brief.step();
    CHECK(std::abs(brief.trainer.loss() / exact.trainer.loss() - 1) < 5e-3);
    CHECK(difference(brief.gradients(), exact.gradients()) < 2e-2);
    CHECK(brief.trainer.loss_scale()->value() > 1);
    CHECK(brief.trainer.loss_scale()->skipped() == 0);
}

TEST_CASE("fp16: a learner's step with an overflow changes nothing but the loss scale, which a checkpoint keeps") {
    using D = Cpu<float, half>;
    Fixture<D> fixture;
    const double before = fixture.trainer.loss_scale()->value();
    fixture.device.upload(fixture.images.data(), std::vector<float>(192, 1e30f).data(), 192 * sizeof(float));
    const auto values = [&] { return fixture.learner.params().values_of(fixture.learner.params().names().front()); };
    const auto start = values();
    fixture.step();
    CHECK(fixture.trainer.loss_scale()->skipped() == 1);
    CHECK(fixture.trainer.loss_scale()->value() == before / 2);
    CHECK(values() == start);
    TensorMap state;
    fixture.trainer.save(state);
    Fixture<D> other;
    other.trainer.load(state);
    CHECK(other.trainer.loss_scale()->value() == before / 2);
}

}  // namespace promptkd::test::prompt_trainer_test
