// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/bundle_format.hpp>
#include <promptkd/clip/lora_merge.hpp>
#include <promptkd/device/compiled.hpp>
#include <promptkd/distill/student.hpp>
#include <promptkd/evaluate/mixture_tensors.hpp>
#include <promptkd/format/json_text.hpp>
#include <promptkd/format/safetensors.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <map>
#include <optional>
#include <span>
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
// | mixture_features   | "plain" or "prompted": with or without the visual prompts were    | plain             |
// |                    | the features made that mixture and guard read                     |                   |
// | vision_…           | the description of its image tower, see tower_entries             | CLIP's            |
// | student            | JSON, for people: prompts, depth, projector_layers, train         | –                 |
// | image_preprocessing| JSON, what images go through (feature "preprocessing")            | CLIP's            |
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
// | lora.{i}.{map}.{A,B}                          | B·A is added to a map of block i (feature "lora")           |
// | adapted.visual.…                              | the image branch of the distilled student, where a mixture  |
// |                                               | also reads the plain one (feature "adapted")                |
// | class_vectors                                 | (N, e), normalised                                          |
// | mixture.student_text                          | V (N, e_s): the student's own class vectors, normalised     |
// | mixture.{temperature,distilled_scale,weight}  | τ_z, the scale of p_kd's logits, a: see Mixture             |
// | fitted.VPT_image_trans.conv1.{0,1,3}.…,       | the third student of a mixture, in closed form: projector,  |
// | fitted.{scale,weight}                         | scale of its logits, v_r: see FittedStudent                 |
// | guard.{mean,precision,cutoff,images}          | m (e_s), Γ (e_s, e_s), c_g, number of images: see Guard     |

/// Something that a bundle holds beyond the plain student, and that its reader must know to read it rightly.
struct BundleFeature {
    const char* name;     ///< as in the metadata `requires`
    const char* meaning;  ///< what it changes, for people
};

/// The features that this version reads. A feature is one row here, together with the code that writes and reads it.
inline constexpr std::array<BundleFeature, 7> bundle_features{{
    {"mixture", "the student is mixed with the zero-shot one that it was made from"},
    {"guard", "the further an image is from those of the distillation, the less of the distilled student is mixed in"},
    {"tower", "the image tower is not CLIP's own kind: the entries of tower_entries describe it"},
    {"preprocessing", "images go through the metadata image_preprocessing, not through CLIP's preprocessing"},
    {"lora", "low-rank updates are added to the weights of the distilled student's encoder"},
    {"adapted", "the distilled student has weights of its own beside those of the zero-shot one"},
    {"fitted", "a third student, fitted in closed form, is mixed in"},
}};

/// The highest format_version that this version reads, and the one that it writes.
inline constexpr int bundle_version = 1;

/// The parts of a bundle: what make_bundle() writes and read_bundle() finds.
struct BundleParts {
    TensorMap clip;                        ///< the CLIP model; a bundle keeps its image branch
    TensorMap learned;                     ///< prompts, projector with statistics, encoder weights where fine-tuned
    HostTensor class_vectors;              ///< (N, e), normalised
    std::vector<std::string> class_names;  ///< N
    std::optional<Mixture> mixture;        ///< with the zero-shot student; empty: the student alone
    std::vector<std::string> required;     ///< names of further BundleFeature
    std::map<std::string, nlohmann::json> notes;  ///< further metadata, for people: student, preprocessing, provenance
};

