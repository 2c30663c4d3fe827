// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/prompt_names.hpp>

#include <string>
#include <string_view>

namespace promptkd {

namespace detail {

inline bool holds_any(const TensorMap& map, std::string_view prefix) {
    const auto it = map.tensors.lower_bound(std::string(prefix));
    return it != map.tensors.end() && it->first.starts_with(prefix);
}

}  // namespace detail

/// Whether these tensors come from a published trainer's checkpoint, or are learned parameters under its names.
inline bool is_learner_checkpoint(const TensorMap& map) {
    return map.contains("ctx") || map.contains(context_name) || map.contains(visual_prompt_name) ||
           detail::holds_any(map, projector_prefix);
}

/// Says whose checkpoint tensors are, "" for nobody known: see learner/registry.hpp.
using LearnerOf = std::string (*)(const TensorMap&);

/// The learned parameters of a checkpoint under their published names: those that begin with `prompt_learner` (bare
/// names get that prefix), `image_encoder.VPT`, `VPT_shallow` of the deeper blocks of both encoders, the projector's.
/// The frozen encoders, fixed tokens and a frozen twin of the image encoder are left out. Metadata `learner`: as it
/// was, else "promptkd" for a student, else what `learner_of` (may be null) says.
inline TensorMap learned_parameters(const TensorMap& in, LearnerOf learner_of = nullptr) {
    TensorMap out;
    out.metadata = in.metadata;
    out.source = in.source;
    for (const auto& [name, tensor] : in.tensors) {
        const std::string full = is_bare_learner_name(name) ? prompt_learner_prefix + name : name;
        if (is_learned_name(full)) out.tensors[full] = tensor;
    }
    if (out.metadata.count("learner") == 0) {
        std::string learner;
        if (detail::holds_any(in, projector_prefix))
            learner = "promptkd";
        else if (learner_of)
            learner = learner_of(in);
        if (!learner.empty()) out.metadata["learner"] = learner;
    }
    return out;
}

/// Whether every one of these learned parameters belongs to a prompt learner that its trainer saves alone, without its
/// prefix.
inline bool is_saved_bare(const TensorMap& learned) {
    const std::string_view prefix = prompt_learner_prefix;
    for (const auto& named : learned.tensors)
        if (!named.first.starts_with(prefix) || !is_bare_learner_name(named.first.substr(prefix.size()))) return false;
    return true;
}

}  // namespace promptkd
