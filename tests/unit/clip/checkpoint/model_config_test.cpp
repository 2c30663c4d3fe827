// SPDX-License-Identifier: Apache-2.0
#include "support/hostile_files.hpp"

#include <promptkd/clip/checkpoint/model_config.hpp>

namespace model_config_test {

namespace {

using namespace promptkd;
using test::error_of;

std::string config_error(const std::string& json) {
    return error_of([&] { parse_model_config(json, "config.json"); });
}

TEST_CASE("model config: Hugging Face's") {
    const auto c = parse_model_config(
        R"({"model_type":"clip","projection_dim":32,"text_config":{"num_attention_heads":4,"hidden_act":"gelu","eos_token_id":95},
        "vision_config":{"num_attention_heads":3,"hidden_act":"gelu"}})",
        "x");
    REQUIRE(c.has_value());
    CHECK(c->text_heads == 4);
    CHECK(c->vision_heads == 3);
    CHECK(c->gelu == "exact");
    CHECK(c->eot == "95");
    const auto defaults = parse_model_config(
        R"({"text_config":{"eos_token_id":2},"vision_config":null,"text_config_dict":{"num_attention_heads":16}})",
        "x");
    CHECK(defaults->gelu == "quick");
    CHECK(defaults->eot == "argmax");
    CHECK(defaults->vision_heads == 12);
    CHECK(defaults->text_heads == 16);
    CHECK(config_error(R"({"model_type":"siglip2","vision_config":{}})").find("'siglip2' is SigLIP 2 of variable") !=
          std::string::npos);
    CHECK(config_error(R"({"model_type":"blip","vision_config":{}})").find("model_type 'blip' is not supported") !=
          std::string::npos);
    CHECK(config_error(R"({"vision_config":{"hidden_act":"silu"},"text_config":{"hidden_act":"silu"}})")
              .find("'silu' is not supported") != std::string::npos);
    CHECK(parse_model_config(R"({"vision_config":{"hidden_act":"gelu_new"},"text_config":{}})", "x")
              ->description.at("vision_gelu") == "tanh");
    const auto own = parse_model_config(R"({"vision_config":{"hidden_act":"gelu","layer_norm_eps":1e-6}})", "x");
    CHECK(own->gelu == "quick");
    CHECK(own->description.at("vision_gelu") == "exact");
    CHECK(own->description.at("vision_epsilon") == "1e-06");
    CHECK(own->description.count("text_epsilon") == 0);
    CHECK(config_error(R"({"vision_config":{"num_attention_heads":-3}})").find("expected a positive integer") !=
          std::string::npos);
    CHECK(config_error(R"({"vision_config":{"num_attention_heads":"3"}})").find("expected a positive integer") !=
          std::string::npos);
    CHECK(config_error(R"({"vision_config":[1]})").find("expected an object") != std::string::npos);
}

TEST_CASE("model config: open_clip's") {
    const auto c = parse_model_config(
        R"({"model_cfg":{"embed_dim":8,"quick_gelu":true,"vision_cfg":{"width":80,"head_width":20,"layers":2},"text_cfg":{"heads":3}}})",
        "x");
    REQUIRE(c.has_value());
    CHECK(c->vision_heads == 4);
    CHECK(c->text_heads == 3);
    CHECK(c->gelu == "quick");
    CHECK(parse_model_config(R"({"vision_cfg":{},"text_cfg":{}})", "x")->gelu == "exact");
    CHECK(parse_model_config(R"({"vision_cfg":{},"text_cfg":{"pool_type":"eos","eos_id":7}})", "x")->eot == "7");
    const auto last = parse_model_config(R"({"vision_cfg":{"width":42,"head_width":20},
        "text_cfg":{"pool_type":"last","no_causal_mask":true}})",
                                         "x");
    CHECK(last->vision_heads == 2);
    CHECK(last->eot == "last");
    CHECK(last->description.at("text_mask") == "none");
    CHECK(parse_model_config(R"({"vision_cfg":{},"text_cfg":{"pool_type":"first"}})", "x")->eot == "first");
    CHECK(parse_model_config(R"({"vision_cfg":{},"text_cfg":{"proj_type":"none"}})", "x")
              ->description.at("text_without") == "projection");
    CHECK(config_error(R"({"vision_cfg":{},"text_cfg":{"pool_type":"mean"}})").find("pool_type 'mean'") !=
          std::string::npos);
    CHECK(parse_model_config(R"({"vision_cfg":{"layers":[3,4,6,3],"width":5,"head_width":40},"text_cfg":{}})", "x")
              ->vision_heads == 4);
    CHECK(config_error(R"({"vision_cfg":{"layers":[3,4]},"text_cfg":{}})").find("the blocks of 4 stages") !=
          std::string::npos);
    CHECK(config_error(R"({"vision_cfg":{},"text_cfg":{"new_option":true}})").find("'new_option' is not supported") !=
          std::string::npos);
    CHECK(
        config_error(R"({"vision_cfg":{"width":32},"text_cfg":{}})").find("head_width 64 is more than the width 32") !=
        std::string::npos);
    CHECK(config_error(R"({"vision_cfg":{}})").find("'text_cfg' is missing") != std::string::npos);
}

