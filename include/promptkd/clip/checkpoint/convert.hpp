// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/explain.hpp>
#include <promptkd/clip/checkpoint/peft.hpp>
#include <promptkd/clip/checkpoint/target_policies.hpp>
#include <promptkd/clip/checkpoint/weights_file.hpp>
#include <promptkd/clip/config.hpp>
#include <promptkd/clip/preprocessing.hpp>
#include <promptkd/format/json_text.hpp>
#include <promptkd/format/torch_writer.hpp>
#include <promptkd/op/norm.hpp>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <optional>
#include <string>
#include <utility>

namespace promptkd {

/// Layouts that convert_weights writes.
enum class WeightsTarget { openai, huggingface, open_clip, checkpoint, peft };

/// A layout's name, or that of a published checkpoint. Throws Error for any other.
inline WeightsTarget parse_weights_target(const std::string& name) {
    if (name == "openai") return WeightsTarget::openai;
    if (name == "huggingface") return WeightsTarget::huggingface;
    if (name == "open_clip") return WeightsTarget::open_clip;
    if (name == "peft") return WeightsTarget::peft;
    require(name == "checkpoint", "unknown layout '", name,
            "', expected openai, huggingface, open_clip, checkpoint or peft");
    return WeightsTarget::checkpoint;
}

/// What convert_weights has written.
struct WrittenWeights {
    const char* kind;     ///< for people
    std::size_t tensors;  ///< how many
};

namespace detail {

/// A complete model's configuration, every value given; 0 for a branch that is not there, or is a ResNet.
inline ModelConfig model_config_of(const TensorMap& map) {
    const auto gelu = map.metadata.find("gelu"), eot = map.metadata.find("eot");
    require(gelu != map.metadata.end(), map.source,
            ": the activation is not known; read the file with one, or with the model's JSON (WeightsOptions)");
    ModelConfig c;
    c.source = map.source;
    c.gelu = name_of(gelu_of(map));
    if (eot != map.metadata.end()) c.eot = eot->second;
    for (const char* entry : tower_entries)
        if (map.metadata.count(entry) != 0) c.description[entry] = map.metadata.at(entry);
    if (schema::has_vision_transformer(map)) {
        const VisionConfig vision = vision_config(map);
        c.vision_width = vision.width;
        c.vision_layers = vision.layers;
        c.vision_heads = vision.heads;
        c.embed = vision.embed;
    }
    if (schema::has_text_branch(map)) {
        const TextConfig text = text_config(map);
        c.text_width = text.width;
        c.text_layers = text.layers;
        c.text_heads = text.heads;
        c.vocabulary = text.vocabulary;
        c.embed = text.embed;
    }
    return c;
}

/// Whether the largest id of a row is always its EOT: the rule "first token with the last id" then says the same.
inline bool pools_at_argmax(const ModelConfig& c) {
    return c.eot == "argmax" || c.eot == std::to_string(c.vocabulary - 1);
}

inline Json huggingface_json(const TensorMap& map, const ModelConfig& c) {
    const TextConfig t = text_config(map);
    Json vision = huggingface_vision_json(map, "clip_vision_model"),
         text = huggingface_text_json(map, "clip_text_model");
    vision["projection_dim"] = vision_config(map).embed;
    text["projection_dim"] = t.embed;
    text["bos_token_id"] = t.vocabulary - 2;
    text["eos_token_id"] = t.end_id < 0 ? 2 : t.end_id;  // 2: at the largest id
    return {{"architectures", {"CLIPModel"}},   {"model_type", "clip"},    {"projection_dim", c.embed.value},
            {"logit_scale_init_value", 2.6592}, {"vision_config", vision}, {"text_config", text}};
}

inline Json open_clip_json(const TensorMap& map, const ModelConfig& c) {
    const VisionConfig v = vision_config(map);
    const TextConfig t = text_config(map);
    Json text = {{"context_length", t.context_length},
                 {"vocab_size", t.vocabulary},
                 {"width", t.width},
                 {"heads", t.heads},
                 {"layers", t.layers}};
    if (t.pooling == TextPooling::end && !pools_at_argmax(c)) {
        text["pool_type"] = "eos";
        text["eos_id"] = t.end_id;
    }
    add_open_clip_text(map, t, text);
    Json vision = {{"layers", v.layers},
                   {"width", v.width},
                   {"head_width", v.width / v.heads},
                   {"patch_size", v.patch},
                   {"image_size", v.resolution()}};
    add_open_clip_vision(map, v, vision);
    Json json = {
        {"embed_dim", c.embed.value}, {"quick_gelu", c.gelu == "quick"}, {"vision_cfg", vision}, {"text_cfg", text}};
    const std::string bias = schema::name_of(schema::model, schema::Role::logit_bias);
    if (map.contains(bias)) json["init_logit_bias"] = map.at(bias).to<double>().at(0);
    return json;
}

/// Metadata of a written file: what completes the model, and the mark that the libraries of the format expect.
inline std::map<std::string, std::string> config_metadata(const ModelConfig& c) {
    std::map<std::string, std::string> all = {{"format", "pt"}, {"gelu", c.gelu}};
    if (c.vision_heads > 0) all["vision_heads"] = std::to_string(c.vision_heads);
    if (c.text_heads > 0) {
        all["text_heads"] = std::to_string(c.text_heads);
        all["eot"] = c.eot;
    }
    all.insert(c.description.begin(), c.description.end());
    return all;
}

/// What the images of a model go through; nothing where that is CLIP's preprocessing.
inline std::optional<Preprocessing> own_preprocessing(const TensorMap& map) {
    if (map.metadata.count(preprocessing_key) == 0) return std::nullopt;
    return preprocessing_of(map, image_resolution(map));
}

/// Whether `p` is CLIP's but for where the crop begins and when the colours are converted.
inline bool is_clip_preprocessing(Preprocessing p) {
    p.colours = ColourConversion::first;
    p.rounding = CropRounding::half_to_even;
    return p == Preprocessing::clip(p.height);
}

/// What the target library has to be told of the images; an Error where it cannot. Where the crop begins when the
/// surplus is odd is the target library's own: Hugging Face rounds down, open_clip half to even. So is when pictures
/// become RGB.
inline void require_no_loss(bool kept, const TensorMap& map, const char* target, const char* what) {
    require(kept, map.source, ": ", target, " has no place for its preprocessing; this would be lost: ", what);
}

inline Json open_clip_preprocess_json(const TensorMap& map, const Preprocessing& p) {
    require_no_loss(p.resize != ResizeMode::none, map, "open_clip", "images that are not resized");
    require_no_loss(p.size == 0, map, "open_clip", "a resize to another size than the crop's");
    require_no_loss(p.rescale == 1.0 / 255, map, "open_clip", "the rescale factor");
    require_no_loss(p.interpolation == Interpolation::bicubic || p.interpolation == Interpolation::bilinear, map,
                    "open_clip", "the interpolation");
    return {{"mean", p.normalization.mean},
            {"std", p.normalization.deviation},
            {"interpolation", name_of(p.interpolation)},
            {"resize_mode", name_of(p.resize)},
            {"fill_color", p.fill}};
}

inline Json processor_json(const TensorMap& map, const Preprocessing& p) {
    constexpr int filters[] = {0, 2, 3, 1, 4, 5};  // Pillow's numbers, in the order of Interpolation
    require_no_loss(p.resize != ResizeMode::longest, map, "Hugging Face's CLIP", "the resize of the longest side");
    const bool squash = p.resize == ResizeMode::squash;
    const Index side = p.size > 0 ? p.size : p.height;
    Json size = {{"shortest_edge", side}};
    if (squash) size = {{"height", side}, {"width", side}};
    return {{"image_processor_type", "CLIPImageProcessor"},
            {"do_resize", p.resize != ResizeMode::none},
            {"size", size},
            {"resample", filters[static_cast<int>(p.interpolation)]},
            {"do_center_crop", p.crop},
            {"crop_size", {{"height", p.height}, {"width", p.width}}},
            {"do_rescale", true},
            {"rescale_factor", p.rescale},
            {"do_normalize", true},
            {"image_mean", p.normalization.mean},
            {"image_std", p.normalization.deviation},
            {"do_convert_rgb", true}};
}

/// The published trainers build CLIP from the weights alone: width / 64 heads, QuickGELU, EOT at the largest id.
inline void refuse_lossy_checkpoint(const ModelConfig& c, const std::optional<Preprocessing>& images) {
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
    lose(images && !is_clip_preprocessing(*images), "the preprocessing of the images");
    require(lost.empty(), c.source,
            ": the published checkpoints' layout implies width / 64 heads, quick_gelu and EOT at the largest id; this "
            "would be lost: ",
            lost);
}

inline void require_complete_vit(const TensorMap& map, const char* layout) {
    require(schema::has_vision_transformer(map) && schema::has_text_branch(map), map.source, ": ", layout,
            " needs a ViT image branch and a text branch; this file lacks one, or has a ResNet");
}

/// Throws Error naming what of the towers a layout has no place for. Safetensors with our metadata have one for all.
inline void require_place(const TensorMap& map, WeightsTarget target) {
    if (target == WeightsTarget::openai || is_plain_clip(map)) return;
    const std::string lost = target == WeightsTarget::open_clip     ? lost_in_open_clip(map)
                             : target == WeightsTarget::huggingface ? lost_in_huggingface(map)
                                                                    : "towers of another kind than CLIP's";
    require(lost.empty(), map.source,
            ": this layout has no place for all of its towers' kind; this would be lost: ", lost,
            "; the layout openai (safetensors) keeps everything");
}

/// Returns the number of tensors written.
inline std::size_t write_clip(const TensorMap& map, WeightsTarget target, const std::string& path) {
    const ModelConfig c = model_config_of(map);
    require_place(map, target);
    const std::optional<Preprocessing> images = own_preprocessing(map);
    if (target == WeightsTarget::checkpoint) {
        refuse_lossy_checkpoint(c, images);
        write_torch_checkpoint(path, map.tensors, 0, {{"gelu", c.gelu}, {"eot", c.eot}});
        return map.tensors.size();
    }
    TensorMap out = map;
    out.metadata = config_metadata(c);
    if (target == WeightsTarget::openai) {
        if (images) set_preprocessing(out, *images);
        write_safetensors(path, out);
        return out.tensors.size();
    }
    require_complete_vit(map, target == WeightsTarget::huggingface ? "Hugging Face's CLIP" : "open_clip's JSON");
    if (target == WeightsTarget::open_clip) {
        Json json = open_clip_json(map, c);
        if (images) json = {{"model_cfg", json}, {"preprocess_cfg", open_clip_preprocess_json(map, *images)}};
        write_safetensors(path, out);
        write_atomically(std::filesystem::path(path).replace_extension(".json").string(), json_text(json, 2) + "\n");
        return out.tensors.size();
    }
    require(!is_file(path), path, ": is a file, but Hugging Face's layout is a folder");
    require(c.eot != "2", path,
            ": Hugging Face reads eos_token_id 2 as the largest id; this would be lost: the EOT rule (first token 2)");
    const Json processor = images ? processor_json(map, *images) : Json();
    const bool siglip = is_siglip(map);
    out = from_openai(out, siglip ? schema::Layout::siglip : schema::Layout::huggingface);
    if (siglip) shape_as_siglip(out);
    make_directories(path);
    write_safetensors(path + "/model.safetensors", out);
    write_atomically(path + "/config.json", json_text(siglip ? siglip_json(map) : huggingface_json(map, c), 2) + "\n");
    if (images) write_atomically(path + "/preprocessor_config.json", json_text(processor, 2) + "\n");
    return out.tensors.size();
}

/// Learned parameters under the names of the published trainers' checkpoints.
inline std::map<std::string, HostTensor> checkpoint_state(const TensorMap& learned) {
    if (!is_saved_bare(learned)) return learned.tensors;
    std::map<std::string, HostTensor> state;
    for (const auto& [name, tensor] : learned.tensors)
        state[name.substr(std::string_view(prompt_learner_prefix).size())] = tensor;
    return state;
}

/// Returns the number of tensors written.
inline std::size_t write_learned(const TensorMap& map, WeightsTarget target, const std::string& path) {
    const std::string learner = map.metadata.count("learner") != 0 ? map.metadata.at("learner") : "";
    const std::string epoch = map.metadata.count("epoch") != 0 ? map.metadata.at("epoch") : "0";
    if (target == WeightsTarget::openai) {
        TensorMap out = map;
        out.metadata = {{"format", "pt"}, {"learner", learner}, {"epoch", epoch}};
        write_safetensors(path, out);
        return out.tensors.size();
    }
    require(target == WeightsTarget::checkpoint, map.source, ": learned parameters (", learner,
            ") would be lost: only the layouts checkpoint and openai (safetensors) have a place for them");
    const bool number =
        !epoch.empty() && epoch.size() < 10 && epoch.find_first_not_of("0123456789") == std::string::npos;
    write_torch_checkpoint(path, checkpoint_state(map), number ? std::stoll(epoch) : 0, {{"learner", learner}});
    return map.tensors.size();
}

}  // namespace detail

/// Writes `map`, as read_weights returned it, in another layout. Models: safetensors under OpenAI's or open_clip's
/// names (with open_clip's JSON beside it), a Hugging Face folder, or a torch.save checkpoint {state_dict, epoch};
/// values and types do not change, and the configuration is in the metadata and JSON. Learned parameters: the published
/// trainers' checkpoint, or safetensors. Of a student bundle: prompts and projector in the published trainers'
/// checkpoint; lost_in_conversion() says what else there is. Low-rank updates: a folder of Hugging Face's peft. Throws
/// Error naming what would be lost where the target has no place for it.
inline WrittenWeights convert_weights(const TensorMap& map, WeightsTarget target, const std::string& path) {
    if (target == WeightsTarget::peft) return {"low-rank updates", write_peft_adapter(path, map)};
    switch (classify_weights(map)) {
        case WeightsKind::clip:
            return {name_of(WeightsKind::clip), detail::write_clip(map, target, path)};
        case WeightsKind::learner:
            return {name_of(WeightsKind::learner), detail::write_learned(map, target, path)};
        case WeightsKind::bundle:
            require(target == WeightsTarget::checkpoint, map.source,
                    ": a student bundle; its class vectors and names would be lost (the layout checkpoint writes "
                    "prompts and projector, peft low-rank updates)");
            return {name_of(WeightsKind::learner), detail::write_learned(learned_parameters(map), target, path)};
        default:
            fail(map.source,
                 ": neither a CLIP model nor learned parameters; there is nothing to convert: ", describe_tensors(map));
    }
}

}  // namespace promptkd
