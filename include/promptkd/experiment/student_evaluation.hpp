// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/compiled.hpp>
#include <promptkd/evaluate/classifier.hpp>
#include <promptkd/experiment/zero_shot.hpp>

#include <string>
#include <vector>

namespace promptkd {

/// A distilled student on labelled images: from its bundle, or from its parts.
struct StudentEvaluationSpec {
    std::string bundle;         ///< the student's file; empty: it comes in parts
    ModelFile model;            ///< without a bundle: the student's CLIP model,
    std::string learned;        ///< what was learned for it (a published student's checkpoint),
    std::string class_vectors;  ///< and a file with its teacher's class vectors
    EvaluationData data;        ///< a bundle's class names stand in place of data.class_names
    Index batch = 64;           ///< images at a time

    /// Whether the student comes in parts.
    bool in_parts() const { return !model.path.empty() || !learned.empty() || !class_vectors.empty(); }
};

/// The student's bundle: as it was written, or made of its parts. Throws Error unless `spec` names one or the other.
inline TensorMap load_student(const StudentEvaluationSpec& spec, Observer& observer) {
    require(spec.in_parts() != !spec.bundle.empty(),
            "a student is a bundle, or a model with learned parameters and "
            "class vectors: give one of the two");
    if (!spec.in_parts()) return load_tensors(spec.bundle, observer);
    require(!spec.model.path.empty() && !spec.learned.empty() && !spec.class_vectors.empty(),
            "a student in parts needs all of its model, its learned parameters and its class vectors");
    const std::vector<std::string> names =
        open_dataset(spec.data.source, spec.data.part, spec.data.class_names).class_names;
    const TensorMap learned = load_tensors(spec.learned, observer);
    const Index embed = learned.at(projector_name(0, "bias")).count();
    const HostTensor vectors =
        load_class_vectors(spec.class_vectors, static_cast<Index>(names.size()), embed, observer);
    return assemble_bundle(load_weights(spec.model, observer), learned, vectors, names);
}

/// Evaluates as `spec` says, the images divided among the ranks.
template <Device D>
EvaluationResult run(D& device, const StudentEvaluationSpec& spec, Observer& observer = silent_observer(),
                     const Ranks<D>& ranks = {}) {
    Classifier<D> student(device, load_student(spec, observer), spec.batch, WeightStorage::packed);
    const Dataset data = spec.data.open(observer, student.class_names());
    const auto features = encode_images(device, student, data, {"evaluate", spec.batch, observer}, ranks);
    return evaluate_features(device, features, student.class_vectors(),
                             distinct_names(data.class_names, data.class_ids), spec.data.subset);
}

PROMPTKD_COMPILED_FUNCTION(EvaluationResult run(Cpu<float>&, const StudentEvaluationSpec&, Observer&,
                                                const Ranks<Cpu<float>>&));

}  // namespace promptkd
