// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/bundle_format.hpp>
#include <promptkd/clip/checkpoint/image_input.hpp>
#include <promptkd/clip/checkpoint/layouts.hpp>
#include <promptkd/clip/checkpoint/learned_parameters.hpp>
#include <promptkd/clip/checkpoint/model_config.hpp>
#include <promptkd/clip/checkpoint/prefixes.hpp>
#include <promptkd/clip/checkpoint/resolution.hpp>
#include <promptkd/clip/checkpoint/weights_folder.hpp>
#include <promptkd/format/finite.hpp>
#include <promptkd/format/safetensors.hpp>
#include <promptkd/format/torch_archive.hpp>

#include <cmath>
#include <functional>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// What messages call the settings that answer what a file leaves open: a program puts the names of its options here.
struct SettingNames {
    /// what to call the setting of the activation in messages
    std::string activation = "WeightsOptions::activation", config = "WeightsOptions::config";
};

/// How read_weights treats what a file does not tell.
struct WeightsOptions {
    std::string activation;          ///< "quick_gelu" or "gelu"; empty: from the configuration
    std::string config;              ///< the model's JSON; empty: the one beside the file, if any
    bool require_activation = true;  ///< a CLIP model whose activation nothing tells is an error
    bool check_values = true;        ///< NaN and infinity are an error
    ImageInputOptions images;        ///< what the user says about the images, in place of the files
    LearnerOf learner_of = nullptr;  ///< names the learner of a published checkpoint (learner/registry.hpp)
    /// something that the user should know
    std::function<void(const std::string&)> warn;
    SettingNames names;  ///< what messages call the settings
};

/// What a file turned out to hold.
enum class WeightsKind { clip, learner, bundle, tensors };

/// "CLIP model", "learned parameters", "student bundle", "tensors".
inline const char* name_of(WeightsKind kind) {
    constexpr const char* names[] = {"CLIP model", "learned parameters", "student bundle", "tensors"};
    return names[static_cast<int>(kind)];
}

/// What these tensors, as read_weights returns them, are.
inline WeightsKind classify_weights(const TensorMap& map) {
    if (is_bundle(map)) return WeightsKind::bundle;
    if (is_learner_checkpoint(map)) return WeightsKind::learner;
    return schema::layout_of(map) ? WeightsKind::clip : WeightsKind::tensors;
}

