// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/weights_file.hpp>
#include <promptkd/format/torch_writer.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <filesystem>
#include <string>
#include <utility>

namespace promptkd {

/// Layouts that convert_weights writes.
enum class WeightsTarget { openai, huggingface, open_clip, checkpoint };

inline WeightsTarget parse_weights_target(const std::string& name) {
    if (name == "openai") return WeightsTarget::openai;
    if (name == "huggingface") return WeightsTarget::huggingface;
    if (name == "open_clip") return WeightsTarget::open_clip;
    require(name == "checkpoint", "unknown layout '", name, "', expected openai, huggingface, open_clip or checkpoint");
    return WeightsTarget::checkpoint;
}

namespace detail {

/// A complete model's configuration, every value given.
inline ModelConfig model_config_of(const TensorMap& map) {
    const auto text = [&](const char* key, const std::string& fallback) {
        const auto it = map.metadata.find(key);
        return it == map.metadata.end() ? fallback : it->second;
    };
    const auto heads = [&](const char* key, Index width) {
        const std::string value = text(key, std::to_string(std::max<Index>(1, width / 64)));
        const Index n = value.size() < 9 && value.find_first_not_of("0123456789") == std::string::npos && !value.empty()
                            ? std::stoll(value)
                            : 0;
        require(n > 0 && width % n == 0, map.source, ": metadata '", key, "' is '", value,
                "', which does not divide the width ", width);
        return n;
    };
    ModelConfig c;
    c.source = map.source;
    c.gelu = text("gelu", ""), c.eot = text("eot", "argmax");
    require(c.gelu == "quick" || c.gelu == "exact", map.source, ": the activation is not known; give --activation");
    if (map.contains("visual.class_embedding")) {
        c.vision_width = size_at(map, "visual.conv1.weight", 0),
        c.vision_layers = count_layers(map, "visual.transformer.");
        c.vision_heads = heads("vision_heads", c.vision_width), c.embed = size_at(map, "visual.proj", 1);
    }
    if (map.contains("token_embedding.weight")) {
        c.text_width = size_at(map, "token_embedding.weight", 1), c.text_layers = count_layers(map, "transformer.");
        c.vocabulary = size_at(map, "token_embedding.weight", 0), c.text_heads = heads("text_heads", c.text_width);
        c.embed = size_at(map, "text_projection", 1);
    }
    return c;
}

/// Whether the largest id of a row is always its EOT: the rule "first token with the last id" then says the same.
inline bool pools_at_argmax(const ModelConfig& c) {
    return c.eot == "argmax" || c.eot == std::to_string(c.vocabulary - 1);
}

inline Index image_size(const TensorMap& map) {
    const Index cells = size_at(map, "visual.positional_embedding", 0) - 1,
                patch = size_at(map, "visual.conv1.weight", 3);
    return static_cast<Index>(std::lround(std::sqrt(static_cast<double>(std::max<Index>(cells, 0))))) * patch;
}

inline Json huggingface_json(const TensorMap& map, const ModelConfig& c) {
    const char* act = c.gelu == "quick" ? "quick_gelu" : "gelu";
    const Json end = c.eot == "argmax" ? Json(2) : Json(std::stoll(c.eot));
    Json root = {{"architectures", {"CLIPModel"}},
                 {"model_type", "clip"},
                 {"projection_dim", c.embed},
                 {"logit_scale_init_value", 2.6592}};
    root["vision_config"] = {{"model_type", "clip_vision_model"},
                             {"hidden_size", c.vision_width},
                             {"num_hidden_layers", c.vision_layers},
                             {"num_attention_heads", c.vision_heads},
                             {"hidden_act", act},
                             {"layer_norm_eps", 1e-5},
                             {"num_channels", 3},
                             {"patch_size", size_at(map, "visual.conv1.weight", 3)},
                             {"image_size", image_size(map)},
                             {"intermediate_size", size_at(map, "visual.transformer.resblocks.0.mlp.c_fc.weight", 0)},
                             {"projection_dim", c.embed}};
    root["text_config"] = {{"model_type", "clip_text_model"},
                           {"hidden_size", c.text_width},
                           {"num_hidden_layers", c.text_layers},
                           {"num_attention_heads", c.text_heads},
                           {"hidden_act", act},
                           {"layer_norm_eps", 1e-5},
                           {"vocab_size", c.vocabulary},
                           {"max_position_embeddings", size_at(map, "positional_embedding", 0)},
                           {"bos_token_id", c.vocabulary - 2},
                           {"eos_token_id", end},
                           {"intermediate_size", size_at(map, "transformer.resblocks.0.mlp.c_fc.weight", 0)},
                           {"projection_dim", c.embed}};
    return root;
}

inline Json open_clip_json(const TensorMap& map, const ModelConfig& c) {
    Json text = {{"context_length", size_at(map, "positional_embedding", 0)},
                 {"vocab_size", c.vocabulary},
                 {"width", c.text_width},
                 {"heads", c.text_heads},
                 {"layers", c.text_layers}};
    if (!pools_at_argmax(c)) text["pool_type"] = "eos", text["eos_id"] = std::stoll(c.eot);
    const Json vision = {{"layers", c.vision_layers},
                         {"width", c.vision_width},
                         {"head_width", c.vision_width / c.vision_heads},
                         {"patch_size", size_at(map, "visual.conv1.weight", 3)},
                         {"image_size", image_size(map)}};
    return {{"embed_dim", c.embed}, {"quick_gelu", c.gelu == "quick"}, {"vision_cfg", vision}, {"text_cfg", text}};
}

/// Metadata of a written file: what completes the model, and the mark that the libraries of the format expect.
inline std::map<std::string, std::string> config_metadata(const ModelConfig& c) {
    std::map<std::string, std::string> all = {{"format", "pt"}, {"gelu", c.gelu}};
    if (c.vision_heads > 0) all["vision_heads"] = std::to_string(c.vision_heads);
    if (c.text_heads > 0) all["text_heads"] = std::to_string(c.text_heads), all["eot"] = c.eot;
    return all;
}

/// The published trainers build CLIP from the weights alone: width / 64 heads, QuickGELU, EOT at the largest id.
inline void refuse_lossy_checkpoint(const ModelConfig& c) {
    std::string lost;
    const auto lose = [&](bool lossy, const std::string& what) {
        if (lossy) lost += (lost.empty() ? "" : "; ") + what;
    };
    lose(c.vision_heads * 64 != c.vision_width,
         concat("the attention heads of the image branch (", c.vision_heads, " at width ", c.vision_width, ")"));
    lose(c.text_heads * 64 != c.text_width,
         concat("the attention heads of the text branch (", c.text_heads, " at width ", c.text_width, ")"));
    lose(c.gelu != "quick", "the activation (gelu)");
    lose(!pools_at_argmax(c), "the EOT rule (first token " + c.eot + ")");
    require(lost.empty(), c.source,
            ": the published checkpoints' layout implies width / 64 heads, quick_gelu and EOT at the largest id; this "
            "would be lost: ",
            lost);
}

inline void require_complete_vit(const TensorMap& map, const char* layout) {
    require(map.contains("visual.class_embedding") && map.contains("token_embedding.weight"), map.source, ": ", layout,
            " needs a ViT image branch and a text branch; this file lacks one, or has a ResNet");
}

inline void write_clip(const TensorMap& map, WeightsTarget target, const std::string& path) {
    const ModelConfig c = model_config_of(map);
    if (target == WeightsTarget::checkpoint) {
        refuse_lossy_checkpoint(c);
        return write_torch_checkpoint(path, map.tensors, 0, {{"gelu", c.gelu}, {"eot", c.eot}});
    }
    TensorMap out = map;
    out.metadata = config_metadata(c);
    if (target == WeightsTarget::openai) return write_safetensors(path, out);
    require_complete_vit(map, target == WeightsTarget::huggingface ? "Hugging Face's CLIP" : "open_clip's JSON");
    if (target == WeightsTarget::open_clip) {
        write_safetensors(path, out);
        return write_atomically(std::filesystem::path(path).replace_extension(".json").string(),
                                open_clip_json(map, c).dump(2) + "\n");
    }
    require(!is_file(path), path, ": is a file, but Hugging Face's layout is a folder");
    require(c.eot != "2", path,
            ": Hugging Face reads eos_token_id 2 as the largest id; this would be lost: the EOT rule (first token 2)");
    out = to_huggingface(out);
    make_directories(path);
    write_safetensors(path + "/model.safetensors", out);
    write_atomically(path + "/config.json", huggingface_json(map, c).dump(2) + "\n");
}

inline void write_learned(const TensorMap& map, WeightsTarget target, const std::string& path) {
    const std::string learner = map.metadata.count("learner") != 0 ? map.metadata.at("learner") : "";
    const std::string epoch = map.metadata.count("epoch") != 0 ? map.metadata.at("epoch") : "0";
    if (target == WeightsTarget::openai) {
        TensorMap out = map;
        out.metadata = {{"format", "pt"}, {"learner", learner}, {"epoch", epoch}};
        return write_safetensors(path, out);
    }
    require(target == WeightsTarget::checkpoint, map.source, ": learned parameters (", learner,
            ") would be lost: only --to checkpoint and --to openai (safetensors) have a place for them");
    std::map<std::string, HostTensor> state = map.tensors;
    if (learner == "coop" || learner == "cocoop") {  // these trainers save the prompt learner alone, without its prefix
        state.clear();
        for (const auto& [name, tensor] : map.tensors)
            state[starts_with(name, "prompt_learner.") ? name.substr(15) : name] = tensor;
    }
    const bool number =
        !epoch.empty() && epoch.size() < 10 && epoch.find_first_not_of("0123456789") == std::string::npos;
    write_torch_checkpoint(path, state, number ? std::stoll(epoch) : 0, {{"learner", learner}});
}

}  // namespace detail

/// Writes `map`, as read_weights returned it, in another layout. Models: safetensors under OpenAI's or open_clip's
/// names (with open_clip's JSON beside it), a Hugging Face folder, or a torch.save checkpoint {state_dict, epoch};
/// values and types do not change, and the configuration is in the metadata and JSON. Learned parameters: the published
/// trainers' checkpoint, or safetensors. Throws Error naming what would be lost where the target has no place for it.
inline void convert_weights(const TensorMap& map, WeightsTarget target, const std::string& path) {
    switch (classify_weights(map)) {
        case WeightsKind::clip:
            return detail::write_clip(map, target, path);
        case WeightsKind::learner:
            return detail::write_learned(map, target, path);
        case WeightsKind::bundle:
            require(target == WeightsTarget::checkpoint, map.source,
                    ": a student bundle; its class vectors and names would be lost (--to checkpoint writes what was "
                    "learned)");
            return detail::write_learned(learned_parameters(map), target, path);
        default:
            fail(map.source, ": neither a CLIP model nor learned parameters; there is nothing to convert");
    }
}

}  // namespace promptkd
