// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/weights_file.hpp>
#include <promptkd/clip/config.hpp>
#include <promptkd/experiment/reproduction/spec.hpp>
#include <promptkd/format/sha256.hpp>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// A file that the results of a reproduction depend on.
struct InputFile {
    std::string role;          ///< "model", "teacher", "student", "vocabulary"
    std::string path;          ///< as it was given
    std::string sha256;        ///< of its bytes
    std::string architecture;  ///< of a model, for people; empty for other files
    std::string images;        ///< of a model: what its images go through, JSON; empty: CLIP's

    /// Its name without folders.
    std::string name() const { return std::filesystem::path(path).filename().string(); }
};

namespace detail {

/// The image encoder of a CLIP model in a few words.
inline std::string architecture_of(const TensorMap& map) {
    if (!schema::has_vision_transformer(map)) return schema::modified_resnet.name;
    const VisionConfig v = vision_config(map);
    return concat("ViT, patch ", v.patch, ", width ", v.width, ", ", v.layers, " blocks, ", v.resolution(),
                  " pixels, embedding ", v.embed);
}

/// The files of a reproduction. Reads each once; throws Error for what cannot be read.
inline std::vector<InputFile> input_files(const ReproductionSpec& spec) {
    std::vector<InputFile> files;
    const auto add = [&files](const char* role, const std::string& path) {
        if (!path.empty()) files.push_back({role, path, fingerprint(path), "", ""});
    };
    add("model", spec.weights);
    add("teacher", spec.teacher);
    add("student", spec.student);
    add("vocabulary", spec.vocabulary);
    for (InputFile& file : files) {
        if (file.role == "vocabulary") continue;
        WeightsOptions options;
        options.activation = spec.activation;
        options.config = file.role == "student" ? spec.student_config : spec.teacher_config;
        options.names = file.role == "student" ? spec.student_names : spec.teacher_names;
        options.warn = [](const std::string&) {};  // said when the model is loaded to be used
        options.images = spec.images_of(file.path);
        const TensorMap map = read_weights(file.path, options);
        file.architecture = architecture_of(map);
        if (map.metadata.count(preprocessing_key) != 0) file.images = map.metadata.at(preprocessing_key);
    }
    return files;
}

}  // namespace detail
}  // namespace promptkd