namespace detail {

/// The tensors of one file under the names they have there, the format recognised from its first bytes.
inline TensorMap read_tensors(const std::string& path) {
    FileBytes file = FileBytes::open(path);
    refuse_placeholder(path, file.text);
    if (torch_form(file.text) != TorchForm::none) return read_torch(file);
    if (file.text.size() <= 8 || file.text[8] != '{') {
        require(file.text.substr(0, 1) != "\x80", path,
                ": a pickle, but not one that torch.save wrote; save the weights with torch.save or as safetensors");
        require(file.text.size() < 263 || file.text.substr(257, 5) != "ustar", path,
                ": a tar archive (torch before 0.4?); load and save it with a newer torch");
        fail(path, ": none of the known formats (safetensors, a file of torch, TorchScript)");
    }
    TensorMap map = read_safetensors(path);
    map.metadata["file_format"] = "safetensors";
    return map;
}

/// Whether the matrices hold half-precision values only, as OpenAI's released models do, and the widths are those of 64
/// a head.
inline bool looks_like_openai(const TensorMap& map) {
    bool any = false;
    for (const schema::Architecture* architecture : {&schema::vision_transformer, &schema::text_transformer}) {
        const auto first =
            schema::find(*architecture, schema::Role::attention_in, schema::Part::weight, schema::Numbers{});
        const auto it = map.tensors.find(schema::name_of(*first));
        if (it == map.tensors.end()) continue;
        any = true;
        if (it->second.shape.size() != 2 || it->second.shape[1] % 64 != 0 || !all_half_exact(it->second)) return false;
    }
    return any;
}

inline void use_activation(const WeightsOptions& options, TensorMap& map) {
    if (options.activation.empty()) return;
    const std::string gelu = gelu_name(options.activation, options.names.activation);
    const bool carries_heads = map.metadata.count("vision_heads") != 0 || map.metadata.count("text_heads") != 0;
    const bool openai = gelu == "quick" && looks_like_openai(map);
    if (!carries_heads && !openai && options.warn)
        options.warn(concat(map.source, ": no configuration tells the attention heads; width / 64 is used, ",
                            options.names.config, " decides otherwise"));
    map.metadata["gelu"] = gelu;
}

/// Whether the library of the layout keeps a config.json beside its weights.
inline bool is_huggingface(schema::Layout layout) {
    return layout == schema::Layout::huggingface || layout == schema::Layout::siglip;
}

/// Puts the model's JSON into the metadata: the one that the options name, or the one beside the file.
inline void use_config(const WeightsOptions& options, schema::Layout layout, TensorMap& map) {
    if (!options.config.empty()) {
        const auto config = read_model_config(options.config);
        require(config.has_value(), options.config,
                ": not the configuration of a CLIP model (neither Hugging Face's config.json nor open_clip's)");
        return apply_model_config(*config, map);
    }
    if (map.metadata.count("gelu") != 0) return;
    for (const std::string& path : config_candidates(map.source, is_huggingface(layout)))
        if (const auto config = read_model_config(path)) return apply_model_config(*config, map);
}

/// Meta publishes PE without a configuration: what it is follows from the widths of the published models.
inline void recognise_pe(const WeightsOptions& options, TensorMap& map) {
    const auto probe =
        schema::find(schema::vision_transformer, schema::Role::pool_probe, schema::Part::weight, std::nullopt);
    if (!map.contains(schema::name_of(*probe))) return;
    struct Published {
        Index width, heads, text_width, text_heads;
    };
    constexpr Published published[] = {
        {192, 3, 512, 8}, {384, 6, 512, 8}, {768, 12, 1024, 16}, {1024, 16, 1024, 16}, {1536, 16, 1280, 20}};
    const Index width = schema::measure_known(map, schema::vision_transformer)[schema::Size::width];
    const Index text_width = schema::measure_known(map, schema::text_transformer)[schema::Size::width];
    for (const Published& model : published) {
        if (model.width != width || (text_width != 0 && model.text_width != text_width)) continue;
        ModelConfig c;
        c.source = map.source;
        c.set_activations("exact", "exact");
        c.vision_heads = model.heads;
        c.text_heads = model.text_heads;
        describe_pe(map.contains(schema::name_of(schema::vision_transformer, schema::Role::class_token)), 8, c);
        return apply_model_config(c, map);
    }
    fail(map.source, ": a PE model of width ", width,
         ", which is none of those that Meta publishes; give its configuration as JSON with ", options.names.config);
}

/// The activation of a model whose configuration nothing tells: OpenAI's where the weights are known to be OpenAI's.
inline void guess_activation(const WeightsOptions& options, schema::Layout layout, TensorMap& map) {
    const bool openai = layout == schema::Layout::openai;
    if (openai && map.metadata["file_format"] == "TorchScript archive") {
        map.metadata["gelu"] = "quick";
    } else if (openai && looks_like_openai(map)) {
        map.metadata["gelu"] = "quick";
        const bool has_activation = schema::has_text_branch(map) || schema::has_vision_transformer(map);
        if (!options.warn || !has_activation) return;
        const std::string advice =  // of a bundle nobody can say it
            options.require_activation
                ? concat("; ", options.names.activation, " or ", options.names.config, " decide otherwise")
                : std::string();
        options.warn(concat(
            map.source, ": half-precision weights under OpenAI's names: read as OpenAI's, with quick_gelu", advice));
    } else {
        require(!options.require_activation, map.source, ": nothing tells the activation of this model; give ",
                options.names.activation, " quick_gelu (OpenAI's weights and open_clip's '-quickgelu' models) or ",
                options.names.activation, " gelu (other open_clip models), or its JSON with ", options.names.config);
    }
}

/// Settles heads, activation and EOT rule of a model under OpenAI's names: from the options, the metadata (files that
/// `convert` wrote), the JSON beside the file, or from what OpenAI's own files are known to be. Throws Error where
/// nothing tells.
inline void complete_config(TensorMap& map, schema::Layout layout, const WeightsOptions& options) {
    use_config(options, layout, map);
    if (map.metadata.count("gelu") == 0) recognise_pe(options, map);
    const bool told = map.metadata.count("gelu") != 0;
    require(told || layout != schema::Layout::timm || !options.require_activation, map.source,
            ": no open_clip_config.json beside it, and the weights of a timm tower do not tell what it is; give the "
            "model's JSON with ",
            options.names.config);
    require(told || !is_huggingface(layout) || !options.require_activation, map.source,
            ": no config.json beside it, and the weights tell neither attention heads nor activation; give the "
            "model's config.json with ",
            options.names.config);
    use_activation(options, map);
    if (map.metadata.count("gelu") == 0) guess_activation(options, layout, map);
}

/// Throws Error naming a tensor with NaN or infinity. The mask of a text transformer, which some files hold, is made of
/// −∞ and is not read.
inline void check_values(TensorMap map) {
    for (auto it = map.tensors.begin(); it != map.tensors.end();)
        it = it->first.ends_with("attn_mask") ? map.tensors.erase(it) : std::next(it);
    require_finite(map);
}

/// An image branch alone has no logit scale: that of CLIP's trained models, ln 100.
inline void complete_logit_scale(TensorMap& map, const WeightsOptions& options) {
    const std::string name = schema::name_of(schema::model, schema::Role::logit_scale);
    if (map.contains(name) || schema::has_text_branch(map) || schema::image_architecture(map) == nullptr) return;
    map.tensors[name] = make_tensor(std::vector<float>{std::log(100.0f)}, {});
    if (options.warn)
        options.warn(concat(map.source, ": the image branch alone; its logits are scaled by 100, as CLIP's are"));
}

/// Says where in the file the model was found.
inline void say_where(const TensorMap& map, const WeightsOptions& options) {
    const auto note = [&](const char* key) {
        const auto found = map.metadata.find(key);
        return found == map.metadata.end() ? std::string() : found->second;
    };
    if (!options.warn) return;
    const std::string key = note("state_key"), copies = note("state_copies");
    const std::string prefix = note("name_prefix"), skipped = note("skipped_prefix");
    if (!copies.empty())
        options.warn(concat(map.source, ": the tensors under '", key.empty() ? "state_dict" : key,
                            "' are read, those under '", copies, "' are not"));
    if (!skipped.empty())
        options.warn(
            concat(map.source, ": the model under '", prefix, "' is read, the one under '", skipped, "' is not"));
}

/// Tensors under the names of this library: OpenAI's for models, the published trainers' for what was learned.
inline TensorMap complete_names(TensorMap map, const WeightsOptions& options) {
    if (is_learner_checkpoint(map)) return learned_parameters(map, options.learner_of);
    const std::optional<schema::Layout> layout = schema::layout_of(map);
    if (!layout) return map;
    map = to_openai(map, *layout);
    map.metadata.emplace("naming", name_of(*layout));
    complete_logit_scale(map, options);
    complete_config(map, *layout, options);
    const std::vector<std::string> files =
        preprocessing_candidates(map.source, options.config, is_huggingface(*layout));
    use_image_input(options.images, *layout, files, options.warn, map);
    return map;
}

}  // namespace detail

