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
    bundle.metadata["class_names"] = R"(["cat","dog"])";
    bundle.tensors["class_vectors"] = make_tensor<float>(std::vector<float>(12), {2, 6});
    bundle.tensors["mixture.weight"] = make_tensor<float>({1}, {});
    CHECK(inspect_weights(bundle).problem.find("a mixture is there, but not required") != std::string::npos);
}

TEST_CASE("conversion: what a student bundle loses is said in one line, which is true") {
    TensorMap bundle;
    bundle.metadata = {{"format", bundle_format}, {"student", R"({"train": "prompts"})"}};
    const auto lost = [&](WeightsTarget target) { return lost_in_conversion(bundle, target); };
    const auto says = [&](WeightsTarget target, const char* text) {
        return lost(target).find(text) != std::string::npos && lost(target).find('\n') == std::string::npos;
    };
    constexpr WeightsTarget checkpoint = WeightsTarget::checkpoint, peft = WeightsTarget::peft;
    CHECK(lost(checkpoint).empty());
    bundle.metadata["student"] = R"({"train": "full"})";
    CHECK(says(checkpoint, "no place for the weights of its image encoder, which were trained too: prompts and"));
    CHECK(says(checkpoint, "wrong with another one"));
    bundle.metadata["student"] = R"({"train": "lora"})";  // merged
    CHECK(says(checkpoint, "the weights of its image encoder, which were trained too"));
    bundle.metadata["requires"] = R"(["lora"])";
    bundle.tensors["lora.0.attn.in_proj.A"] = make_tensor<float>({1}, {1, 1});
    CHECK(says(checkpoint, "no place for the lora ("));
    CHECK(says(checkpoint, "wrong with another one"));
    CHECK(lost(peft) ==
          "this layout has no place for the prompts and projector: the low-rank updates alone are written");
    bundle.metadata["requires"] = R"(["mixture","guard","lora"])";
    bundle.tensors["mixture.weight"] = make_tensor<float>({1}, {});
    CHECK(says(peft, "the prompts and projector; mixture ("));
    CHECK(says(checkpoint, "wrong with another one"));
    bundle.tensors.erase("lora.0.attn.in_proj.A");
    bundle.metadata["student"] = R"({"train": "prompts"})";
    bundle.metadata["requires"] = R"(["mixture"])";
    CHECK(says(checkpoint, "its readers run the distilled student alone"));
    bundle.tensors["adapted.visual.proj"] = make_tensor<float>({1}, {1, 1});
    bundle.metadata["requires"] = R"(["mixture","adapted"])";
    CHECK(says(checkpoint, "; adapted ("));
    CHECK(says(checkpoint, "wrong with another one"));
    bundle.tensors["patch_head.conv1.0.weight"] = make_tensor<float>({1}, {1, 1});
    CHECK(says(checkpoint, "; patch_head ("));
    bundle.metadata.erase("format");
    CHECK(lost(checkpoint).empty());
}

}  // namespace inspection_test
