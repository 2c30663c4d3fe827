// SPDX-License-Identifier: Apache-2.0
#include "support/hostile_files.hpp"

#include <promptkd/clip/checkpoint/inventory.hpp>
#include <promptkd/clip/checkpoint/model_config.hpp>
#include <promptkd/clip/checkpoint/names.hpp>

namespace names_test {

namespace {

using namespace promptkd;
using test::error_of;

HostTensor numbers(Index rows, Index columns, float first) {
    std::vector<float> values;
    for (Index i = 0; i < rows * columns; ++i) values.push_back(first + static_cast<float>(i));
    return make_tensor(values, {rows, columns});
}

/// A Hugging Face file with one attention block, projections and an index buffer.
TensorMap huggingface() {
    TensorMap map;
    map.source = "hf";
    const std::string block = "vision_model.encoder.layers.0.";
    float first = 0;
    for (const char* part : {"q", "k", "v"}) {
        map.tensors[block + "self_attn." + part + "_proj.weight"] = numbers(2, 2, first);
        map.tensors[block + "self_attn." + part + "_proj.bias"] = make_tensor<float>({first, first}, {2});
        first += 100;
    }
    map.tensors[block + "mlp.fc1.weight"] = numbers(3, 2, 7);
    map.tensors["vision_model.embeddings.patch_embedding.weight"] = make_tensor<float>({1}, {1, 1, 1, 1});
    map.tensors["vision_model.pre_layrnorm.bias"] = make_tensor<float>({4}, {1});
    map.tensors["text_model.embeddings.position_ids"] = make_tensor<std::int64_t>({0}, {1});
    map.tensors["visual_projection.weight"] = numbers(2, 3, 0);
    map.tensors["extra"] = make_tensor<float>({9}, {1});
    return map;
}

TEST_CASE("names: Hugging Face to OpenAI and back") {
    const TensorMap hf = huggingface(), openai = from_huggingface(hf);
    CHECK(naming_of(hf) == Naming::huggingface);
    CHECK(naming_of(openai) == Naming::openai);
    CHECK(openai.at("visual.transformer.resblocks.0.attn.in_proj_weight", {6, 2}).to<float>() ==
          std::vector<float>{0, 1, 2, 3, 100, 101, 102, 103, 200, 201, 202, 203});
    CHECK(openai.at("visual.transformer.resblocks.0.attn.in_proj_bias").to<float>() ==
          std::vector<float>{0, 0, 100, 100, 200, 200});
    CHECK(openai.at("visual.proj", {3, 2}).to<float>() == std::vector<float>{0, 3, 1, 4, 2, 5});
    CHECK(openai.contains("visual.transformer.resblocks.0.mlp.c_fc.weight"));
    CHECK(openai.contains("visual.ln_pre.bias"));
    CHECK(openai.contains("extra"));
    CHECK_FALSE(openai.contains("text_model.embeddings.position_ids"));

    TensorMap known = openai;
    known.tensors.erase("extra");
    const TensorMap back = to_huggingface(known);
    CHECK(back.tensors.size() == hf.tensors.size() - 2);
    for (const auto& named : back.tensors) {
        CAPTURE(named.first);
        CHECK(hf.at(named.first, named.second.shape).to<float>() == named.second.to<float>());
    }
    CHECK(error_of([&] { to_huggingface(openai); }).find("tensor 'extra' would be lost") != std::string::npos);
}

TEST_CASE("names: parts of an attention projection that do not fit are refused") {
    TensorMap map = huggingface();
    const std::string k = "vision_model.encoder.layers.0.self_attn.k_proj.weight";
    map.tensors.erase(k);
    CHECK(error_of([&] { from_huggingface(map); }).find("one is missing") != std::string::npos);
    map.tensors[k] = numbers(2, 3, 0);
    CHECK(error_of([&] { from_huggingface(map); }).find("differ in shape or type") != std::string::npos);
    map.tensors[k] = make_tensor<half>(std::vector<half>(4), {2, 2});
    CHECK(error_of([&] { from_huggingface(map); }).find("differ in shape or type") != std::string::npos);
    map = huggingface();
    map.tensors["visual_projection.weight"] = make_tensor<float>({1}, {1});
    CHECK(error_of([&] { from_huggingface(map); }).find("expected a matrix") != std::string::npos);
}

TEST_CASE("names: open_clip's text prefix and masks are dropped") {
    TensorMap map;
    map.tensors["text.token_embedding.weight"] = numbers(2, 2, 0);
    map.tensors["text.attn_mask"] = numbers(2, 2, 0);
    map.tensors["visual.conv1.weight"] = numbers(2, 2, 0);
    CHECK(naming_of(map) == Naming::open_clip);
    const TensorMap plain = from_open_clip(map);
    CHECK(plain.tensors.size() == 2);
    CHECK(plain.contains("token_embedding.weight"));
    map.tensors["token_embedding.weight"] = numbers(2, 2, 0);
    CHECK(error_of([&] { from_open_clip(map); }).find("with and without") != std::string::npos);
}

TEST_CASE("names: missing and unknown tensors are listed") {
    TensorMap map;
    map.tensors["visual.class_embedding"] = numbers(1, 1, 0);
    map.tensors["visual.transformer.resblocks.1.ln_1.bias"] = numbers(1, 1, 0);
    map.tensors["stranger"] = numbers(1, 1, 0);
    const Inventory inventory = clip_inventory(map);
    CHECK(inventory.unknown == std::vector<std::string>{"stranger"});
    CHECK(inventory.missing.size() == 8 + 24 + 1 - 2);
    CHECK(std::find(inventory.missing.begin(), inventory.missing.end(), "visual.transformer.resblocks.0.ln_1.bias") !=
          inventory.missing.end());
}

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
    c.source = "j", c.gelu = "quick", c.vision_width = 64, c.vision_heads = 3;
    CHECK(error_of([&] { apply_model_config(c, map); }).find("says vision width 64, but the weights in w have 60") !=
          std::string::npos);
    c.vision_width = 60;
    apply_model_config(c, map);
    CHECK(map.metadata.at("vision_heads") == "3");
    CHECK(map.metadata.at("gelu") == "quick");
    CHECK(map.metadata.count("eot") == 0);
}

}  // namespace

}  // namespace names_test