/// Weights, learned prompts, a student bundle or plain tensors, from a file or a Hugging Face or open_clip folder. The
/// format (safetensors; torch's zip, legacy and TorchScript forms; sharded folders) and the naming (OpenAI, Hugging
/// Face, open_clip, published trainers) are recognised from the content.
///
/// A CLIP model comes back under OpenAI's names with the metadata `vision_heads`, `text_heads`, `gelu` ("quick" or
/// "exact") and `eot` ("argmax" or a token id), which vision_config, text_config and ClipModel read. A published
/// checkpoint comes back as its learned parameters with the metadata `learner` (see learned_parameters). Metadata for
/// people: `file_format`, `naming`, `epoch`. Tensors stay in the mapped file. Throws Error naming file and reason for
/// anything damaged, hostile or undecidable, and for NaN and infinity.
inline TensorMap read_weights(const std::string& path, const WeightsOptions& options = {}) {
    TensorMap map = is_folder(path) ? read_weights_folder(path, &detail::read_tensors) : detail::read_tensors(path);
    if (is_bundle(map))
        detail::use_bundle_input(options.images, map);
    else
        map = detail::complete_names(detail::plain_names(std::move(map)), options);
    detail::say_where(map, options);
    require(!map.tensors.empty(), path, ": holds no tensors that are read here");
    if (options.check_values) detail::check_values(map);
    require_intact_mappings();
    return map;
}

}  // namespace promptkd
