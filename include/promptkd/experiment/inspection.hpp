// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/convert.hpp>
#include <promptkd/clip/checkpoint/inventory.hpp>
#include <promptkd/clip/checkpoint/weights_file.hpp>
#include <promptkd/clip/config.hpp>
#include <promptkd/clip/preprocessing.hpp>
#include <promptkd/evaluate/bundle.hpp>
#include <promptkd/experiment/tower_description.hpp>
#include <promptkd/learner/registry.hpp>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace promptkd {

/// What a file says of its CLIP model. Sizes are there where the branch is (those of a vision transformer alone).
struct ModelInspection {
    Inventory inventory;                                  ///< what is missing, and what has no place in the model
    std::optional<Gelu> activation;                       ///< nothing where the file does not tell
    std::optional<VisionConfig> vision;                   ///< of the image branch, where it is a transformer
    std::optional<TextConfig> text;                       ///< of the text branch
    nlohmann::json vision_description, text_description;  ///< sizes and policies of both, see describe(); null: absent
    /// what the images go through; nothing where there is no image branch, or no sizes of it
    std::optional<Preprocessing> preprocessing;
    std::optional<double> logit_bias;  ///< what is added to all logits (SigLIP)
    std::vector<std::string> dropped;  ///< tensors of the file that no computation reads: buffers of its library
};

/// What a file of weights holds.
struct WeightsInspection {
    WeightsKind kind = WeightsKind::tensors;    ///< what the file is
    Index tensors = 0, parameters = 0;          ///< how many, and values in all
    std::map<std::string, Index> dtypes;        ///< parameters of each type
    std::map<std::string, std::string> origin;  ///< of the metadata: file_format, naming, learner, epoch
    std::optional<ModelInspection> model;       ///< of a CLIP model, and of the one in a bundle
    std::vector<std::string> class_names;       ///< of a bundle
    PromptDesign visual_prompts, text_prompts;  ///< of learned parameters and bundles; no tokens: none
    Index projector_layers = 0;                 ///< of a student; 0: none
    Index projector_width = 0;                  ///< h, of its hidden layers; 0: there is none
    std::vector<std::string> features;          ///< of a bundle: what its reader must know
    std::optional<Mixture> mixture;             ///< of a bundle, with the student's zero-shot self
    std::string problem;                        ///< what does not fit together; empty: nothing
};

namespace detail {

inline void inspect_model(const TensorMap& map, WeightsInspection& out) {
    ModelInspection& model = out.model.emplace();
    model.inventory = clip_inventory(map);
    const auto dropped = map.metadata.find(dropped_tensors_key);
    if (dropped != map.metadata.end()) model.dropped = nlohmann::json::parse(dropped->second);
    try {
        if (map.metadata.count("gelu") != 0) model.activation = gelu_of(map);
        if (schema::has_vision_transformer(map)) model.vision = vision_config(map);
        if (model.vision) model.vision_description = describe(map, *model.vision);
        if (schema::has_text_branch(map)) model.text = text_config(map);
        if (model.text) model.text_description = describe(map, *model.text);
        if (model.vision) model.preprocessing = preprocessing_of(map, model.vision->resolution());
        if (schema::image_architecture(map) == &schema::modified_resnet) {
            const ResNetConfig resnet = resnet_config(map);
            model.vision_description = describe(resnet);
            model.preprocessing = preprocessing_of(map, resnet.resolution());
        }
        const std::string bias = schema::name_of(schema::model, schema::Role::logit_bias);
        if (map.contains(bias)) model.logit_bias = map.at(bias).to<double>().at(0);
    } catch (const Error& error) {
        if (out.problem.empty()) out.problem = error.what();
    }
}

inline void inspect_bundle(const TensorMap& map, WeightsInspection& out) {
    TensorMap clip;
    clip.metadata = map.metadata;
    clip.metadata.erase(dropped_tensors_key);  // a bundle has none
    clip.source = map.source;
    clip.tensors = tensors_under(map, bundle_clip_prefix);
    inspect_model(clip, out);
    try {
        out.class_names = bundle_class_names(map);
        const bool listed = map.metadata.count("requires") != 0;
        if (listed) out.features = metadata_list(map, "requires");
        if (listed || holds_any(map, mixture_prefix)) out.mixture = read_bundle(map).mixture;
    } catch (const Error& error) {
        if (out.problem.empty()) out.problem = error.what();
    }
}

inline void inspect_learned(const TensorMap& map, WeightsInspection& out) {
    try {
        const TensorMap prompts = independent_prompts(map);
        out.visual_prompts = visual_prompt_design(prompts);
        out.text_prompts = text_prompt_design(prompts);
    } catch (const Error& error) {
        if (out.problem.empty()) out.problem = error.what();
    }
    while (map.contains(projector_name(3 * out.projector_layers, "weight"))) ++out.projector_layers;
    if (out.projector_layers < 2) return;
    const Shape& first = map.at(projector_name(0, "weight")).shape;
    if (!first.empty()) out.projector_width = first[0];
}

}  // namespace detail