TEST_CASE("model config: towers of timm, by name") {
    const auto of = [](const std::string& vision) {
        return *parse_model_config(R"({"embed_dim":8,"vision_cfg":{)" + vision + R"(},"text_cfg":{}})", "x");
    };
    const ModelConfig pe =
        of(R"("timm_model_name":"vit_pe_core_large_patch14_336","timm_pool":"map","timm_proj":null)");
    CHECK(pe.vision_heads == 16);
    CHECK(pe.description.at("vision_rotation") == "columns");
    CHECK(pe.description.at("vision_rotation_grid") == "24");
    CHECK(pe.description.at("vision_pool_heads") == "8");
    CHECK(pe.description.count("vision_epsilon") == 0);
    const ModelConfig siglip =
        of(R"("timm_model_name":"vit_large_patch16_siglip_512","timm_pool":"map","timm_proj":"none")");
    CHECK(siglip.description.at("vision_gelu") == "tanh");
    CHECK(siglip.description.at("vision_without") == "first_norm class_token projection");
    CHECK(of(R"("timm_model_name":"vit_large_patch16_siglip_384")").description.count("vision_gelu") == 0);
    CHECK(of(R"("timm_model_name":"vit_base_patch16_clip_quickgelu_224")").description.at("vision_gelu") == "quick");
    CHECK(of(R"("timm_model_name":"eva02_enormous_patch14_clip_224")").description.at("vision_norms") == "after");
    const auto refused = [](const char* name) {
        return config_error(std::string(R"({"vision_cfg":{"timm_model_name":")") + name + R"("},"text_cfg":{}})");
    };
    CHECK(refused("fastvit_mci1").find("the family fastvit is not supported") != std::string::npos);
    CHECK(refused("convnext_base").find("the family convnext is not supported") != std::string::npos);
    CHECK(refused("vit_pe_lang_large_patch14_448").find("is not supported") != std::string::npos);
    CHECK(of(R"("timm_model_name":"vit_base_patch16_plus_clip_240")").vision_heads == 14);
    const ModelConfig mean =
        of(R"("timm_model_name":"vit_base_patch16_siglip_gap_224","timm_pool":"avg","timm_proj":"none")");
    CHECK(mean.description.at("vision_pool") == "mean");
    CHECK(mean.description.at("vision_pool_norm") == "before");
}

TEST_CASE("model config: Meta's PE") {
    const auto c = parse_model_config(
        R"({"vision_cfg":{"width":40,"layers":2,"heads":2,"use_rope2d":true,"use_cls_token":false},"text_cfg":{}})",
        "x");
    CHECK(c->description.at("vision_without") == "class_token");
    CHECK(c->description.at("vision_pool") == "attention");
    CHECK(config_error(R"({"vision_cfg":{"use_rope2d":true,"pool_type":"avg"},"text_cfg":{}})")
              .find("pool_type 'avg' is not supported") != std::string::npos);
}

/// Two tensors of an image branch of width 60.
TensorMap weights_of_60() {
    TensorMap map;
    map.source = "w";
    map.tensors["visual.class_embedding"] = make_tensor<float>(std::vector<float>(60), {60});
    map.tensors["visual.conv1.weight"] = make_tensor<float>(std::vector<float>(60), {60, 1, 1, 1});
    return map;
}

ModelConfig config_of_quick_gelu() {
    ModelConfig c;
    c.source = "j";
    c.gelu = "quick";
    return c;
}

TEST_CASE("model config: a description that the weights contradict is refused") {
    TensorMap map = weights_of_60();
    ModelConfig c = config_of_quick_gelu();
    c.lacks("class_token");
    CHECK(error_of([&] { apply_model_config(c, map); }).find("without 'visual.class_embedding'") != std::string::npos);
    c.description.clear();
    map.metadata.clear();
    c.vision_scales = true;
    CHECK(error_of([&] { apply_model_config(c, map); }).find("'ls_init_value' says that the blocks have LayerScale") !=
          std::string::npos);
}

TEST_CASE("model config: other JSON is none") {
    for (const char* json : {"", "[]", "{}", "{\"a\":1}", "not json", "{\"vision\":{}}"})
        CHECK_FALSE(parse_model_config(json, "x").has_value());
    CHECK_FALSE(parse_model_config(std::string(100000, '['), "x").has_value());
    CHECK_FALSE(parse_model_config(std::string(100000, '{'), "x").has_value());
}

TEST_CASE("model config: one of another model is refused") {
    TensorMap map = weights_of_60();
    const auto of_width = [](int width) {
        return *parse_model_config(R"({"quick_gelu":true,"vision_cfg":{"head_width":20,"width":)" +
                                       std::to_string(width) + R"(,"patch_size":1},"text_cfg":{}})",
                                   "j");
    };
    CHECK(error_of([&] { apply_model_config(of_width(64), map); }) ==
          "j: vision_cfg: 'width' is 64, but the weights in w have 60; this configuration belongs to another model");
    apply_model_config(of_width(60), map);
    CHECK(map.metadata.at("vision_heads") == "3");
    CHECK(map.metadata.at("gelu") == "quick");
    CHECK(map.metadata.count("eot") == 0);
}

}  // namespace

}  // namespace model_config_test
