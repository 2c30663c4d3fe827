// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/names.hpp>

#include <set>
#include <string>
#include <string_view>

namespace promptkd {

namespace detail {

/// CoOp's and CoCoOp's files hold the prompt learner alone, without its prefix.
inline bool is_bare_learner_name(std::string_view name) {
    return name == "ctx" || name == "token_prefix" || name == "token_suffix" || starts_with(name, "meta_net.");
}

/// Whether a name of a published checkpoint is that of something learned (as opposed to frozen encoders and fixed
/// tokens).
inline bool is_learned_name(std::string_view name) {
    if (starts_with(name, "prompt_learner."))
        return !starts_with(name, "prompt_learner.token_") && !starts_with(name, "prompt_learner.ZS_image_encoder.");
    if (starts_with(name, "image_encoder.") || starts_with(name, "text_encoder."))
        return name == "image_encoder.VPT" || ends_with(name, ".VPT_shallow");
    return starts_with(name, "VPT_image_trans.");
}

/// Which method learned these parameters.
inline std::string learner_of(const TensorMap& map, bool frozen_twin) {
    const auto any = [&](std::string_view prefix) {
        const auto it = map.tensors.lower_bound(std::string(prefix));
        return it != map.tensors.end() && starts_with(it->first, prefix);
    };
    if (any("VPT_image_trans.")) return "promptkd";
    if (any("prompt_learner.proj.") || any("prompt_learner.compound_")) return "maple";
    if (any("prompt_learner.meta_net.")) return "cocoop";
    if (!map.contains("image_encoder.VPT")) return "coop";
    if (frozen_twin) return "promptsrc";
    return map.contains("prompt_learner.ctx") ? "ivlp" : "vpt";
}

}  // namespace detail

/// Whether these tensors come from a published trainer's checkpoint, or are learned parameters under its names.
inline bool is_learner_checkpoint(const TensorMap& map) {
    if (map.contains("ctx") || map.contains("prompt_learner.ctx") || map.contains("image_encoder.VPT")) return true;
    const auto it = map.tensors.lower_bound("VPT_image_trans.");
    return it != map.tensors.end() && detail::starts_with(it->first, "VPT_image_trans.");
}

/// The learned parameters of a checkpoint under their published names: `prompt_learner.…` (CoOp's bare names get that
/// prefix), `image_encoder.VPT`, `{image,text}_encoder.transformer.resblocks.{i}.VPT_shallow`,
/// `VPT_image_trans.conv1.…`. The frozen encoders, fixed tokens and PromptSRC's frozen twin are left out. Metadata
/// `learner`: coop, cocoop, vpt, ivlp, maple, promptsrc or promptkd.
inline TensorMap learned_parameters(const TensorMap& in) {
    TensorMap out;
    out.metadata = in.metadata, out.source = in.source;
    bool frozen_twin = false;
    for (const auto& [name, tensor] : in.tensors) {
        frozen_twin = frozen_twin || detail::starts_with(name, "prompt_learner.ZS_image_encoder.");
        const std::string full = detail::is_bare_learner_name(name) ? "prompt_learner." + name : name;
        if (detail::is_learned_name(full)) out.tensors[full] = tensor;
    }
    if (out.metadata.count("learner") == 0) out.metadata["learner"] = detail::learner_of(out, frozen_twin);
    return out;
}

}  // namespace promptkd
