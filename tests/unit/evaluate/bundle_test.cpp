// SPDX-License-Identifier: Apache-2.0
#include "support/temporary_folder.hpp"
#include "support/tiny_student.hpp"

#include <promptkd/evaluate/bundle.hpp>

#include <doctest/doctest.h>

namespace bundle_test {

namespace {

using namespace promptkd;
using namespace promptkd::test;

using Device = Cpu<float>;

/// A whole bundle, in memory.
TensorMap tiny_bundle() {
    const TinyStudent<Device> tiny;
    const TemporaryFolder folder;
    write_bundle(folder / "student.safetensors", tiny.student, tiny.model_map, tiny.class_vectors, tiny.class_names);
    return read_safetensors(folder / "student.safetensors");
}

/// The message with which a bundle that `change` has damaged is refused.
template <class F>
std::string refusal(const F& change) {
    TensorMap bundle = tiny_bundle();
    bundle.source = "b.safetensors";
    change(bundle);
    return error_of([&] { read_bundle(bundle); });
}

bool mentions(const std::string& message, const std::string& text) { return message.find(text) != std::string::npos; }

TEST_CASE("bundle: what is written, by name") {
    const TensorMap bundle = tiny_bundle();
    CHECK(bundle.metadata.at("format") == "promptkd.student");
    CHECK(bundle.metadata.at("format_version") == "1");
    CHECK(bundle.metadata.count("requires") == 0);
    CHECK(bundle.metadata.at("class_names") == R"(["cat","dog","car","fire truck"])");
    CHECK(bundle.metadata.at("vision_heads") == "3");
    CHECK(bundle.metadata.at("gelu") == "quick");
    CHECK(bundle.metadata.at("student") == R"({"depth":2,"projector_layers":2,"prompts":2,"train":"prompts"})");
    CHECK(bundle.metadata.at("preprocessing") ==
          R"({"crop":"center","normalization":"clip","resize":"bicubic","resolution":8})");
    CHECK(bundle.metadata.at("provenance") == "{}");
    CHECK(bundle.contains("clip.visual.conv1.weight"));
    CHECK(bundle.contains("clip.logit_scale"));
    CHECK(!bundle.contains("clip.token_embedding.weight"));  // no text encoder
    CHECK(bundle.contains("image_encoder.VPT"));
    CHECK(bundle.contains("VPT_image_trans.conv1.3.weight"));
    CHECK(bundle.contains("VPT_image_trans.conv1.1.running_mean"));
    CHECK(bundle.at("class_vectors").shape == Shape{4, 7});
}

TEST_CASE("bundle: its parts come back, and make the same bundle again") {
    const TensorMap bundle = tiny_bundle();
    const BundleParts parts = read_bundle(bundle);
    CHECK(parts.class_names == std::vector<std::string>{"cat", "dog", "car", "fire truck"});
    CHECK(parts.required.empty());
    CHECK(parts.clip.contains("visual.conv1.weight"));
    CHECK(parts.learned.contains("image_encoder.VPT"));
    CHECK(!parts.learned.contains("class_vectors"));
    CHECK(parts.notes.at("student").at("depth") == 2);
    const TensorMap again = make_bundle(parts);
    CHECK(again.metadata == bundle.metadata);
    REQUIRE(again.tensors.size() == bundle.tensors.size());
    for (const auto& [name, tensor] : bundle.tensors) {
        CHECK(again.at(name).dtype == tensor.dtype);
        CHECK(again.at(name, tensor.shape).to<double>() == tensor.to<double>());
    }
}

TEST_CASE("bundle: how the student is built comes from the tensors") {
    for (const Index layers : {1, 2, 3})
        for (const Index prompts : {0, 3})
            for (const Index depth : {1, 3}) {
                const TinyStudent<Device> tiny(TinyStudent<Device>::shape(prompts, prompts > 0 ? depth : 0, layers));
                const TemporaryFolder folder;
                write_bundle(folder / "s", tiny.student, tiny.model_map, tiny.class_vectors, tiny.class_names);
                const StudentConfig config = student_config(read_bundle(read_safetensors(folder / "s")));
                CHECK(config.prompts == prompts);
                CHECK(config.depth == (prompts > 0 ? depth : 0));
                CHECK(config.projector_layers == layers);
                CHECK(config.embed == 7);
                CHECK(config.training == EncoderTraining::frozen);
            }
}

TEST_CASE("bundle: a fine-tuned encoder takes the place of the frozen one") {
    StudentConfig config = TinyStudent<Device>::shape(0, 0, 2);
    config.training = EncoderTraining::full;
    TinyStudent<Device> tiny(config);
    tiny.student.params().set("visual.class_embedding", std::vector<float>(12, 0.5f));
    const TemporaryFolder folder;
    write_bundle(folder / "s", tiny.student, tiny.model_map, tiny.class_vectors, tiny.class_names);
    const TensorMap bundle = read_safetensors(folder / "s");
    CHECK(bundle.at("clip.visual.class_embedding").to<float>() == std::vector<float>(12, 0.5f));
    CHECK(!bundle.contains("visual.class_embedding"));
}

TEST_CASE("bundle: assembled from a checkpoint it is the one that training writes, but for the notes") {
    const TinyStudent<Device> tiny;
    TensorMap learned;
    tiny.student.save(learned);
    TensorMap written = tiny_bundle();
    const TensorMap assembled =
        assemble_bundle(tiny.model_map, learned, make_tensor(tiny.class_vectors, {4, 7}), tiny.class_names);
    for (const char* note : {"student", "preprocessing", "provenance"}) written.metadata.erase(note);
    CHECK(assembled.metadata == written.metadata);
    CHECK(assembled.tensors.size() == written.tensors.size());
    CHECK(read_bundle(assembled).class_names == tiny.class_names);
    learned.tensors.erase("VPT_image_trans.conv1.0.weight");
    learned.source = "prompts.pth";
    CHECK(error_of([&] { assemble_bundle(tiny.model_map, learned, written.at("class_vectors"), tiny.class_names); }) ==
          "prompts.pth: not a student of PromptKD (no 'VPT_image_trans.conv1.0.weight')");
}

TEST_CASE("bundle: another format, a later version") {
    CHECK(refusal([](TensorMap&) {}) == "no error");
    CHECK(refusal([](TensorMap& b) { b.metadata.erase("format"); }) ==
          "b.safetensors: not a student bundle (metadata 'format' is not 'promptkd.student')");
    CHECK(
        mentions(refusal([](TensorMap& b) { b.metadata["format"] = "promptkd.checkpoint"; }), "not a student bundle"));
    CHECK(refusal([](TensorMap& b) { b.metadata.erase("format_version"); }) == "no error");
    CHECK(refusal([](TensorMap& b) { b.metadata["format_version"] = "2"; }) ==
          "b.safetensors: a bundle of format version 2, but this version of promptkd reads up to 1; use a newer "
          "promptkd");
    for (const char* version : {"", "one", "1.5", "0", "-1", "1 "})
        CHECK(mentions(refusal([&](TensorMap& b) { b.metadata["format_version"] = version; }), "expected a number"));
}

TEST_CASE("bundle: features that the reader must know") {
    CHECK(refusal([](TensorMap& b) { b.metadata["requires"] = "[]"; }) == "no error");
    CHECK(refusal([](TensorMap& b) { b.metadata["requires"] = R"(["telepathy"])"; }) ==
          "b.safetensors: this student needs 'telepathy', which this version of promptkd does not know; use a newer "
          "promptkd");
    for (const char* damage : {"telepathy", "{\"a\": 1}", "[", "3", ""})
        CHECK(mentions(refusal([&](TensorMap& b) { b.metadata["requires"] = damage; }), "'requires' is not a list"));
    CHECK(mentions(refusal([](TensorMap& b) { b.metadata["requires"] = "[1]"; }), "'requires' holds something"));

    BundleParts parts = read_bundle(tiny_bundle());
    parts.required = {"colour", "guard"};
    TensorMap bundle = make_bundle(parts);
    bundle.source = "b";
    CHECK(bundle.metadata.at("requires") == R"(["colour","guard"])");
    const std::vector<BundleFeature> known{{"guard", "what it does"}, {"colour", "what it does"}};
    CHECK(detail::required_features(bundle, known) == parts.required);
    const std::vector<BundleFeature> fewer{{"colour", "what it does"}};
    CHECK(mentions(error_of([&] { detail::required_features(bundle, fewer); }), "b: this student needs 'guard'"));
}

TEST_CASE("bundle: class names and class vectors must be there and fit together") {
    CHECK(mentions(refusal([](TensorMap& b) { b.metadata.erase("class_names"); }), "'class_names' is missing"));
    CHECK(mentions(refusal([](TensorMap& b) { b.metadata["class_names"] = "cat"; }), "'class_names' is not a list"));
    CHECK(mentions(refusal([](TensorMap& b) { b.metadata["class_names"] = "[]"; }), "'class_names' names no class"));
    CHECK(mentions(refusal([](TensorMap& b) { b.metadata["class_names"] = "[1]"; }), "something that is not a name"));
    CHECK(refusal([](TensorMap& b) { b.metadata["class_names"] = R"(["cat","dog"])"; }) ==
          "b.safetensors: 'class_vectors' has shape (4, 7) for 2 class names");
    CHECK(mentions(refusal([](TensorMap& b) { b.tensors.erase("class_vectors"); }), "'class_vectors' is missing"));
    CHECK(mentions(refusal([](TensorMap& b) { b.tensors["class_vectors"].shape = {28}; }), "has shape (28)"));
}

}  // namespace

}  // namespace bundle_test
