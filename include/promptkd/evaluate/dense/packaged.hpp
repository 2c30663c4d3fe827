// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/evaluate/dense/dense_model.hpp>

#include <string>

namespace promptkd {

namespace detail {

inline constexpr const char* packaged_image_head = "image_head.";

}  // namespace detail

/// Whether `map` is a densely distilled student as it is packaged with the benchmark of scenes: an image encoder, and
/// two projectors, `VPT_image_trans` for the patches and `image_head` for the class token, the other way round than in
/// a bundle.
inline bool is_packaged_student(const TensorMap& map) {
    return map.contains(std::string(detail::packaged_image_head) + "conv1.0.weight") && map.contains("class_vectors");
}

/// The parts of a bundle of such a student; its classes have numbers for names.
inline BundleParts packaged_student(const TensorMap& map) {
    BundleParts parts;
    parts.class_vectors = map.at("class_vectors");
    parts.clip.source = map.source;
    parts.clip.metadata = map.metadata;
    parts.learned.source = map.source;
    for (const auto& [name, tensor] : map.tensors) {
        if (name == "class_vectors") continue;
        const std::string projector = projector_prefix, own = detail::packaged_image_head;
        if (schema::is_student_weight(name))
            parts.clip.tensors[name] = tensor;
        else if (name.starts_with(projector))
            parts.learned.tensors[patch_head_prefix + name.substr(projector.size())] = tensor;
        else if (name.starts_with(own))
            parts.learned.tensors[projector + name.substr(own.size())] = tensor;
        else
            parts.learned.tensors[name] = tensor;
    }
    for (Index c = 0; c < parts.class_vectors.shape.at(0); ++c) parts.class_names.push_back(concat("class ", c));
    return parts;
}

}  // namespace promptkd
