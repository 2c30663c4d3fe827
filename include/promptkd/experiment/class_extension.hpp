// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/compiled.hpp>
#include <promptkd/evaluate/bundle.hpp>
#include <promptkd/experiment/teachers.hpp>

#include <algorithm>
#include <string>
#include <vector>

namespace promptkd {

/// Further classes for a distilled student; nothing is refitted.
struct ClassExtensionSpec {
    std::string bundle;                    ///< the student
    std::vector<std::string> class_names;  ///< the new ones
    TeacherSpec teacher;       ///< whose text branch makes their class vectors: the one that the student learned from;
                               ///< or its class_vectors, rows of the new classes alone
    ModelFile student;         ///< whose text branch makes those of a mixture,
    std::string student_text;  ///< or a file with them
    std::string vocabulary;    ///< file of the tokenizer's BPE merges
    std::string pattern;       ///< of the class texts, "{}" standing for the name; empty: that of the distillation
    TextOptions text;          ///< what else the texts are
    std::string out;           ///< the bundle to write
};

namespace detail {

/// The rows of `more` (m, e) behind those of `tensor` (n, e).
inline HostTensor append_rows(const HostTensor& tensor, const std::vector<double>& more) {
    std::vector<double> values = tensor.to<double>();
    values.insert(values.end(), more.begin(), more.end());
    const Shape shape{static_cast<Index>(values.size()) / tensor.shape[1], tensor.shape[1]};
    if (tensor.dtype == DType::f32) return make_tensor(std::vector<float>(values.begin(), values.end()), shape);
    return make_tensor(std::move(values), shape);
}

/// What a bundle's notes say of the run that made it, or null.
inline nlohmann::json provenance_of(const BundleParts& parts, const char* what) {
    const auto notes = parts.notes.find("provenance");
    if (notes == parts.notes.end() || !notes->second.is_object()) return nullptr;
    return notes->second.value(what, nlohmann::json());
}

/// Throws Error unless the teacher is the one whose targets the student learned, as far as its bundle says.
template <Device D>
void require_same_teacher(const BundleParts& parts, const TeacherSet<D>& teachers, const std::string& path) {
    Fingerprint now;
    teachers.add_to(now);
    const nlohmann::json stored = provenance_of(parts, "targets");
    if (!stored.is_object()) return;
    for (const char* part : {"weights of the teacher", "prompts of the teacher"}) {
        if (!stored.contains(part) || !now.contains(part)) continue;
        const nlohmann::json was = stored.at(part), is = now.at(part);
        const char* what_to_do = was == is       ? ""
                                 : is == "none"  ? "; it had learned prompts: give them too"
                                 : was == "none" ? "; it had none: leave them out"
                                                 : "";
        require(was == is, path, ": this student learned from another teacher: the ", part, " differ", what_to_do);
    }
}

/// The texts of the new classes; the pattern is the distillation's unless another is given.
inline ClassTexts new_class_texts(const ClassExtensionSpec& spec, const BundleParts& parts) {
    ClassTexts texts{spec.class_names, spec.pattern, spec.vocabulary, spec.text};
    const nlohmann::json config = provenance_of(parts, "config");
    const bool silent = texts.pattern.empty() && texts.single();
    if (silent && config.is_object()) {
        const nlohmann::json said = config.value("template", nlohmann::json(""));
        const bool one = said.is_string() && !config.contains("templates") && !config.contains("descriptions");
        require(one, spec.bundle, ": its classes had several texts each; give the same templates or descriptions");
        texts.pattern = said.get<std::string>();
    }
    const bool files = !spec.teacher.class_vectors.empty() && (!parts.mixture || !spec.student_text.empty());
    require(files || !texts.pattern.empty() || !texts.single(), spec.bundle,
            ": does not say which texts its classes had; give the "
            "template");
    return texts;
}

/// The new rows of the class vectors, from a file or the teacher's text branch.
template <Device D>
std::vector<double> new_class_vectors(D& device, const ClassExtensionSpec& spec, const BundleParts& parts,
                                      const ClassTexts& texts, Observer& observer) {
    const Index added = static_cast<Index>(spec.class_names.size()), embed = parts.class_vectors.shape[1];
    if (!spec.teacher.class_vectors.empty())
        return load_class_vectors(spec.teacher.class_vectors, added, embed, observer).template to<double>();
    require(spec.teacher.count() == 1,
            "the class vectors of further classes come from the student's one teacher, or from a file");
    const TeacherSet<D> teachers(device, spec.teacher, texts, observer);
    require_same_teacher(parts, teachers, spec.bundle);
    const Index found = static_cast<Index>(teachers.class_vectors().size()) / added;
    require(found == embed, spec.bundle, ": class vectors of ", embed, " values, this teacher's have ", found);
    return {teachers.class_vectors().begin(), teachers.class_vectors().end()};
}

/// The new rows of a mixture's texts, from a file or the student's text branch.
template <Device D>
std::vector<double> new_student_text(D& device, const ClassExtensionSpec& spec, const Mixture& mixture,
                                     const ClassTexts& texts, Observer& observer) {
    const Index added = static_cast<Index>(spec.class_names.size());
    if (!spec.student_text.empty())
        return load_class_vectors(spec.student_text, added, mixture.width, observer).template to<double>();
    require(!spec.student.path.empty(), spec.bundle,
            ": mixes the student with its zero-shot self, which needs the "
            "student's own class vectors: give its CLIP weights, or a file with them");
    const TensorMap weights = load_model(spec.student, observer);
    const auto features = text_features(device, ClipModel<D>(device, weights), texts, nullptr);
    const Index found = static_cast<Index>(features.size()) / added;
    require(found == mixture.width, spec.bundle, ": text features of ", mixture.width, " values, those of ",
            spec.student.path, " have ", found);
    return {features.begin(), features.end()};
}

}  // namespace detail

/// Appends the classes of `spec` to its bundle: to the class vectors those of the teacher's text branch, to the texts
/// of a mixture those of the student's. Throws Error for names that are there already and vectors that do not fit.
template <Device D>
void run(D& device, const ClassExtensionSpec& spec, Observer& observer = silent_observer()) {
    BundleParts parts = read_bundle(load_bundle(spec.bundle, {}, observer));
    require(!spec.class_names.empty(), "there is no class to add");
    for (const std::string& name : spec.class_names)
        require(std::find(parts.class_names.begin(), parts.class_names.end(), name) == parts.class_names.end(),
                spec.bundle, ": knows the class '", name, "' already");
    const ClassTexts texts = detail::new_class_texts(spec, parts);
    parts.class_vectors =
        detail::append_rows(parts.class_vectors, detail::new_class_vectors(device, spec, parts, texts, observer));
    parts.class_names.insert(parts.class_names.end(), spec.class_names.begin(), spec.class_names.end());
    if (parts.mixture) {
        Mixture& mixture = *parts.mixture;
        const std::vector<double> own = detail::new_student_text(device, spec, mixture, texts, observer);
        mixture.student_text.insert(mixture.student_text.end(), own.begin(), own.end());
        mixture.classes = static_cast<Index>(parts.class_names.size());
    }
    write_safetensors(spec.out, make_bundle(parts));
}

PROMPTKD_COMPILED_FUNCTION(void run(Cpu<float>&, const ClassExtensionSpec&, Observer&));

}  // namespace promptkd
