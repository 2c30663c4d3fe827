// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/bundle_format.hpp>
#include <promptkd/device/compiled.hpp>
#include <promptkd/distill/student.hpp>
#include <promptkd/format/safetensors.hpp>
#include <promptkd/op/cosine.hpp>

#include <nlohmann/json.hpp>

#include <memory>
#include <string>
#include <vector>

namespace promptkd {

namespace detail {

inline constexpr const char* bundle_clip_prefix = "clip.";

/// The string list in a metadata entry. Throws Error when it is not one.
inline std::vector<std::string> metadata_names(const TensorMap& map, const char* key) {
    const auto it = map.metadata.find(key);
    require(it != map.metadata.end(), map.source, ": metadata '", key, "' is missing; this is not a student bundle");
    const nlohmann::json names = nlohmann::json::parse(it->second, nullptr, false);
    require(names.is_array() && !names.empty(), map.source, ": metadata '", key, "' is not a list of names");
    std::vector<std::string> out;
    for (const auto& name : names) {
        require(name.is_string(), map.source, ": metadata '", key, "' holds something that is not a name");
        out.push_back(name.get<std::string>());
    }
    return out;
}

/// What of a CLIP file a student needs: the image branch and the logit scale.
inline TensorMap image_branch(const TensorMap& model) {
    TensorMap out;
    out.source = model.source;
    for (const auto& [name, tensor] : model.tensors)
        if (schema::is_student_weight(name)) out.tensors[name] = tensor;
    for (const char* key : {"vision_heads", "gelu"})
        if (model.metadata.count(key)) out.metadata[key] = model.metadata.at(key);
    return out;
}

}  // namespace detail

/// A distilled student in one file: image encoder, prompts, projector with its statistics, class vectors, class names.
/// Everything that inference needs; see Classifier.
template <Device D>
void write_bundle(const std::string& path, const Student<D>& student, const TensorMap& model,
                  const std::vector<typename D::Scalar>& class_vectors, const std::vector<std::string>& class_names,
                  const nlohmann::json& provenance = nlohmann::json::object()) {
    const Index classes = static_cast<Index>(class_names.size()), embed = student.config().embed;
    TensorMap bundle;
    const TensorMap branch = detail::image_branch(model);
    for (const auto& [name, tensor] : branch.tensors) bundle.tensors[detail::bundle_clip_prefix + name] = tensor;
    student.save(bundle);
    for (auto it = bundle.tensors.begin();
         it != bundle.tensors.end();) {  // a fine-tuned encoder replaces the frozen one
        if (!schema::is_image_weight(it->first)) {
            ++it;
            continue;
        }
        bundle.tensors[detail::bundle_clip_prefix + it->first] = it->second;
        it = bundle.tensors.erase(it);
    }
    bundle.tensors["class_vectors"] = make_tensor(class_vectors, {classes, embed});
    bundle.metadata = branch.metadata;
    bundle.metadata["format"] = bundle_format;
    bundle.metadata["format_version"] = "1";
    bundle.metadata["class_names"] = nlohmann::json(class_names).dump();
    bundle.metadata["student"] = nlohmann::json{{"prompts", student.config().prompts},
                                                {"depth", student.config().depth},
                                                {"projector_layers", student.config().projector_layers},
                                                {"train", student.config().train_encoder ? "full" : "prompts"}}
                                     .dump();
    bundle.metadata["preprocessing"] = nlohmann::json{
        {"resolution", student.model().vision().resolution()},
        {"resize", "bicubic"},
        {"crop", "center"},
        {"normalization", "clip"}}.dump();
    bundle.metadata["provenance"] = provenance.dump();
    write_safetensors(path, bundle);
}

/// A bundle in memory from its parts: a CLIP model, what a PromptKD run learned for it (a published student checkpoint,
/// for example), class vectors (classes, e) and their names. See Classifier.
inline TensorMap assemble_bundle(const TensorMap& model, const TensorMap& learned, const HostTensor& class_vectors,
                                 const std::vector<std::string>& class_names) {
    require(learned.contains("VPT_image_trans.conv1.0.weight"), learned.source,
            ": not a student of PromptKD (no 'VPT_image_trans.conv1.0.weight')");
    TensorMap bundle = detail::image_branch(model);
    std::map<std::string, HostTensor> branch;
    branch.swap(bundle.tensors);
    for (const auto& [name, tensor] : branch) bundle.tensors[detail::bundle_clip_prefix + name] = tensor;
    for (const auto& [name, tensor] : learned.tensors) bundle.tensors[name] = tensor;
    bundle.tensors["class_vectors"] = class_vectors;
    bundle.metadata["format"] = bundle_format;
    bundle.metadata["class_names"] = nlohmann::json(class_names).dump();
    return bundle;
}

PROMPTKD_COMPILED_FUNCTION(void write_bundle(const std::string&, const Student<Cpu<float>>&, const TensorMap&,
                                             const std::vector<float>&, const std::vector<std::string>&,
                                             const nlohmann::json&));

}  // namespace promptkd
