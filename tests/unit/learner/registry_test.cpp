// SPDX-License-Identifier: Apache-2.0
#include <promptkd/learner/registry.hpp>

#include <doctest/doctest.h>

#include <set>

namespace promptkd::test::registry_test {

namespace {

TensorMap names(const std::vector<std::string>& list) {
    TensorMap map;
    map.source = "file";
    for (const std::string& name : list) map.tensors[name] = make_tensor<float>({1}, {1, 1});
    return map;
}

}  // namespace

TEST_CASE("registry: every learner is known by name, with its paper, summary and published settings") {
    std::set<std::string> seen;
    for (const LearnerInfo& info : learners()) {
        CAPTURE(info.name);
        CHECK(seen.insert(info.name).second);
        CHECK(&find_learner(info.name) == &info);
        CHECK(!info.title.empty());
        CHECK(!info.paper.empty());
        CHECK(!info.summary.empty());
        const Recipe recipe = published_recipe(info.name, 16);
        CHECK(recipe.lr > 0);
        CHECK((recipe.epochs > 0 || info.complete));
        CHECK((recipe.visual + recipe.text > 0 || info.complete));
        CHECK(recipe.options.size() == info.options.size());
        for (const LearnerOption& option : info.options) CHECK(recipe.option(option.name) == option.published);
    }
    CHECK_THROWS_WITH_AS(find_learner("tip"),
                         doctest::Contains("coop, cocoop, vpt, ivlp, maple, promptsrc, kgcoop, clip-lora"), Error);
    CHECK(learner_names([](const LearnerInfo& i) { return i.takes_class_specific; }) == "coop");
    CHECK(published_recipe("coop", 16).epochs == 200);
    CHECK(published_recipe("coop", 4).epochs == 100);
    CHECK(published_recipe("coop", 1).epochs == 50);
    CHECK(published_recipe("kgcoop", 16).batch == 128);
}

TEST_CASE("registry: a checkpoint is recognised under the published names, with and without their prefix") {
    CHECK(name_of_learner(names({"ctx", "token_prefix"})) == "coop");
    CHECK(name_of_learner(names({"ctx", "meta_net.linear1.weight"})) == "cocoop");
    CHECK(name_of_learner(names({"prompt_learner.ctx", "prompt_learner.meta_net.linear1.weight"})) == "cocoop");
    CHECK(name_of_learner(names({"ctx", "bias_vectors", "meta_net.linear1.weight"})) == "kgcoop");
    CHECK(name_of_learner(names({"image_encoder.VPT"})) == "vpt");
    CHECK(name_of_learner(names({"image_encoder.VPT", "prompt_learner.ctx"})) == "ivlp");
    CHECK(name_of_learner(names({"image_encoder.VPT", "prompt_learner.ctx", "prompt_learner.ZS_image_encoder.proj"})) ==
          "promptsrc");
    CHECK(name_of_learner(names({"prompt_learner.ctx", "prompt_learner.proj.weight"})) == "maple");
    CHECK(name_of_learner(names({"lora.0.attn.in_proj.A", "text_lora.0.attn.in_proj.A"})) == "clip-lora");
    CHECK(name_of_learner(names({"visual.conv1.weight"})).empty());
}

TEST_CASE("registry: fixed prompts of a checkpoint") {
    const auto message = [](const TensorMap& map) {
        try {
            fixed_prompts(map);
        } catch (const Error& error) {
            return std::string(error.what());
        }
        return std::string();
    };
    CHECK(message(names({"prompt_learner.ctx", "prompt_learner.meta_net.linear1.weight"})).find("CoCoOp's context") !=
          std::string::npos);
    CHECK(message(names({"visual.proj"})).find("holds no learned prompts") != std::string::npos);
    CHECK(fixed_prompts(names({"prompt_learner.ctx"})).tensors.size() == 1);
    const TensorMap published =
        learned_parameters(names({"ctx", "bias_vectors", "meta_net.linear1.weight"}), &name_of_learner);
    CHECK(published.metadata.at("learner") == "kgcoop");
    CHECK(fixed_prompts(published).tensors.size() == 1);  // its network is never trained
}

}  // namespace promptkd::test::registry_test
