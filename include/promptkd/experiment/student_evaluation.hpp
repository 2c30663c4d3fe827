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
    std::string bundle;                             ///< the student's file; empty: it comes in parts
    ModelFile model;                                ///< without a bundle: the student's CLIP model,
    std::string learned;                            ///< what was learned for it (a published student's checkpoint),
    std::string class_vectors;                      ///< and a file with its teacher's class vectors
    EvaluationData data;                            ///< a bundle's class names stand in place of data.class_names
    Index batch = 64;                               ///< images at a time
    WeightStorage storage = WeightStorage::packed;  ///< of the image encoder
    bool per_image = false;  ///< also say of each image what it is taken for and how familiar it is

    /// Whether the student comes in parts.
    bool in_parts() const { return !model.path.empty() || !learned.empty() || !class_vectors.empty(); }
};

/// The student's bundle: as it was written, or made of its parts. Throws Error unless `spec` names one or the other.
inline TensorMap load_student(const StudentEvaluationSpec& spec, Observer& observer) {
    require(spec.in_parts() != !spec.bundle.empty(),
            "a student is a bundle, or a model with learned parameters and "
            "class vectors: give one of the two");
    if (!spec.in_parts()) return load_bundle(spec.bundle, spec.model.images, observer);
    require(!spec.model.path.empty() && !spec.learned.empty() && !spec.class_vectors.empty(),
            "a student in parts needs all of its model, its learned parameters and its class vectors");
    const std::vector<std::string> names =
        open_dataset(spec.data.source, spec.data.part, spec.data.class_names).class_names;
    const TensorMap learned = load_tensors(spec.learned, observer);
    Index last = 0;
    while (learned.contains(projector_name(last + 3, "bias"))) last += 3;
    const Index embed = learned.at(projector_name(last, "bias")).count();
    const HostTensor vectors =
        load_class_vectors(spec.class_vectors, static_cast<Index>(names.size()), embed, observer);
    return assemble_bundle(load_model(spec.model, observer), learned, vectors, names);
}

/// Evaluates as `spec` says, the images divided among the ranks.
template <Device D>
EvaluationResult run(D& device, const StudentEvaluationSpec& spec, Observer& observer = silent_observer(),
                     const Ranks<D>& ranks = {}) {
    const TensorMap bundle = load_student(spec, observer);
    const BundleParts parts = read_bundle(bundle);
    const Dataset data = spec.data.open(observer, parts.class_names);
    const Index batch = fitting_batch(spec.batch, data);
    Classifier<D> student(device, parts, batch, spec.storage);
    const std::vector<std::string> names = distinct_names(data.class_names, data.class_ids);
    const EncodingStage stage{"evaluate", batch, observer};
    if (student.is_mixed()) {
        const auto rows = encode_images(device, student.mixture_encoder(), data, stage, ranks);
        EvaluationResult found = evaluate_mixture(student.mixed(), rows, names, spec.data.subset);
        if (!spec.per_image) found.images.clear();
        for (std::size_t i = 0; i < found.images.size(); ++i) found.images[i].image = data.item_name(rows.indices[i]);
        return found;
    }
    require(!spec.per_image, spec.bundle,
            ": this student has no mixture and no guard, so there is nothing to be said of single images; distil it "
            "with a mixture or a guard");
    const auto features = encode_images(device, student, data, stage, ranks);
    return evaluate_features(device, features, student.class_vectors(), names, spec.data.subset);
}

PROMPTKD_COMPILED_FUNCTION(EvaluationResult run(Cpu<float>&, const StudentEvaluationSpec&, Observer&,
                                                const Ranks<Cpu<float>>&));

}  // namespace promptkd
