// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/convert.hpp>
#include <promptkd/deploy/onnx_model.hpp>
#include <promptkd/format/json_text.hpp>

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace promptkd {

namespace detail {

/// What an image classification client is told of a student: its classes and the size of its images.
inline nlohmann::ordered_json classifier_config(const BundleParts& parts, Index resolution) {
    nlohmann::ordered_json labels = nlohmann::ordered_json::object(), ids = labels;
    for (std::size_t i = 0; i < parts.class_names.size(); ++i) {
        labels[std::to_string(i)] = parts.class_names[i];
        ids[parts.class_names[i]] = i;
    }
    return {{"model_type", "vit"}, {"architectures", {"ViTForImageClassification"}}, {"image_size", resolution},
            {"num_channels", 3},   {"problem_type", "single_label_classification"},  {"id2label", labels},
            {"label2id", ids}};
}

}  // namespace detail

/// Writes a student bundle as a folder of Hugging Face's layout, as transformers.js and Optimum read it: config.json
/// with the classes, preprocessor_config.json, onnx/model.onnx (onnx/model_fp16.onnx with 16-bit weights). Throws Error
/// when that cannot be done, or where the layout has no place for the preprocessing.
inline void write_huggingface_onnx(const BundleParts& parts, const OnnxOptions& options, const std::string& folder) {
    require(!options.raw_pixels, folder,
            ": a folder of Hugging Face's layout takes normalised images; export a model with the preprocessing in it "
            "to a file that ends in .onnx");
    const OnnxGraph graph = onnx_student(parts, options);
    const Index resolution = image_resolution(parts.clip);
    const nlohmann::ordered_json processor =
        detail::processor_json(parts.clip, preprocessing_of(parts.clip, resolution));
    make_directories(folder + "/onnx");
    write_atomically(folder + "/config.json", json_text(detail::classifier_config(parts, resolution), 2) + "\n");
    write_atomically(folder + "/preprocessor_config.json", json_text(processor, 2) + "\n");
    graph.write(folder + (options.elements == DType::f16 ? "/onnx/model_fp16.onnx" : "/onnx/model.onnx"));
}

}  // namespace promptkd