namespace detail {

/// The features of a bundle that a layout has no place for, each with its meaning.
inline std::vector<std::string> lost_features(const TensorMap& map, WeightsTarget target) {
    std::vector<std::string> lost;
    if (target == WeightsTarget::peft) lost.push_back("prompts and projector");
    const bool listed = map.metadata.count("requires") != 0;
    for (const std::string& name : listed ? metadata_list(map, "requires") : std::vector<std::string>())
        for (const BundleFeature& feature : bundle_features)
            if (feature.name == name && (name != "lora" || target != WeightsTarget::peft))
                lost.push_back(concat(name, " (", feature.meaning, ")"));
    const bool whole = has_trained_encoder(map) && !holds_any(map, lora_prefix);
    if (whole && !holds_any(map, bundle_adapted_prefix))
        lost.push_back("weights of its image encoder, which were trained too");
    if (holds_any(map, patch_head_prefix)) lost.push_back("patch_head (the patches have a projector of their own)");
    return lost;
}

}  // namespace detail

/// What of a student bundle is lost in a layout that convert_weights() writes of it, and what is left, in one line for
/// people; empty where nothing is lost, and for anything else than a bundle.
inline std::string lost_in_conversion(const TensorMap& map, WeightsTarget target) {
    if (!is_bundle(map)) return "";
    std::string lost;
    for (const std::string& what : detail::lost_features(map, target)) lost += (lost.empty() ? "" : "; ") + what;
    if (lost.empty()) return "";
    const bool mixed = detail::holds_any(map, detail::mixture_prefix);
    const char* left = target == WeightsTarget::peft ? "the low-rank updates alone are written"
                       : has_trained_encoder(map) ? "prompts and projector alone are written, which were trained for "
                                                    "that encoder and are wrong with another one"
                       : mixed                    ? "its readers run the distilled student alone"
                                                  : "its readers know nothing of it";
    return concat("this layout has no place for the ", lost, ": ", left);
}

/// What `map`, as read_weights returned it, holds. Damage inside it is a `problem`, not an exception.
inline WeightsInspection inspect_weights(const TensorMap& map) {
    WeightsInspection out;
    out.kind = classify_weights(map);
    out.tensors = static_cast<Index>(map.tensors.size());
    for (const auto& [name, tensor] : map.tensors) {
        out.dtypes[name_of(tensor.dtype)] += tensor.count();
        out.parameters += tensor.count();
    }
    for (const char* key : {"file_format", "naming", "state_key", "name_prefix", "learner", "epoch"})
        if (map.metadata.count(key) != 0) out.origin[key] = map.metadata.at(key);
    for (const auto& [name, tensor] : map.tensors)
        if (out.problem.empty() && !name.ends_with("attn_mask") && !all_finite(tensor))
            out.problem = concat("tensor '", name, "' holds NaN or infinity");
    if (out.kind == WeightsKind::clip) detail::inspect_model(map, out);
    if (out.kind == WeightsKind::bundle) detail::inspect_bundle(map, out);
    if (out.kind == WeightsKind::learner || out.kind == WeightsKind::bundle) detail::inspect_learned(map, out);
    return out;
}

}  // namespace promptkd
