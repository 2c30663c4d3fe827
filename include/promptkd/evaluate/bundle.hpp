// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/bundle_format.hpp>
#include <promptkd/device/compiled.hpp>
#include <promptkd/distill/student.hpp>
#include <promptkd/format/safetensors.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

namespace promptkd {

// The schema of a student bundle: one safetensors file with everything that inference needs.
//
// | metadata           | what it holds                                                     | absent            |
// |--------------------|-------------------------------------------------------------------|-------------------|
// | format             | "promptkd.student"                                                | refused           |
// | format_version     | of this table, a number; a later one is refused                   | 1                 |
// | requires           | JSON list: features (see BundleFeature) without which the tensors | none              |
// |                    | would be misread; one that is not known is refused                |                   |
// | class_names        | JSON list of the N class names                                    | refused           |
// | vision_heads, gelu | of the CLIP model, where the tensors do not tell them             | from the tensors  |
// | student            | JSON, for people: prompts, depth, projector_layers, train         | –                 |
// | preprocessing      | JSON, for people: resolution, resize, crop, normalization         | –                 |
// | provenance         | JSON, for people: data, teacher, settings of the run              | –                 |
//
// | tensors                                       | what they hold                                              |
// |-----------------------------------------------|-------------------------------------------------------------|
// | clip.visual.…, clip.logit_scale               | the image branch of CLIP under OpenAI's names, as fine-     |
// |                                               | tuned where it was                                          |
// | image_encoder.VPT,                            | visual prompts of the first block, and of the blocks        |
// | image_encoder.transformer.resblocks.{i}.VPT_… | behind it; absent: a student without prompts                |
// | VPT_image_trans.conv1.{0,1,3,…}               | the projector with its running statistics                   |
// | class_vectors                                 | (N, e), normalised                                          |

/// Something that a bundle holds beyond the plain student, and that its reader must know to read it rightly.
struct BundleFeature {
    const char* name;     ///< as in the metadata `requires`
    const char* meaning;  ///< what it changes, for people
};

/// The features that this version reads. A feature is one row here, together with the code that writes and reads it.
inline constexpr std::array<BundleFeature, 0> bundle_features{};

/// The highest format_version that this version reads, and the one that it writes.
inline constexpr int bundle_version = 1;

/// The parts of a bundle: what make_bundle() writes and read_bundle() finds.
struct BundleParts {
    TensorMap clip;                        ///< the CLIP model; a bundle keeps its image branch
    TensorMap learned;                     ///< prompts, projector with statistics, encoder weights where fine-tuned
    HostTensor class_vectors;              ///< (N, e), normalised
    std::vector<std::string> class_names;  ///< N
    std::vector<std::string> required;     ///< names of BundleFeature
    std::map<std::string, nlohmann::json> notes;  ///< further metadata, for people: student, preprocessing, provenance
};

namespace detail {

inline constexpr const char* bundle_clip_prefix = "clip.";

/// The list of strings in a metadata entry. Throws Error when it is not one.
inline std::vector<std::string> metadata_list(const TensorMap& map, const std::string& key) {
    const nlohmann::json list = nlohmann::json::parse(map.metadata.at(key), nullptr, false);
    require(list.is_array(), map.source, ": metadata '", key, "' is not a list of names");
    std::vector<std::string> out;
    for (const auto& name : list) {
        require(name.is_string(), map.source, ": metadata '", key, "' holds something that is not a name");
        out.push_back(name.get<std::string>());
    }
    return out;
}

/// The class names of a bundle. Throws Error when there are none.
inline std::vector<std::string> bundle_class_names(const TensorMap& bundle) {
    require(bundle.metadata.count("class_names") != 0, bundle.source,
            ": metadata 'class_names' is missing; this is not a student bundle");
    std::vector<std::string> names = metadata_list(bundle, "class_names");
    require(!names.empty(), bundle.source, ": metadata 'class_names' names no class");
    return names;
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

/// Throws Error unless `bundle` is a student bundle of a version that is known.
inline void require_bundle_format(const TensorMap& bundle) {
    require(is_bundle(bundle), bundle.source, ": not a student bundle (metadata 'format' is not '", bundle_format,
            "')");
    const auto version = bundle.metadata.find("format_version");
    if (version == bundle.metadata.end()) return;
    char* end = nullptr;
    const long number = std::strtol(version->second.c_str(), &end, 10);
    require(!version->second.empty() && *end == '\0' && number >= 1, bundle.source, ": metadata 'format_version' is '",
            version->second, "', expected a number");
    require(number <= bundle_version, bundle.source, ": a bundle of format version ", number,
            ", but this version of promptkd reads up to ", bundle_version, "; use a newer promptkd");
}

/// The features that `bundle` requires. Throws Error naming the first that is not one of `known`.
template <class Known>
std::vector<std::string> required_features(const TensorMap& bundle, const Known& known) {
    if (bundle.metadata.count("requires") == 0) return {};
    std::vector<std::string> required = metadata_list(bundle, "requires");
    for (const std::string& name : required)
        require(std::any_of(known.begin(), known.end(), [&](const BundleFeature& f) { return f.name == name; }),
                bundle.source, ": this student needs '", name,
                "', which this version of promptkd does not know; use a newer promptkd");
    return required;
}

}  // namespace detail

/// The bundle made of `parts`, in memory. The same parts give the same bytes when it is written.
inline TensorMap make_bundle(const BundleParts& parts) {
    TensorMap bundle;
    const TensorMap branch = detail::image_branch(parts.clip);
    for (const auto& [name, tensor] : branch.tensors) bundle.tensors[detail::bundle_clip_prefix + name] = tensor;
    for (const auto& [name, tensor] : parts.learned.tensors)  // a fine-tuned encoder replaces the frozen one
        bundle.tensors[schema::is_image_weight(name) ? detail::bundle_clip_prefix + name : name] = tensor;
    bundle.tensors["class_vectors"] = parts.class_vectors;
    bundle.metadata = branch.metadata;
    bundle.metadata["format"] = bundle_format;
    bundle.metadata["format_version"] = std::to_string(bundle_version);
    bundle.metadata["class_names"] = nlohmann::json(parts.class_names).dump();
    if (!parts.required.empty()) bundle.metadata["requires"] = nlohmann::json(parts.required).dump();
    for (const auto& [key, note] : parts.notes) bundle.metadata[key] = note.dump();
    return bundle;
}

/// The parts of a bundle. Throws Error naming the file and the entry when it is not a student bundle, comes from a
/// newer version, requires a feature that is not known, or names and class vectors do not fit together. What the
/// tensors of model, prompts and projector must be, their owners check.
inline BundleParts read_bundle(const TensorMap& bundle) {
    detail::require_bundle_format(bundle);
    BundleParts parts;
    parts.required = detail::required_features(bundle, bundle_features);
    parts.class_names = detail::bundle_class_names(bundle);
    parts.class_vectors = bundle.at("class_vectors");
    const Shape& shape = parts.class_vectors.shape;
    require(shape.size() == 2 && shape[0] == static_cast<Index>(parts.class_names.size()) && shape[1] > 0,
            bundle.source, ": 'class_vectors' has shape ", to_string(shape), " for ", parts.class_names.size(),
            " class names");
    parts.clip.source = bundle.source;
    parts.clip.metadata = bundle.metadata;
    parts.learned.source = bundle.source;
    const std::string prefix = detail::bundle_clip_prefix;
    for (const auto& [name, tensor] : bundle.tensors) {
        if (name.rfind(prefix, 0) == 0)
            parts.clip.tensors[name.substr(prefix.size())] = tensor;
        else if (name != "class_vectors")
            parts.learned.tensors[name] = tensor;
    }
    for (const char* key : {"student", "preprocessing", "provenance"})
        if (bundle.metadata.count(key))
            parts.notes[key] = nlohmann::json::parse(bundle.metadata.at(key), nullptr, false);
    return parts;
}

/// How the student in a bundle is built, from its tensors.
inline StudentConfig student_config(const BundleParts& parts) {
    const PromptDesign design = visual_prompt_design(parts.learned);
    StudentConfig config;
    config.prompts = design.tokens;
    config.depth = design.depth;
    config.embed = parts.class_vectors.shape[1];
    config.projector_layers = 1;
    while (parts.learned.contains(projector_name(3 * config.projector_layers, "weight"))) ++config.projector_layers;
    return config;
}

/// A distilled student in one file: image encoder, prompts, projector with its statistics, class vectors (classes,
/// embed) on the host, class names. Everything that inference needs; see Classifier. `model` is the CLIP file the
/// student was made from. Throws Error when the file cannot be written.
template <Device D>
void write_bundle(const std::string& path, const Student<D>& student, const TensorMap& model,
                  const std::vector<typename D::Scalar>& class_vectors, const std::vector<std::string>& class_names,
                  const nlohmann::json& provenance = nlohmann::json::object()) {
    const StudentConfig& config = student.config();
    BundleParts parts;
    parts.clip = model;
    student.save(parts.learned);
    parts.class_vectors = make_tensor(class_vectors, {static_cast<Index>(class_names.size()), config.embed});
    parts.class_names = class_names;
    parts.notes["student"] = {{"prompts", config.prompts},
                              {"depth", config.depth},
                              {"projector_layers", config.projector_layers},
                              {"train", config.train_encoder ? "full" : "prompts"}};
    parts.notes["preprocessing"] = {{"resolution", student.model().vision().resolution()},
                                    {"resize", "bicubic"},
                                    {"crop", "center"},
                                    {"normalization", "clip"}};
    parts.notes["provenance"] = provenance;
    write_safetensors(path, make_bundle(parts));
}

/// A bundle in memory from its parts: a CLIP model, what a PromptKD run learned for it (a published student checkpoint,
/// for example), class vectors (classes, e) and their names. See Classifier. Throws Error when `learned` has no
/// projector.
inline TensorMap assemble_bundle(const TensorMap& model, const TensorMap& learned, const HostTensor& class_vectors,
                                 const std::vector<std::string>& class_names) {
    const std::string first = projector_name(0, "weight");
    require(learned.contains(first), learned.source, ": not a student of PromptKD (no '", first, "')");
    BundleParts parts;
    parts.clip = model;
    parts.learned = learned;
    parts.class_vectors = class_vectors;
    parts.class_names = class_names;
    return make_bundle(parts);
}

PROMPTKD_COMPILED_FUNCTION(void write_bundle(const std::string&, const Student<Cpu<float>>&, const TensorMap&,
                                             const std::vector<float>&, const std::vector<std::string>&,
                                             const nlohmann::json&));

}  // namespace promptkd
