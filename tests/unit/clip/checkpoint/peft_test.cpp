// SPDX-License-Identifier: Apache-2.0
#include "support/temporary_folder.hpp"
#include "support/tiny_clip.hpp"

#include <promptkd/clip/checkpoint/peft.hpp>
#include <promptkd/clip/lora_merge.hpp>

#include <doctest/doctest.h>

namespace peft_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

constexpr const char* prefix = "base_model.model.vision_model.encoder.layers.";

/// Updates of rank 2 of queries and values of every block, as peft writes them for tiny_clip().
TensorMap tiny_adapter() {
    TensorMap map;
    map.source = "adapter_model.safetensors";
    unsigned seed = 1;
    for (const char* block : {"0", "1", "2"})
        for (const char* layer : {"q_proj", "v_proj"}) {
            const std::string name = std::string(prefix) + block + ".self_attn." + layer;
            map.tensors[name + ".lora_A.weight"] = make_tensor(numbers(24, ++seed), {2, 12});
            map.tensors[name + ".lora_B.weight"] = make_tensor(numbers(24, ++seed), {12, 2});
        }
    return map;
}

nlohmann::json configuration() { return {{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 3}}; }

/// W of rows [12·part, 12·(part + 1)) of a block's in_proj, plus scale·B·A of the layer.
std::vector<double> updated(const TensorMap& model, const TensorMap& adapter, const std::string& block, Index part,
                            const char* layer, double scale) {
    const std::vector<double> all =
        model.at("visual.transformer.resblocks." + block + ".attn.in_proj_weight").to<double>();
    std::vector<double> w(all.begin() + part * 144, all.begin() + (part + 1) * 144);
    if (!*layer) return w;
    const std::string name = std::string(prefix) + block + ".self_attn." + layer;
    const std::vector<double> a = adapter.at(name + ".lora_A.weight").to<double>();
    const std::vector<double> b = adapter.at(name + ".lora_B.weight").to<double>();
    for (std::size_t o = 0; o < 12; ++o)
        for (std::size_t i = 0; i < 12; ++i)
            for (std::size_t k = 0; k < 2; ++k) w[o * 12 + i] += scale * b[o * 2 + k] * a[k * 12 + i];
    return w;
}

}  // namespace

TEST_CASE("peft: an adapter of queries and values is what peft computes with") {
    const TensorMap adapter = tiny_adapter();
    TensorMap model = tiny_clip();
    const TensorMap before = model;
    const TensorMap updates = read_peft_adapter(adapter, configuration());
    CHECK(lora_config(updates)->rank == 2);
    CHECK(lora_config(updates)->separate_parts);
    merge_lora(model, updates);
    for (const std::string block : {"0", "2"}) {
        std::vector<double> want;
        const char* layers[] = {"q_proj", "", "v_proj"};
        for (Index part = 0; part < 3; ++part)
            for (const double v : updated(before, adapter, block, part, layers[part], 1.5)) want.push_back(v);
        const auto got = model.at("visual.transformer.resblocks." + block + ".attn.in_proj_weight").to<double>();
        CHECK(difference(got, want) < 1e-6);
    }
    nlohmann::json stable = configuration();
    stable["use_rslora"] = true;
    const TensorMap other = read_peft_adapter(adapter, stable);
    const std::vector<double> one = updates.at("lora.0.attn.in_proj.B").to<double>();
    const std::vector<double> two = other.at("lora.0.attn.in_proj.B").to<double>();
    CHECK(two[0] == doctest::Approx(one[0] / 1.5 * 3 / std::sqrt(2.0)).epsilon(1e-6));
}

TEST_CASE("peft: what is written is read back, a common A as three equal ones") {
    TensorMap updates;
    updates.source = "student";
    updates.tensors["lora.1.attn.in_proj.A"] = make_tensor(as<float>(numbers(24, 1)), {2, 12});
    updates.tensors["lora.1.attn.in_proj.B"] = make_tensor(as<float>(numbers(72, 2)), {36, 2});
    updates.tensors["lora.1.mlp.c_fc.A"] = make_tensor(as<float>(numbers(24, 3)), {2, 12});
    updates.tensors["lora.1.mlp.c_fc.B"] = make_tensor(as<float>(numbers(96, 4)), {48, 2});
    const TemporaryFolder folder;
    write_peft_adapter(folder / "adapter", updates);
    const TensorMap file = read_safetensors(folder / "adapter/adapter_model.safetensors");
    CHECK(file.contains(std::string(prefix) + "1.self_attn.k_proj.lora_A.weight"));
    CHECK(file.contains(std::string(prefix) + "1.mlp.fc1.lora_B.weight"));
    CHECK(is_peft_adapter(file));
    TensorMap one = tiny_clip(), two = tiny_clip();
    merge_lora(one, updates);
    merge_lora(two, read_peft_adapter(file));
    for (const auto& [name, tensor] : one.tensors) CHECK(tensor.to<double>() == two.at(name).to<double>());
}

TEST_CASE("peft: what is not read is refused by name") {
    const auto refusal = [](const TensorMap& adapter, const nlohmann::json& config) {
        return error_of([&] { read_peft_adapter(adapter, config); });
    };
    const auto says = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
    nlohmann::json config = configuration();
    config["peft_type"] = "LOHA";
    CHECK(says(refusal(tiny_adapter(), config), "not the configuration of a LoRA"));
    for (const char* key : {"peft_type", "bias", "use_dora", "use_rslora"}) {
        config = configuration();
        config[key] = 3;
        CHECK(says(refusal(tiny_adapter(), config), "adapter_config.json: '"));
        CHECK(says(refusal(tiny_adapter(), config), "is 3, which is no such setting"));
    }
    config = configuration();
    config["use_dora"] = nullptr;
    CHECK_NOTHROW(read_peft_adapter(tiny_adapter(), config));
    config["rank_pattern"] = {{"q_proj", 4}};
    CHECK(says(refusal(tiny_adapter(), config), "rank_pattern"));
    config = configuration();
    config["r"] = 4;
    CHECK(says(refusal(tiny_adapter(), config), "which is not of rank 4"));
    TensorMap text = tiny_adapter();
    text.tensors["base_model.model.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight"] =
        make_tensor(numbers(24, 1), {2, 12});
    CHECK(says(refusal(text, configuration()), "no update of a CLIP vision model"));
    CHECK(says(error_of([] { read_peft_adapter(tiny_adapter()); }), "needs adapter_config.json beside it"));
    TensorMap model = tiny_clip();
    TensorMap wide = tiny_adapter();
    for (auto& [name, tensor] : wide.tensors)
        if (name.ends_with("lora_A.weight")) tensor = make_tensor(numbers(28, 1), {2, 14});
    const TensorMap updates = read_peft_adapter(wide, configuration());
    CHECK(says(error_of([&] { merge_lora(model, updates); }), "belongs to another model"));
}

}  // namespace peft_test
