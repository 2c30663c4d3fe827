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
    CHECK(config_error(R"({"model_type":"siglip","vision_config":{}})").find("model_type 'siglip' is not supported") !=
          std::string::npos);
    CHECK(config_error(R"({"vision_config":{"hidden_act":"gelu_new"},"text_config":{"hidden_act":"gelu_new"}})")
              .find("'gelu_new' is not supported") != std::string::npos);
    CHECK(config_error(R"({"vision_config":{"hidden_act":"gelu"}})").find("one activation for both") !=
          std::string::npos);
    CHECK(config_error(R"({"vision_config":{"layer_norm_eps":1e-6}})").find("layer_norm_eps") != std::string::npos);
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
    CHECK(config_error(R"({"vision_cfg":{"timm_model_name":"vit"},"text_cfg":{}})")
              .find("'timm_model_name' is not supported") != std::string::npos);
    CHECK(config_error(R"({"vision_cfg":{},"text_cfg":{"pool_type":"last"}})").find("pool_type 'last'") !=
          std::string::npos);
    CHECK(config_error(R"({"vision_cfg":{},"text_cfg":{"no_causal_mask":true}})")
              .find("'no_causal_mask' is not supported") != std::string::npos);
    CHECK(config_error(R"({"vision_cfg":{"width":70},"text_cfg":{}})").find("not a multiple") != std::string::npos);
    CHECK(config_error(R"({"vision_cfg":{}})").find("'text_cfg' is missing") != std::string::npos);
}

TEST_CASE("model config: other JSON is none") {
    for (const char* json : {"", "[]", "{}", "{\"a\":1}", "not json", "{\"vision\":{}}"})
        CHECK_FALSE(parse_model_config(json, "x").has_value());
    CHECK_FALSE(parse_model_config(std::string(100000, '['), "x").has_value());
    CHECK_FALSE(parse_model_config(std::string(100000, '{'), "x").has_value());
}

TEST_CASE("model config: one of another model is refused") {
    TensorMap map;
    map.source = "w";
    map.tensors["visual.class_embedding"] = make_tensor<float>(std::vector<float>(60), {60});
    map.tensors["visual.conv1.weight"] = make_tensor<float>(std::vector<float>(60), {60, 1, 1, 1});
    ModelConfig c;
    c.source = "j";
    c.gelu = "quick";
    c.vision_width = 64;
    c.vision_heads = 3;
    CHECK(error_of([&] { apply_model_config(c, map); }).find("says vision width 64, but the weights in w have 60") !=
          std::string::npos);
    c.vision_width = 60;
    apply_model_config(c, map);
    CHECK(map.metadata.at("vision_heads") == "3");
    CHECK(map.metadata.at("gelu") == "quick");
    CHECK(map.metadata.count("eot") == 0);
}

}  // namespace

}  // namespace model_config_test
