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

/// Which method learned these parameters.
inline std::string learner_of(const TensorMap& map, bool frozen_twin) {
    if (holds_any(map, projector_prefix)) return "promptkd";
    if (holds_any(map, "prompt_learner.proj.") || holds_any(map, "prompt_learner.compound_")) return "maple";
    if (holds_any(map, "prompt_learner.meta_net.")) return "cocoop";
    if (!map.contains(visual_prompt_name)) return "coop";
    if (frozen_twin) return "promptsrc";
    return map.contains(context_name) ? "ivlp" : "vpt";
}

}  // namespace detail

/// Whether these tensors come from a published trainer's checkpoint, or are learned parameters under its names.
inline bool is_learner_checkpoint(const TensorMap& map) {
    return map.contains("ctx") || map.contains(context_name) || map.contains(visual_prompt_name) ||
           detail::holds_any(map, projector_prefix);
}

/// The learned parameters of a checkpoint under their published names: `prompt_learner.…` (CoOp's bare names get that
/// prefix), `image_encoder.VPT`, `{image,text}_encoder.transformer.resblocks.{i}.VPT_shallow`,
/// `VPT_image_trans.conv1.…`. The frozen encoders, fixed tokens and PromptSRC's frozen twin are left out. Metadata
/// `learner`: coop, cocoop, vpt, ivlp, maple, promptsrc or promptkd.
inline TensorMap learned_parameters(const TensorMap& in) {
    TensorMap out;
    out.metadata = in.metadata;
    out.source = in.source;
    for (const auto& [name, tensor] : in.tensors) {
        const std::string full = is_bare_learner_name(name) ? prompt_learner_prefix + name : name;
        if (is_learned_name(full)) out.tensors[full] = tensor;
    }
    const bool frozen_twin = detail::holds_any(in, frozen_twin_prefix);
    if (out.metadata.count("learner") == 0) out.metadata["learner"] = detail::learner_of(out, frozen_twin);
    return out;
}

/// Whether every one of these learned parameters belongs to a prompt learner that its trainer saves alone, without its
/// prefix (CoOp's and CoCoOp's).
inline bool is_saved_bare(const TensorMap& learned) {
    const std::string_view prefix = prompt_learner_prefix;
    for (const auto& named : learned.tensors)
        if (!named.first.starts_with(prefix) || !is_bare_learner_name(named.first.substr(prefix.size()))) return false;
    return true;
}

}  // namespace promptkd
