// SPDX-License-Identifier: Apache-2.0
#include "support/tiny_clip.hpp"

#include <promptkd/experiment/inspection.hpp>

#include <doctest/doctest.h>

namespace inspection_test {

using namespace promptkd;

TEST_CASE("inspection: a model's sizes, and what it lacks") {
    TensorMap map = test::tiny_clip("exact");
    map.tensors.erase("ln_final.bias");
    map.tensors["stranger"] = make_tensor<float>({1, 2}, {2});
    const WeightsInspection what = inspect_weights(map);
    CHECK(what.kind == WeightsKind::clip);
    CHECK(what.tensors == static_cast<Index>(map.tensors.size()));
    CHECK(what.dtypes.at("f32") == 2);
    CHECK(what.parameters == what.dtypes.at("f64") + 2);
    REQUIRE(what.model.has_value());
    CHECK(what.model->inventory.missing == std::vector<std::string>{"ln_final.bias"});
    CHECK(what.model->inventory.unknown == std::vector<std::string>{"stranger"});
    CHECK(what.model->activation == Gelu::exact);
    REQUIRE(what.model->vision.has_value());
    CHECK(what.model->vision->resolution() == 8);
    REQUIRE(what.model->text.has_value());
    CHECK(what.model->text->vocabulary == 20);
    CHECK(what.problem.empty());
    map.metadata["vision_heads"] = "5";
    CHECK(inspect_weights(map).problem.find("cannot be divided into 5 attention heads") != std::string::npos);
}

TEST_CASE("inspection: a student bundle") {
    TensorMap bundle;
    for (const auto& named : test::tiny_clip().tensors)
        if (schema::is_student_weight(named.first)) bundle.tensors["clip." + named.first] = named.second;
    bundle.tensors["image_encoder.VPT"] = make_tensor<float>(std::vector<float>(24), {2, 12});
    bundle.tensors["VPT_image_trans.conv1.0.weight"] = make_tensor<float>(std::vector<float>(36), {6, 6});
    bundle.tensors["VPT_image_trans.conv1.3.weight"] = make_tensor<float>(std::vector<float>(36), {6, 6});
    bundle.metadata = {
        {"format", bundle_format}, {"class_names", R"(["cat","dog"])"}, {"vision_heads", "3"}, {"gelu", "quick"}};
    const WeightsInspection what = inspect_weights(bundle);
    CHECK(what.kind == WeightsKind::bundle);
    CHECK(what.model->inventory.missing.empty());
    CHECK(what.model->inventory.unknown.empty());
    CHECK_FALSE(what.model->text.has_value());
    CHECK(what.class_names == std::vector<std::string>{"cat", "dog"});
    CHECK(what.visual_prompts.tokens == 2);
    CHECK(what.visual_prompts.depth == 1);
    CHECK(what.text_prompts.tokens == 0);
    CHECK(what.projector_layers == 2);
    CHECK(what.problem.empty());
    bundle.metadata["class_names"] = "[1]";
    CHECK(inspect_weights(bundle).problem.find("is not a name") != std::string::npos);
}

}  // namespace inspection_test
