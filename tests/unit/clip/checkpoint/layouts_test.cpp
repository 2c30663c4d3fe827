// SPDX-License-Identifier: Apache-2.0
#include "support/hostile_files.hpp"

#include <promptkd/clip/checkpoint/layouts.hpp>

namespace layouts_test {

namespace {

using namespace promptkd;
using schema::Layout;
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

TEST_CASE("layouts: Hugging Face to OpenAI and back") {
    const TensorMap hf = huggingface(), openai = to_openai(hf, Layout::huggingface);
    CHECK(schema::layout_of(hf) == Layout::huggingface);
    CHECK(schema::layout_of(openai) == Layout::openai);
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
    const TensorMap back = from_openai(known, Layout::huggingface);
    CHECK(back.tensors.size() == hf.tensors.size() - 2);
    for (const auto& named : back.tensors) {
        CAPTURE(named.first);
        CHECK(hf.at(named.first, named.second.shape).to<float>() == named.second.to<float>());
    }
    CHECK(error_of([&] { from_openai(openai, Layout::huggingface); }).find("tensor 'extra' would be lost") !=
          std::string::npos);
}

TEST_CASE("layouts: parts of an attention projection that do not fit are refused") {
    TensorMap map = huggingface();
    const std::string k = "vision_model.encoder.layers.0.self_attn.k_proj.weight";
    map.tensors.erase(k);
    CHECK(error_of([&] { to_openai(map, Layout::huggingface); }).find("one is missing") != std::string::npos);
    map.tensors[k] = numbers(2, 3, 0);
    CHECK(error_of([&] { to_openai(map, Layout::huggingface); }).find("differ in shape or type") != std::string::npos);
    map.tensors[k] = make_tensor<half>(std::vector<half>(4), {2, 2});
    CHECK(error_of([&] { to_openai(map, Layout::huggingface); }).find("differ in shape or type") != std::string::npos);
    map = huggingface();
    map.tensors["visual_projection.weight"] = make_tensor<float>({1}, {1});
    CHECK(error_of([&] { to_openai(map, Layout::huggingface); }).find("expected a matrix") != std::string::npos);
}

TEST_CASE("layouts: open_clip's text prefix and masks are dropped") {
    TensorMap map;
    map.tensors["text.token_embedding.weight"] = numbers(2, 2, 0);
    map.tensors["text.attn_mask"] = numbers(2, 2, 0);
    map.tensors["visual.conv1.weight"] = numbers(2, 2, 0);
    CHECK(schema::layout_of(map) == Layout::open_clip);
    const TensorMap plain = to_openai(map, Layout::open_clip);
    CHECK(plain.tensors.size() == 2);
    CHECK(plain.contains("token_embedding.weight"));
    map.tensors["token_embedding.weight"] = numbers(2, 2, 0);
    CHECK(error_of([&] { to_openai(map, Layout::open_clip); }).find("with and without") != std::string::npos);
}

}  // namespace

}  // namespace layouts_test
