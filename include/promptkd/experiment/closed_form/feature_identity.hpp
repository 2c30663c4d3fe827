// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/distillation_setup.hpp>

#include <nlohmann/json.hpp>

#include <string>

namespace promptkd {

/// What the features of a fit in closed form depend on, in two parts.
struct FeatureIdentity {
    nlohmann::json images;  ///< the data set
    nlohmann::json models;  ///< who encodes it, and how

    /// Both.
    nlohmann::json all() const {
        nlohmann::json together = models;
        together.update(images);
        return together;
    }
};

/// Of a distillation. Features of a single teacher do not depend on the classes.
template <Device D>
FeatureIdentity feature_identity(const DistillationSetup<D>& setup) {
    const DistillationSpec& spec = setup.spec;
    FeatureIdentity id;
    id.images = target_inputs(setup.images.train, parse_data_spec(spec.data.source).root, spec.data.verify);
    if (spec.data.verify) id.images.erase("modification times of the images");  // their bytes say more
    id.models["weights of the student"] = weights_identity(setup.student_map);
    id.models["preprocessing of the student"] = to_json(setup.student_model.preprocessing());
    id.models["views of an image"] = spec.flip_rows ? 2 : 1;
    id.models["precision"] = name_of(dtype_of<typename D::Activation>);
    if (exif_rotation().applied()) id.models["EXIF rotation"] = "applied";
    Fingerprint teachers;
    setup.teachers.add_inputs(teachers);
    setup.teachers.add_to(teachers);
    const bool logits = setup.stored || setup.teachers.size() > 1;
    for (const auto& [name, value] : teachers.items())
        if (logits || name.rfind("class vectors", 0) != 0) id.models[name] = value;
    if (!logits) return id;
    if (setup.stored) id.models["stored targets"] = fingerprint(spec.stored_targets);
    Checksum sum;
    sum.add(setup.vectors.data(), setup.vectors.size() * sizeof(typename D::Scalar));
    id.models["class vectors"] = sum.text();
    return id;
}

}  // namespace promptkd
