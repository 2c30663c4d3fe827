// SPDX-License-Identifier: Apache-2.0
// Weights as people have them: inside other modules, under other keys, the image branch alone, in the folder of a run;
// and what is said of files that are something else.
#include "support/hostile_files.hpp"
#include "support/tiny_clip.hpp"

#include <promptkd/clip/checkpoint/convert.hpp>
#include <promptkd/clip/checkpoint/explain.hpp>
#include <promptkd/evaluate/bundle.hpp>
#include <promptkd/experiment/models.hpp>
#include <promptkd/learner/registry.hpp>

namespace promptkd::test::wrapped_weights_test {

namespace {

using State = std::map<std::string, HostTensor>;

/// tiny_clip() in fp32.
TensorMap model() {
    TensorMap map = tiny_clip();
    for (auto& named : map.tensors) named.second = make_tensor(named.second.to<float>(), named.second.shape);
    return map;
}

/// Its tensors with `prefix` in front of every name that `keep` takes.
template <class Keep>
State prefixed(const std::string& prefix, const Keep& keep) {
    State state;
    for (const auto& [name, tensor] : model().tensors)
        if (keep(name)) state[prefix + name] = tensor;
    return state;
}
State prefixed(const std::string& prefix) {
    return prefixed(prefix, [](const std::string&) { return true; });
}
bool is_visual(const std::string& name) { return name.rfind("visual.", 0) == 0; }

/// torch.save of {key: state, …, "epoch": 3}.
void write_states(const std::string& path, const std::vector<std::pair<std::string, State>>& states) {
    using detail::Opcode;
    detail::PickleWriter pickle;
    pickle.op(Opcode::empty_dict).op(Opcode::mark);
    std::size_t key = 0;
    for (const auto& [name, state] : states) {
        pickle.text(name).ordered_dict().op(Opcode::mark);
        for (const auto& [tensor_name, tensor] : state) pickle.text(tensor_name).tensor(tensor, std::to_string(key++));
        pickle.op(Opcode::setitems);
    }
    pickle.text("epoch").integer(3);
    const std::string data = pickle.op(Opcode::setitems).finish();
    write_atomically(path, [&](AtomicFile& file) {
        detail::StoredZipWriter zip(file);
        zip.add("archive/data.pkl", data);
        key = 0;
        for (const auto& named : states)
            for (const auto& tensor : named.second)
                zip.add("archive/data/" + std::to_string(key++), tensor.second.bytes, tensor.second.size_bytes());
        zip.finish();
    });
}

void write_state(const std::string& path, const State& state) {
    TensorMap map;
    map.tensors = state;
    write_safetensors(path, map);
}

TensorMap read(const std::string& path, std::string* said = nullptr) {
    WeightsOptions options;
    options.activation = "quick_gelu";
    options.learner_of = &name_of_learner;
    options.warn = [said](const std::string& text) {
        if (said && text.find("attention heads") == std::string::npos) *said += text + "\n";
    };
    return read_weights(path, options);
}

void check_whole(const TensorMap& map) {
    const TensorMap want = model();
    CHECK(map.tensors.size() == want.tensors.size());
    for (const auto& [name, tensor] : want.tensors) {
        const auto& shown_name = name;  // clang 14 captures no structured binding
        CAPTURE(shown_name);
        REQUIRE(map.contains(name));
        CHECK(map.at(name).to<float>() == tensor.to<float>());
    }
    CHECK(clip_inventory(map).unknown.empty());
}

}  // namespace

TEST_CASE("weights: any prefixes in front of a model's names are found by its tensors") {
    const TemporaryFolder folder;
    for (const char* prefix : {"", "module.", "_orig_mod.", "module._orig_mod.", "model.", "clip_model.", "clip.",
                               "net.backbone.clip.", "module.student_model.", "0."}) {
        CAPTURE(prefix);
        std::string said;
        write_state(folder / "a.safetensors", prefixed(prefix));
        check_whole(read(folder / "a.safetensors", &said));
        CHECK(said.empty());
        write_torch_checkpoint(folder / "a.pt", prefixed(prefix), 1);
        check_whole(read(folder / "a.pt"));
    }
    // The branches under names of their own, and something beside them.
    State state = prefixed("image_side.", is_visual);
    state.merge(prefixed("texts.clip.", [](const std::string& name) { return !is_visual(name); }));
    write_state(folder / "b.safetensors", state);
    check_whole(read(folder / "b.safetensors"));
    state = prefixed("model.");
    state["loss.weight"] = make_tensor(std::vector<float>{1, 2}, {2});
    write_state(folder / "c.safetensors", state);
    CHECK(read(folder / "c.safetensors").contains("loss.weight"));
    CHECK_NOTHROW(require_all_used(read(folder / "c.safetensors")));  // it is no part of the model
    CHECK(read(folder / "c.safetensors").metadata.at("name_prefix") == "model.");
}

TEST_CASE("weights: of a model and its average the model is taken, which is said; of two models neither") {
    const TemporaryFolder folder;
    State state = prefixed("model.");
    state.merge(prefixed("ema_model."));
    write_state(folder / "a.safetensors", state);
    std::string said;
    CHECK(read(folder / "a.safetensors", &said).contains("visual.conv1.weight"));
    CHECK(said.find("under 'model.' is read, the one under 'ema_model.' is not") != std::string::npos);
    state = prefixed("student.");
    state.merge(prefixed("teacher."));
    write_state(folder / "b.safetensors", state);
    CHECK(error_of([&] { read(folder / "b.safetensors"); }).find("several models, under 'student.' and 'teacher.'") !=
          std::string::npos);
}

TEST_CASE("weights: torch files keep the model under any key") {
    const TemporaryFolder folder;
    const std::string path = folder / "a.pt";
    for (const char* key : {"state_dict", "model", "model_state_dict", "net", "ema"}) {
        CAPTURE(key);
        write_states(path, {{key, prefixed("")}, {"optimizer", {{"lr", make_tensor(std::vector<float>{1}, {1})}}}});
        const TensorMap map = read(path);
        check_whole(map);
        CHECK(map.metadata.at("epoch") == "3");
    }
    std::string said;
    write_states(path, {{"model_ema", prefixed("module.")}, {"model", prefixed("module.")}});
    const TensorMap chosen = read(path, &said);
    check_whole(chosen);
    CHECK(chosen.metadata.at("state_key") == "model");
    CHECK(said.find("under 'model' are read, those under 'model_ema' are not") != std::string::npos);
    write_states(path, {{"teacher", prefixed("")}, {"student", prefixed("", is_visual)}});
    CHECK(error_of([&] { read(path); }).find("holds several sets of tensors, 'teacher'") != std::string::npos);
}

TEST_CASE("weights: an image branch alone, with and without its own name") {
    const TemporaryFolder folder;
    State bare;
    for (const auto& [name, tensor] : prefixed("", is_visual)) bare["encoder." + name.substr(7)] = tensor;
    write_state(folder / "bare.safetensors", bare);
    write_state(folder / "named.safetensors", prefixed("", is_visual));
    write_torch_checkpoint(folder / "named.pt", prefixed("module.", is_visual), 1);
    Cpu<float> device(1);
    for (const char* file : {"bare.safetensors", "named.safetensors", "named.pt"}) {
        CAPTURE(file);
        std::string said;
        TensorMap map = read(folder / file, &said);
        CHECK(said.find("the image branch alone; its logits are scaled by 100") != std::string::npos);
        map.metadata["vision_heads"] = "3";
        const ClipModel<Cpu<float>> alone(device, map);
        CHECK(alone.logit_scale() == doctest::Approx(100));
        CHECK_FALSE(alone.has_text());
    }
}

TEST_CASE("weights: the folder of a run stands for what it holds") {
    const TemporaryFolder folder;
    const auto add = [&](const std::string& name, const State& state) {
        std::filesystem::create_directories(std::filesystem::path(folder / name).parent_path());
        write_torch_checkpoint(folder / name, state, 1);
    };
    const HostTensor ctx = make_tensor(std::vector<float>{1, 2}, {1, 2}),
                     other = make_tensor(std::vector<float>{3, 4}, {1, 2});
    add("seed1/prompt_learner/model.pth.tar-5", {{"ctx", other}});
    add("seed1/prompt_learner/model.pth.tar-50", {{"ctx", ctx}});
    add("seed1/prompt_learner/model.pth.tar-9", {{"ctx", other}});
    for (const char* at : {"seed1", "seed1/prompt_learner"}) {
        const TensorMap found = read(folder / at);
        CHECK(found.at("prompt_learner.ctx").to<float>() == std::vector<float>{1, 2});
        CHECK(found.source.find("seed1") != std::string::npos);
    }
    add("two/a/model.pth.tar-1", {{"ctx", ctx}});
    add("two/b/model.pth.tar-1", {{"ctx", ctx}});
    CHECK(error_of([&] { read(folder / "two"); }).find("several runs in this folder; give one of") !=
          std::string::npos);
    std::filesystem::create_directories(folder / "young/checkpoint");
    CHECK(error_of([&] { read(folder / "young"); }).find("has not ended") != std::string::npos);
    std::filesystem::create_directories(folder / "empty");
    CHECK(error_of([&] { read(folder / "empty"); }).find("and no run") != std::string::npos);
    std::filesystem::create_directories(folder / "ours");
    write_state(folder / "ours/prompts.safetensors", {{"prompt_learner.ctx", ctx}});
    CHECK(read(folder / "ours").contains("prompt_learner.ctx"));
}

TEST_CASE("weights: a file of another kind is named as what it is") {
    const TemporaryFolder folder;
    const auto said = [&](const auto& load) { return error_of([&] { load(); }); };
    const std::string a = folder / "a.safetensors";
    const auto as_model = [&] { load_model(ModelFile{a, "", "quick_gelu"}, silent_observer()); };
    const auto as_prompts = [&] { load_prompts(a, silent_observer()); };
    write_state(a, {{"blocks.0.attn.qkv.weight", make_tensor(std::vector<float>{1}, {1})},
                    {"blocks.0.attn.qkv.bias", make_tensor(std::vector<float>{1}, {1})},
                    {"cls_token", make_tensor(std::vector<float>{1}, {1})},
                    {"pos_embed", make_tensor(std::vector<float>{1}, {1})}});
    CHECK(said(as_model).find("not a CLIP model: it holds 4 tensors ('blocks.0.attn.qkv.bias', "
                              "'blocks.0.attn.qkv.weight', 'cls_token', …), most like a ViT of timm's") !=
          std::string::npos);
    write_state(a, {{"prompt_learner.ctx", make_tensor(std::vector<float>{1}, {1, 1})}});
    CHECK(said(as_model).find("learned parameters") != std::string::npos);
    CHECK(said(as_model).find("not a CLIP model") != std::string::npos);
    write_state(a, prefixed(""));
    CHECK(said(as_prompts).find("a CLIP model, not learned prompts") != std::string::npos);
    CHECK(said([&] { load_bundle(a, {}, silent_observer()); }).find("a CLIP model, not a student bundle") !=
          std::string::npos);
    CHECK(said([&] { load_class_vectors(a, 2, 0, silent_observer()); }).find("no class vectors: it holds") !=
          std::string::npos);
    write_state(a, {{projector_name(0, "weight"), make_tensor(std::vector<float>{1}, {1, 1})},
                    {visual_prompt_name, make_tensor(std::vector<float>{1}, {1, 1})}});
    CHECK(said(as_prompts).find("a PromptKD student, not learned prompts") != std::string::npos);
    TensorMap bundle;
    bundle.tensors["class_vectors"] = make_tensor(std::vector<float>{1}, {1, 1});
    bundle.metadata["format"] = bundle_format;
    write_safetensors(a, bundle);
    CHECK(said(as_model).find("a student bundle, which evaluate and classify take, not a CLIP model") !=
          std::string::npos);
    CHECK(said(as_prompts).find("a student bundle, which evaluate and classify take, not learned prompts") !=
          std::string::npos);
}

TEST_CASE("weights: tensors of the model that nothing reads are an error where its results are wanted") {
    const TemporaryFolder folder;
    const std::string a = folder / "a.safetensors";
    for (const char* name : {"visual.transformer.resblocks.0.adapter.down.weight", "visual.conv1.odd",
                             "text_projection.odd", "transformer.resblocks.1.attn.gate"}) {
        CAPTURE(name);
        State state = prefixed("model.");
        state[std::string("model.") + name] = make_tensor(std::vector<float>{1}, {1});
        write_state(a, state);
        CHECK(error_of([&] {
                  load_model(ModelFile{a, "", "quick_gelu"}, silent_observer());
              }).find(std::string("1 tensor of the model would not be used ('") + name) != std::string::npos);
        CHECK_NOTHROW(read(a));  // inspect still tells what is there
    }
}

TEST_CASE("weights: safetensors without metadata may say null") {
    const TemporaryFolder folder;
    const std::string path = folder / "a.safetensors";
    std::string header = R"({"__metadata__":null,"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
    std::string file;
    for (int i = 0; i < 8; ++i) file += static_cast<char>(header.size() >> (8 * i));
    write_atomically(path, file + header + std::string(4, '\0'));
    const TensorMap map = read_safetensors(path);
    CHECK(map.contains("x"));
    CHECK(map.metadata.empty());
    header = R"({"__metadata__":{"a":null}})";
    file.clear();
    for (int i = 0; i < 8; ++i) file += static_cast<char>(header.size() >> (8 * i));
    write_atomically(path, file + header);
    CHECK_THROWS_AS(read_safetensors(path), Error);
}

}  // namespace promptkd::test::wrapped_weights_test