namespace detail {

inline constexpr const char* bundle_clip_prefix = "clip.";
inline constexpr const char* bundle_adapted_prefix = "adapted.";

/// Where an encoder weight that was learned stands in a bundle: in place of the pretrained one, which a mixture still
/// needs.
inline const char* learned_weights_prefix(bool mixed) { return mixed ? bundle_adapted_prefix : bundle_clip_prefix; }

inline void add_feature(std::vector<std::string>& required, const char* name) {
    if (std::count(required.begin(), required.end(), name) == 0) required.push_back(name);
}

/// A preprocessing in a few words, for people.
inline nlohmann::json describe_preprocessing(const Preprocessing& p) {
    const bool plain = p.resize == ResizeMode::shortest;
    return {{"resolution", p.height},
            {"resize", concat(name_of(p.interpolation), plain ? "" : " ", plain ? "" : name_of(p.resize))},
            {"crop", p.crop ? "center" : "none"},
            {"normalization", p.normalization == Normalization() ? "clip" : "own"}};
}

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
    for (const char* key : {"vision_heads", "gelu", preprocessing_key})
        if (model.metadata.count(key)) out.metadata[key] = model.metadata.at(key);
    for (const std::string key : tower_entries)
        if (key.rfind("vision_", 0) == 0 && model.metadata.count(key)) out.metadata[key] = model.metadata.at(key);
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

namespace detail {

/// Moves the features `mixture` and `guard` of a bundle from `required` into parts.mixture.
inline void read_mixture(const TensorMap& bundle, BundleParts& parts) {
    const auto take = [&parts](const char* feature) { return std::erase(parts.required, feature) > 0; };
    const bool mixed = take("mixture");
    const bool guarded = take("guard");
    const bool fitted = take("fitted");
    const bool there = std::any_of(bundle.tensors.begin(), bundle.tensors.end(),
                                   [](const auto& entry) { return is_mixture_name(entry.first); });
    require(mixed || !there, bundle.source, ": a mixture is there, but not required; the file is damaged");
    if (!mixed && !guarded && !fitted) return;
    parts.mixture = load_mixture(bundle, static_cast<Index>(parts.class_names.size()), logit_scale_of(parts.clip));
    require(guarded == parts.mixture->guard.has_value(), bundle.source, ": a guard is ",
            guarded ? "required, but 'guard.cutoff' is missing" : "there, but not required; the file is damaged");
    require(fitted == parts.mixture->fitted.has_value(), bundle.source, ": a fitted student is ",
            fitted ? "required, but 'fitted.weight' is missing" : "there, but not required; the file is damaged");
}

}  // namespace detail

namespace detail {

/// scale·B in place of B: the updates of a bundle have the scale 1.
inline void fold_scale(TensorMap& learned, double scale) {
    if (scale == 1) return;
    for (auto& [name, tensor] : learned.tensors) {
        if (!is_lora_name(name) || !name.ends_with(".B")) continue;
        std::vector<float> values = tensor.to<float>();
        for (float& v : values) v = static_cast<float>(v * scale);
        tensor = make_tensor(std::move(values), tensor.shape);
    }
}

}  // namespace detail

/// The bundle made of `parts`, in memory. The same parts give the same bytes when it is written.
inline TensorMap make_bundle(const BundleParts& parts) {
    TensorMap bundle;
    const TensorMap branch = detail::image_branch(parts.clip);
    for (const auto& [name, tensor] : branch.tensors) bundle.tensors[detail::bundle_clip_prefix + name] = tensor;
    const std::string own = detail::learned_weights_prefix(parts.mixture.has_value());
    for (const auto& [name, tensor] : parts.learned.tensors)
        bundle.tensors[schema::is_image_weight(name) ? own + name : name] = tensor;
    bundle.tensors["class_vectors"] = parts.class_vectors;
    bundle.metadata = branch.metadata;
    bundle.metadata["format"] = bundle_format;
    bundle.metadata["format_version"] = std::to_string(bundle_version);
    bundle.metadata["class_names"] = json_text(nlohmann::json(parts.class_names));
    std::vector<std::string> required = parts.required;
    if (parts.mixture) {
        save_mixture(*parts.mixture, bundle);
        required.push_back("mixture");
        if (parts.mixture->guard) required.push_back("guard");
        if (parts.mixture->fitted) required.push_back("fitted");
        if (schema::has_image_weights(parts.learned)) detail::add_feature(required, "adapted");
    }
    if (!has_plain_image_tower(branch)) detail::add_feature(required, "tower");
    if (branch.metadata.count(preprocessing_key) != 0) detail::add_feature(required, "preprocessing");
    if (lora_config(parts.learned)) detail::add_feature(required, "lora");
    if (!required.empty()) bundle.metadata["requires"] = json_text(nlohmann::json(required));
    for (const auto& [key, note] : parts.notes) bundle.metadata[key] = json_text(note);
    return bundle;
}

/// The parts of a bundle. Throws Error naming the file and the entry when it is not a student bundle, comes from a
/// newer version, requires a feature that is not known, or names and class vectors do not fit together. What the
/// tensors of model, prompts and projector must be, their owners check.
inline BundleParts read_bundle(const TensorMap& bundle) {
    detail::require_bundle_format(bundle);
    BundleParts parts;
    parts.required = detail::required_features(bundle, bundle_features);
    for (const char* seen : {"lora", "adapted"}) std::erase(parts.required, seen);  // the tensors show them
    parts.class_names = detail::bundle_class_names(bundle);
    parts.class_vectors = bundle.at("class_vectors");
    const Shape& shape = parts.class_vectors.shape;
    require(shape.size() == 2 && shape[0] == static_cast<Index>(parts.class_names.size()) && shape[1] > 0,
            bundle.source, ": 'class_vectors' has shape ", to_string(shape), " for ", parts.class_names.size(),
            " class names");
    parts.clip.source = bundle.source;
    parts.clip.metadata = bundle.metadata;
    parts.learned.source = bundle.source;
    parts.clip.tensors = tensors_under(bundle, detail::bundle_clip_prefix);
    parts.learned.tensors = tensors_under(bundle, detail::bundle_adapted_prefix);
    for (const auto& [name, tensor] : bundle.tensors)
        if (!name.starts_with(detail::bundle_clip_prefix) && !name.starts_with(detail::bundle_adapted_prefix) &&
            name != "class_vectors" && !detail::is_mixture_name(name))
            parts.learned.tensors[name] = tensor;
    detail::read_mixture(bundle, parts);
    require(parts.mixture || !schema::has_image_weights(parts.learned), bundle.source,
            ": holds an encoder for a mixture, and no mixture; the file is damaged");
    for (const char* key : {"student", "preprocessing", "provenance"})
        if (bundle.metadata.count(key))
            parts.notes[key] = nlohmann::json::parse(bundle.metadata.at(key), nullptr, false);
    return parts;
}

/// Whether weights of the encoder of a bundle's student were trained too, or low-rank updates of them: its prompts and
/// projector are of no use with another encoder.
inline bool has_trained_encoder(const TensorMap& bundle) {
    if (detail::holds_any(bundle, lora_prefix) || detail::holds_any(bundle, detail::bundle_adapted_prefix)) return true;
    const auto note = bundle.metadata.find("student");
    if (note == bundle.metadata.end()) return false;
    const auto student = nlohmann::json::parse(note->second, nullptr, false);
    return student.is_object() && student.value("train", nlohmann::json()) != nlohmann::json() &&
           student.at("train") != name_of(EncoderTraining::frozen);
}

/// The parts of a bundle that is a file in memory, whose bytes are copied. `name` is for messages.
inline BundleParts read_bundle(std::span<const std::byte> file, const std::string& name = "a bundle in memory") {
    return read_bundle(read_safetensors(file, name));
}

/// How the student in a bundle is built, from its tensors.
inline StudentConfig student_config(const BundleParts& parts) {
    const PromptDesign design = visual_prompt_design(parts.learned);
    StudentConfig config;
    config.prompts = design.tokens;
    config.depth = design.depth;
    config.embed = parts.class_vectors.shape[1];
    if (const std::optional<LoraConfig> lora = lora_config(parts.learned)) {
        config.training = EncoderTraining::lora;
        config.lora = *lora;
    }
    config.projector_layers = 1;
    while (parts.learned.contains(projector_name(3 * config.projector_layers, "weight"))) ++config.projector_layers;
    if (config.projector_layers > 1) {
        const Shape& first = parts.learned.at(projector_name(0, "weight")).shape;
        require(!first.empty(), parts.learned.source, ": '", projector_name(0, "weight"), "' has no shape");
        config.hidden = first[0];
    }
    return config;
}

/// Adds low-rank updates to the weights that they stand beside. Throws Error for a mixture, which needs
/// both.
inline void merge_lora(BundleParts& parts) {
    require(!parts.mixture, "a mixture reads the encoder with and without its low-rank updates: they stay apart");
    merge_lora(parts.clip, parts.learned);
    std::erase_if(parts.learned.tensors, [](const auto& entry) { return is_lora_name(entry.first); });
    std::erase(parts.required, "lora");
}

/// The parts of a student's bundle: image encoder, prompts, projector with its statistics, class vectors (classes,
/// embed) on the host, class names. `model` is the CLIP file the student was made from.
template <Device D>
BundleParts bundle_parts(const Student<D>& student, const TensorMap& model,
                         const std::vector<typename D::Scalar>& class_vectors,
                         const std::vector<std::string>& class_names,
                         const nlohmann::json& provenance = nlohmann::json::object()) {
    const StudentConfig& config = student.config();
    BundleParts parts;
    parts.clip = model;
    student.save(parts.learned);
    if (config.training == EncoderTraining::lora) detail::fold_scale(parts.learned, config.lora.scale);
    parts.class_vectors = make_tensor(class_vectors, {static_cast<Index>(class_names.size()), config.embed});
    parts.class_names = class_names;
    parts.notes["student"] = {{"prompts", config.prompts},
                              {"depth", config.depth},
                              {"projector_layers", config.projector_layers},
                              {"train", name_of(config.training)}};
    parts.notes["preprocessing"] = detail::describe_preprocessing(student.model().preprocessing());
    parts.notes["provenance"] = provenance;
    return parts;
}

/// A distilled student in one file: everything that inference needs; see bundle_parts() and Classifier. Throws Error
/// when the file cannot be written.
template <Device D>
void write_bundle(const std::string& path, const Student<D>& student, const TensorMap& model,
                  const std::vector<typename D::Scalar>& class_vectors, const std::vector<std::string>& class_names,
                  const nlohmann::json& provenance = nlohmann::json::object()) {
    write_safetensors(path, make_bundle(bundle_parts(student, model, class_vectors, class_names, provenance)));
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
