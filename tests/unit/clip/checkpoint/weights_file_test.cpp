// SPDX-License-Identifier: Apache-2.0
#include "support/hostile_files.hpp"

#include <promptkd/clip/checkpoint/convert.hpp>
#include <promptkd/clip/checkpoint/inventory.hpp>
#include <promptkd/learner/registry.hpp>

#include <limits>

namespace weights_file_test {

namespace {

using namespace promptkd;
using test::error_of;
using test::TemporaryFolder;

const std::string formats = std::string(PROMPTKD_TEST_DATA) + "/formats/";

/// Reads and collects the warnings.
TensorMap read(const std::string& path, std::string* warnings = nullptr, WeightsOptions options = {}) {
    options.warn = [&](const std::string& text) {
        if (warnings) *warnings += text + "\n";
    };
    options.names = {"--activation", "--model-config FILE"};
    options.learner_of = &name_of_learner;
    return read_weights(path, options);
}

std::string refusal(const std::string& path) {
    return error_of([&] { read(path); });
}

void check_same(const TensorMap& a, const TensorMap& b) {
    REQUIRE(a.tensors.size() == b.tensors.size());
    for (const auto& named : a.tensors) {
        CAPTURE(named.first);
        const HostTensor& other = b.at(named.first, named.second.shape);
        CHECK(other.dtype == named.second.dtype);
        CHECK((named.second.count() == 0 || std::memcmp(other.bytes, named.second.bytes, other.size_bytes()) == 0));
    }
}

TEST_CASE("weights: every format comes back under OpenAI's names with its configuration") {
    std::string warnings;
    const TensorMap openai = read(formats + "openai.pt", &warnings);
    CHECK(warnings.empty());
    CHECK(classify_weights(openai) == WeightsKind::clip);
    CHECK(openai.metadata.at("gelu") == "quick");
    CHECK_FALSE(openai.contains("vocab_size"));
    CHECK(clip_inventory(openai).missing.empty());
    CHECK(clip_inventory(openai).unknown.empty());

    const TensorMap legacy = read(formats + "state_dict_legacy.pt", &warnings);
    CHECK(warnings.find("read as OpenAI's, with quick_gelu") != std::string::npos);
    for (const char* activation : {"quick_gelu", "gelu"}) {  // the first confirms that guess, heads included
        warnings.clear();
        WeightsOptions decided;
        decided.activation = activation;
        read(formats + "state_dict_legacy.pt", &warnings, decided);
        CHECK((warnings.find("attention heads") == std::string::npos) == (decided.activation == "quick_gelu"));
    }
    CHECK(legacy.tensors.size() == openai.tensors.size());

    for (const std::string path : {"hf_gelu", "hf_gelu/model.safetensors"}) {
        const TensorMap hf = read(formats + path);
        CHECK(clip_inventory(hf).missing.empty());
        CHECK(clip_inventory(hf).unknown.empty());
        CHECK(hf.metadata.at("vision_heads") == "3");
        CHECK(hf.metadata.at("text_heads") == "4");
        CHECK(hf.metadata.at("gelu") == "exact");
        CHECK(hf.metadata.at("eot") == "95");
        CHECK(hf.metadata.at("naming") == "huggingface");
    }
    const TensorMap open_clip = read(formats + "open_clip_gelu.safetensors");
    CHECK(open_clip.metadata.at("vision_heads") == "3");
    CHECK(open_clip.metadata.at("gelu") == "exact");
    CHECK(open_clip.metadata.at("eot") == "argmax");
}

TEST_CASE("weights: an activation that nothing tells is asked for") {
    const TemporaryFolder folder;
    std::filesystem::copy_file(formats + "open_clip_gelu.safetensors", folder / "m.safetensors");
    CHECK(refusal(folder / "m.safetensors").find("give --activation quick_gelu") != std::string::npos);
    CHECK(refusal(folder / "m.safetensors").find("--model-config FILE") != std::string::npos);
    const std::string plain = error_of([&] { read_weights(folder / "m.safetensors"); });
    CHECK(plain.find("give WeightsOptions::activation quick_gelu") != std::string::npos);
    CHECK(plain.find("--") == std::string::npos);  // a library knows no command line
    WeightsOptions options;
    options.activation = "quick_gelu";
    std::string warnings;
    CHECK(read(folder / "m.safetensors", &warnings, options).metadata.at("gelu") == "quick");
    CHECK(warnings.find("width / 64 is used") != std::string::npos);
    options.activation.clear();
    options.config = formats + "open_clip_gelu.json";
    CHECK(read(folder / "m.safetensors", nullptr, options).metadata.at("vision_heads") == "3");
    options.config = formats + "hf_gelu/config.json";
    CHECK(error_of([&] { read(folder / "m.safetensors", nullptr, options); }).find("belongs to another model") !=
          std::string::npos);
    options.config = folder / "m.safetensors";
    CHECK(error_of([&] { read(folder / "m.safetensors", nullptr, options); }).find("not the configuration") !=
          std::string::npos);

    std::filesystem::copy_file(formats + "hf_gelu/model.safetensors", folder / "hf.safetensors");
    CHECK(refusal(folder / "hf.safetensors").find("no config.json beside it") != std::string::npos);
    options.config.clear();
    options.require_activation = false;
    CHECK(read(folder / "hf.safetensors", nullptr, options).metadata.count("gelu") == 0);
}

TEST_CASE("weights: the published checkpoints are reduced to what they learned") {
    const std::pair<const char*, std::size_t> files[] = {
        {"coop", 1}, {"maple", 9}, {"promptsrc", 6}, {"promptkd_student", 12}};
    for (const auto& file : files) {
        const TensorMap map = read(formats + "checkpoints/" + file.first + ".pth.tar");
        CAPTURE(file.first);
        CHECK(classify_weights(map) == WeightsKind::learner);
        CHECK(std::string(file.first).find(map.metadata.at("learner")) == 0);
        CHECK(map.tensors.size() == file.second);
        CHECK(map.metadata.at("epoch") == (map.metadata.at("learner") == "promptkd" ? "10" : "20"));
    }
    CHECK(read(formats + "checkpoints/coop.pth.tar").at("prompt_learner.ctx").shape == Shape{4, 128});
}

TEST_CASE("weights: learners are told apart by their parameters") {
    const auto learner = [](const std::vector<std::string>& names) {
        TensorMap map;
        for (const std::string& name : names) map.tensors[name] = make_tensor<float>({1}, {1});
        return learned_parameters(map, &name_of_learner).metadata.at("learner");
    };
    CHECK(learner({"ctx", "token_prefix"}) == "coop");
    CHECK(learner({"ctx", "meta_net.linear1.weight"}) == "cocoop");
    CHECK(learner({"image_encoder.VPT"}) == "vpt");
    CHECK(learner({"image_encoder.VPT", "prompt_learner.ctx"}) == "ivlp");
    CHECK(learner({"image_encoder.VPT", "prompt_learner.ctx", "prompt_learner.ZS_image_encoder.proj"}) == "promptsrc");
    CHECK(learner({"prompt_learner.ctx", "prompt_learner.proj.weight"}) == "maple");
    CHECK(learner({"VPT_image_trans.conv1.0.weight", "image_encoder.VPT"}) == "promptkd");
}

TEST_CASE("weights: MaPLe's prompts become those of two branches") {
    const TensorMap maple = read(formats + "checkpoints/maple.pth.tar"), prompts = fixed_prompts(maple);
    CHECK(visual_prompt_design(prompts).tokens == 2);
    CHECK(visual_prompt_design(prompts).depth == 3);
    CHECK(text_prompt_design(prompts).depth == 3);
    const std::vector<double> x = maple.at("prompt_learner.compound_prompts_text.1").to<double>(),
                              w = maple.at("prompt_learner.compound_prompt_projections.1.weight").to<double>(),
                              b = maple.at("prompt_learner.compound_prompt_projections.1.bias").to<double>(),
                              got = prompts.at("image_encoder.transformer.resblocks.2.VPT_shallow", {2, 128})
                                        .to<double>();
    double y = b[5];
    for (std::size_t k = 0; k < 128; ++k) y += w[5 * 128 + k] * x[128 + k];
    CHECK(got[128 + 5] == doctest::Approx(y).epsilon(1e-6));
    TensorMap broken = maple;
    broken.tensors.erase("prompt_learner.compound_prompts_text.1");
    CHECK(error_of([&] { expand_maple(broken); }).find("compound_prompts_text.1' is missing") != std::string::npos);
    broken = maple;
    broken.tensors["prompt_learner.proj.weight"] = make_tensor<float>(std::vector<float>(6), {2, 3});
    CHECK(error_of([&] { expand_maple(broken); }).find("does not fit") != std::string::npos);
    TensorMap cocoop;
    cocoop.tensors["prompt_learner.ctx"] = cocoop.tensors["prompt_learner.meta_net.linear1.weight"] =
        make_tensor<float>({1}, {1, 1});
    CHECK(error_of([&] { fixed_prompts(cocoop); }).find("depends on each image") != std::string::npos);
}

TEST_CASE("weights: every conversion comes back bit for bit") {
    const TemporaryFolder folder;
    for (const std::string name : {"openai.pt", "hf_gelu", "open_clip_gelu.safetensors"}) {
        const TensorMap original = read(formats + name);
        const std::pair<WeightsTarget, std::string> targets[] = {{WeightsTarget::openai, folder / "o.safetensors"},
                                                                 {WeightsTarget::open_clip, folder / "c.safetensors"},
                                                                 {WeightsTarget::huggingface, folder / name + ".hf"}};
        for (const auto& target : targets) {
            const WrittenWeights written = convert_weights(original, target.first, target.second);
            CHECK(written.kind == std::string("CLIP model"));
            const bool folder_of_parts = target.first == WeightsTarget::huggingface;
            const std::string file = folder_of_parts ? target.second + "/model.safetensors" : target.second;
            CHECK(written.tensors == read_safetensors(file).tensors.size());
            const TensorMap back = read(target.second);
            check_same(original, back);
            for (const char* key : {"vision_heads", "text_heads", "gelu", "eot"}) {
                const auto it = original.metadata.find(key);
                if (it != original.metadata.end()) CHECK(back.metadata.at(key) == it->second);
            }
            convert_weights(back, WeightsTarget::huggingface, folder / name + ".again");
            check_same(original, read(folder / name + ".again"));
        }
    }
    convert_weights(read(formats + "openai.pt"), WeightsTarget::checkpoint, folder / "o.pth");
    check_same(read(formats + "openai.pt"), read(folder / "o.pth"));
    for (const std::string name : {"coop", "maple", "promptsrc", "promptkd_student"}) {
        const TensorMap original = read(formats + "checkpoints/" + name + ".pth.tar");
        for (const WeightsTarget target : {WeightsTarget::checkpoint, WeightsTarget::openai}) {
            CHECK(convert_weights(original, target, folder / name).tensors == original.tensors.size());
            const TensorMap back = read(folder / name);
            check_same(original, back);
            CHECK(back.metadata.at("learner") == original.metadata.at("learner"));
            CHECK(back.metadata.at("epoch") == original.metadata.at("epoch"));
        }
    }
    convert_weights(read(formats + "checkpoints/coop.pth.tar"), WeightsTarget::checkpoint, folder / "bare");
    CHECK(read_torch(folder / "bare").contains("ctx"));
}

TEST_CASE("weights: open_clip's and Hugging Face's JSON alone carry the configuration") {
    const TemporaryFolder folder;
    convert_weights(read(formats + "hf_gelu"), WeightsTarget::open_clip, folder / "c.safetensors");
    convert_weights(read(formats + "open_clip_gelu.safetensors"), WeightsTarget::huggingface, folder / "h");
    for (const std::string& path : {folder / "c.safetensors", folder / "h/model.safetensors"}) {
        TensorMap map = read_safetensors(path);
        map.metadata.clear();
        write_safetensors(path, map);
        const TensorMap back = read(path);
        CHECK(back.metadata.at("vision_heads") == "3");
        CHECK(back.metadata.at("gelu") == "exact");
        CHECK(back.metadata.at("eot") == "argmax");  // 95 is the last id of 96: the same rule
    }
}

TEST_CASE("weights: a target that cannot carry the model is refused, naming what would be lost") {
    const TemporaryFolder folder;
    const auto refused = [&](const TensorMap& map, WeightsTarget target) {
        return error_of([&] { convert_weights(map, target, folder / "x"); });
    };
    const std::string message = refused(read(formats + "hf_gelu"), WeightsTarget::checkpoint);
    CHECK(message.find("attention heads of the image branch (3 at width 48)") != std::string::npos);
    CHECK(message.find("attention heads of the text branch (4 at width 64)") != std::string::npos);
    CHECK(message.find("the activation (gelu)") != std::string::npos);
    TensorMap odd = read(formats + "openai.pt");
    odd.metadata["eot"] = "7";
    CHECK(refused(odd, WeightsTarget::checkpoint).find("the EOT rule (first token 7)") != std::string::npos);
    CHECK(refused(read(formats + "checkpoints/maple.pth.tar"), WeightsTarget::huggingface)
              .find("learned parameters (maple) would be lost") != std::string::npos);
    CHECK(refused(read(formats + "openai.expected.safetensors"), WeightsTarget::openai).find("nothing to convert") !=
          std::string::npos);
    CHECK_FALSE(std::filesystem::exists(folder / "x"));
}

TEST_CASE("weights: sharded folders are read, and damaged ones named") {
    const TemporaryFolder folder;
    const TensorMap whole = read_safetensors(formats + "hf_gelu/model.safetensors");
    TensorMap parts[2];
    nlohmann::json index;
    int i = 0;
    for (const auto& named : whole.tensors) {
        parts[++i % 2].tensors.insert(named);
        index["weight_map"][named.first] = "part-" + std::to_string(i % 2) + ".safetensors";
    }
    for (int p = 0; p < 2; ++p) write_safetensors(folder / "part-" + std::to_string(p) + ".safetensors", parts[p]);
    const auto write_index = [&](const nlohmann::json& json) {
        write_atomically(folder / "model.safetensors.index.json", json.dump());
    };
    write_index(index);
    std::filesystem::copy_file(formats + "hf_gelu/config.json", folder / "config.json");
    check_same(read(formats + "hf_gelu"), read(folder.path()));
    nlohmann::json bad = index;
    bad["weight_map"]["ghost"] = "part-0.safetensors";
    write_index(bad);
    CHECK(refusal(folder.path()).find("tensor 'ghost' is missing") != std::string::npos);
    for (const std::string name : {"../part-0.safetensors", "/etc/passwd", "..", ""}) {
        bad["weight_map"]["ghost"] = name;
        write_index(bad);
        CHECK(refusal(folder.path()).find("leaves the folder") != std::string::npos);
    }
    bad["weight_map"]["ghost"] = 3;
    write_index(bad);
    CHECK(refusal(folder.path()).find("is not a text") != std::string::npos);
    write_index(nlohmann::json::array());
    CHECK(refusal(folder.path()).find("not an index of shards") != std::string::npos);
    write_index(index);
    std::filesystem::remove(folder / "part-1.safetensors");
    CHECK(refusal(folder.path()).find("part-1.safetensors") != std::string::npos);
    std::filesystem::remove(folder / "model.safetensors.index.json");
    CHECK(refusal(folder.path()).find("no weights in this folder") != std::string::npos);
}

TEST_CASE("weights: NaN, placeholders and strangers are refused") {
    const TemporaryFolder folder;
    TensorMap map = read_safetensors(std::string(PROMPTKD_ASSETS) + "/fashion_teacher_prompts.safetensors");
    std::vector<float> values = map.at("prompt_learner.ctx").to<float>();
    values[3] = std::numeric_limits<float>::quiet_NaN();
    map.tensors["prompt_learner.ctx"] = make_tensor(values, {4, 128});
    write_safetensors(folder / "nan", map);
    CHECK(refusal(folder / "nan").find("nan: tensor 'prompt_learner.ctx' holds NaN or infinity") != std::string::npos);
    map.tensors.erase("prompt_learner.ctx");
    map.tensors["attn_mask"] = make_tensor<float>({0, -std::numeric_limits<float>::infinity()}, {1, 2});
    write_safetensors(folder / "mask", map);
    read(folder / "mask");

    for (const std::string suffix : {".pt", ".safetensors", ".bin"}) {
        write_atomically(folder / "lfs" + suffix, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n");
        CHECK(refusal(folder / "lfs" + suffix).find("Git LFS pointer") != std::string::npos);
        write_atomically(folder / "page" + suffix, "\n<!DOCTYPE html><html><title>404</title></html>");
        CHECK(refusal(folder / "page" + suffix).find("HTML page") != std::string::npos);
    }
    write_atomically(folder / "pickle", std::string("\x80\x04N.", 4));
    CHECK(refusal(folder / "pickle").find("not one that torch.save wrote") != std::string::npos);
    write_atomically(folder / "text", "hello world, this is text");
    CHECK(refusal(folder / "text").find("none of the known formats") != std::string::npos);
    write_atomically(folder / "empty", "");
    CHECK(refusal(folder / "empty").find("none of the known formats") != std::string::npos);
    CHECK(refusal(folder / "absent").find("No such file") != std::string::npos);
}

TEST_CASE("weights: NaN and infinity are found in every type") {
    CHECK(all_finite(make_tensor<float>({1, -3e38f, 0}, {3})));
    CHECK_FALSE(all_finite(make_tensor<float>({1, std::numeric_limits<float>::infinity()}, {2})));
    CHECK_FALSE(all_finite(make_tensor<double>({std::numeric_limits<double>::quiet_NaN()}, {1})));
    CHECK(all_finite(make_tensor<half>({half(65504.0f)}, {1})));
    CHECK_FALSE(all_finite(make_tensor<half>({half(std::numeric_limits<float>::infinity())}, {1})));
    CHECK_FALSE(all_finite(make_tensor<bf16>({bf16(1.0f), bf16(std::numeric_limits<float>::quiet_NaN())}, {2})));
    CHECK(all_finite(make_tensor<std::int64_t>({-1}, {1})));
    std::vector<half> many(5000, half(1.0f));
    many[4999] = half(std::numeric_limits<float>::quiet_NaN());
    CHECK_FALSE(all_finite(make_tensor(many, {5000})));
}

}  // namespace

}  // namespace weights_file_test
