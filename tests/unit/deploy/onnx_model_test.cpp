// SPDX-License-Identifier: Apache-2.0
#include "support/temporary_folder.hpp"
#include "support/tiny_student.hpp"

#include <promptkd/deploy/huggingface_folder.hpp>

#include <doctest/doctest.h>

namespace onnx_model_test {

namespace {

using namespace promptkd;
using namespace promptkd::test;

BundleParts tiny_parts() {
    const TinyStudent<Cpu<float>> tiny;
    return bundle_parts(tiny.student, tiny.model_map, tiny.class_vectors, tiny.class_names);
}

std::string written(const OnnxGraph& graph) {
    const TemporaryFolder folder;
    graph.write(folder / "m.onnx");
    return read_file(folder / "m.onnx");
}

TEST_CASE("onnx: a student is the same bytes each time, and names its weights and classes") {
    const std::string bytes = written(onnx_student(tiny_parts(), {}));
    CHECK(bytes == written(onnx_student(tiny_parts(), {})));
    for (const char* name : {"pixel_values", "logits", "visual.conv1.weight", "image_encoder.VPT", "class_vectors",
                             "VPT_image_trans.conv1.3.weight", R"(["cat","dog","car","fire truck"])"})
        CHECK(bytes.find(name) != std::string::npos);
    CHECK(bytes.find("BatchNormalization") == std::string::npos);
}

TEST_CASE("onnx: 16 bits halve the weights; further outputs and bytes as images are added on request") {
    OnnxOptions options;
    const std::size_t wide = written(onnx_student(tiny_parts(), options)).size();
    options.elements = DType::f16;
    CHECK(written(onnx_student(tiny_parts(), options)).size() < wide);
    options.raw_pixels = true;
    options.features = true;
    const std::string bytes = written(onnx_student(tiny_parts(), options));
    CHECK(bytes.find("pixel_scale") != std::string::npos);
    CHECK(bytes.find(onnx_features) != std::string::npos);
}

TEST_CASE("onnx: what a student needs and is not exported is named") {
    BundleParts parts = tiny_parts();
    parts.required = {"hologram"};
    CHECK(error_of([&] { onnx_student(parts, {}); }).find("'hologram' is not exported") != std::string::npos);
    parts = tiny_parts();
    parts.learned.tensors.erase(projector_name(0, "bias"));
    CHECK(error_of([&] { onnx_student(parts, {}); }).find(projector_name(0, "bias")) != std::string::npos);
}

TEST_CASE("onnx: a folder of Hugging Face's layout") {
    const TemporaryFolder folder;
    write_huggingface_onnx(tiny_parts(), {}, folder / "student");
    const nlohmann::json config = nlohmann::json::parse(read_file(folder / "student/config.json"));
    CHECK(config.at("id2label").at("3") == "fire truck");
    CHECK(config.at("label2id").at("fire truck") == 3);
    const nlohmann::json processor = nlohmann::json::parse(read_file(folder / "student/preprocessor_config.json"));
    CHECK(processor.at("size").at("shortest_edge") == 8);
    CHECK(std::filesystem::exists(folder / "student/onnx/model.onnx"));
    OnnxOptions bytes;
    bytes.raw_pixels = true;
    CHECK(error_of([&] { write_huggingface_onnx(tiny_parts(), bytes, folder / "other"); }).find("normalised images") !=
          std::string::npos);
}

}  // namespace

}  // namespace onnx_model_test
