// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/lora.hpp>
#include <promptkd/format/file.hpp>
#include <promptkd/format/json_text.hpp>
#include <promptkd/format/safetensors.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace promptkd {

namespace detail {

/// A layer of Hugging Face's CLIP vision model, and the map of a block that it is or is a part of.
struct PeftLayer {
    std::string name;
    BlockMap map;
    Index part;  // of queries, keys and values
};

/// All that peft may update, queries, keys and values apart.
inline const std::vector<PeftLayer>& peft_layers() {
    static const std::vector<PeftLayer> layers = [] {
        std::vector<PeftLayer> all;
        for (const BlockMap map :
             {BlockMap::attention_in, BlockMap::attention_out, BlockMap::mlp_in, BlockMap::mlp_out})
            for (int part = 0; part < (map == BlockMap::attention_in ? 3 : 1); ++part)
                all.push_back({named_map(map, schema::Layout::huggingface, part), map, part});
        return all;
    }();
    return layers;
}

/// What peft's names of a vision model's blocks begin with, up to the number.
inline std::string peft_prefix() {
    const auto weight =
        schema::find(schema::vision_transformer, schema::Role::attention_in, schema::Part::weight, schema::Numbers{});
    return "base_model.model." + schema::block_prefix(*weight, schema::Layout::huggingface);
}

/// A setting of an adapter_config.json, `otherwise` where it is not set. Throws Error for one of another type.
template <class Value>
Value peft_setting(const nlohmann::json& config, const char* key, Value otherwise, const std::string& source) {
    if (!config.contains(key) || config.at(key).is_null()) return otherwise;
    const nlohmann::json& value = config.at(key);
    const bool good = std::is_same_v<Value, bool> ? value.is_boolean() : value.is_string();
    require(good, source, ": '", key, "' is ", json_text(value), ", which is no such setting");
    return value.get<Value>();
}

/// The factor of B·A that an adapter_config.json says. Throws Error for another kind of adapter.
inline double peft_scale(const nlohmann::json& config, const std::string& source) {
    require(config.is_object() && peft_setting<std::string>(config, "peft_type", "", source) == "LORA", source,
            ": not the configuration of a LoRA: 'peft_type' is not \"LORA\"");
    const bool whole = config.contains("r") && config.at("r").is_number_integer() && config.contains("lora_alpha") &&
                       config.at("lora_alpha").is_number();
    require(whole && config.at("r").get<Index>() > 0, source, ": 'r' or 'lora_alpha' is missing");
    for (const char* key : {"rank_pattern", "alpha_pattern"})
        require(!config.contains(key) || config.at(key).empty(), source, ": '", key, "' is not read: one rank for all");
    const bool biases = peft_setting<std::string>(config, "bias", "none", source) != "none";
    require(!biases && !peft_setting(config, "use_dora", false, source), source,
            ": biases that are trained, and DoRA, are not read");
    const double r = config.at("r").get<double>(), alpha = config.at("lora_alpha").get<double>();
    return alpha / (peft_setting(config, "use_rslora", false, source) ? std::sqrt(r) : r);
}

/// Where a tensor of an adapter belongs.
struct PeftPlace {
    Index block = 0;
    const PeftLayer* layer = nullptr;
    bool is_a = false;
};

/// Throws Error for a tensor that is no update of a vision block.
inline PeftPlace peft_place(const std::string& name, const std::string& source) {
    const std::string prefix = peft_prefix();
    const bool vision = name.rfind(prefix, 0) == 0;
    require(vision, source, ": '", name, "' is no update of a CLIP vision model's layers; only those are read");
    const std::size_t dot = name.find('.', prefix.size());
    PeftPlace place;
    place.block = std::strtoll(name.c_str() + prefix.size(), nullptr, 10);
    const std::string rest = dot == std::string::npos ? "" : name.substr(dot + 1);
    for (const PeftLayer& layer : peft_layers())
        for (const bool a : {true, false}) {
            if (rest != layer.name + (a ? ".lora_A.weight" : ".lora_B.weight")) continue;
            place.layer = &layer;
            place.is_a = a;
        }
    require(place.layer != nullptr, source, ": '", name, "' is no update of a layer that is known");
    return place;
}

/// Copies `tensor` times `factor` to rows from `first` on of `to`, (rows, columns).
inline void put_rows(const HostTensor& tensor, double factor, Index first, Index columns, std::vector<float>& to) {
    const std::vector<float> values = tensor.to<float>();
    for (std::size_t i = 0; i < values.size(); ++i)
        to[static_cast<std::size_t>(first * columns) + i] = static_cast<float>(values[i] * factor);
}

}  // namespace detail

/// Whether `map` is a LoRA as Hugging Face's peft writes it (adapter_model.safetensors).
inline bool is_peft_adapter(const TensorMap& map) {
    return std::any_of(map.tensors.begin(), map.tensors.end(), [](const auto& entry) {
        return entry.first.rfind("base_model.model.", 0) == 0 && entry.first.find(".lora_") != std::string::npos;
    });
}

/// The updates (lora_prefix) of a peft adapter of a CLIP vision model with this configuration: queries, keys and values
/// keep an A each, those without an update get zeros; the factor lora_alpha/r goes into B. Throws Error for what is not
/// read, and for shapes that do not fit together. `config_source` names the configuration in messages.
inline TensorMap read_peft_adapter(const TensorMap& adapter, const nlohmann::json& config,
                                   const std::string& config_source = "adapter_config.json") {
    const double scale = detail::peft_scale(config, config_source);
    const Index rank = config.at("r").get<Index>();
    TensorMap out;
    out.source = adapter.source;
    std::map<std::string, std::vector<float>> values;
    std::map<std::string, Shape> shapes;
    for (const auto& [name, tensor] : adapter.tensors) {
        const detail::PeftPlace at = detail::peft_place(name, adapter.source);
        const Shape& shape = tensor.shape;
        require(shape.size() == 2 && shape[at.is_a ? 0 : 1] == rank, adapter.source, ": '", name, "' has shape ",
                to_string(shape), ", which is not of rank ", rank);
        const Index parts = at.layer->map == BlockMap::attention_in ? 3 : 1;
        const std::string key = std::string(lora_prefix) + std::to_string(at.block) + "." +
                                detail::named_map(at.layer->map) + (at.is_a ? ".A" : ".B");
        const Shape whole{parts * shape[0], shape[1]};
        if (shapes.count(key) == 0) {
            shapes[key] = whole;
            values[key].assign(static_cast<std::size_t>(count_of(whole)), 0);
        }
        require(shapes[key] == whole, adapter.source, ": '", name, "' has shape ", to_string(shape),
                ", unlike its neighbours");
        detail::put_rows(tensor, at.is_a ? 1 : scale, at.layer->part * shape[0], shape[1], values[key]);
    }
    for (auto& [key, all] : values) out.tensors[key] = make_tensor(std::move(all), shapes[key]);
    require(lora_config(out).has_value(), adapter.source, ": holds no update");
    return out;
}

/// The same from a file, with adapter_config.json beside it.
inline TensorMap read_peft_adapter(const TensorMap& adapter) {
    const std::string path = (std::filesystem::path(adapter.source).parent_path() / "adapter_config.json").string();
    require(std::filesystem::exists(path), adapter.source,
            ": a LoRA of peft needs adapter_config.json beside it, which says its scale");
    const nlohmann::json config = nlohmann::json::parse(read_file(path), nullptr, false);
    require(!config.is_discarded(), path, ": not JSON");
    return read_peft_adapter(adapter, config, path);
}

/// Writes the updates (lora_prefix) in `updates` into `folder` as peft reads them for a CLIPVisionModel: queries, keys
/// and values share one A unless they have their own. Returns the number of tensors.
inline std::size_t write_peft_adapter(const std::string& folder, const TensorMap& updates) {
    const std::optional<LoraConfig> form = lora_config(updates);
    require(form.has_value(), updates.source, ": holds no low-rank updates");
    TensorMap out;
    std::set<std::string> modules;
    for (const auto& [name, a] : updates.tensors) {
        if (!is_lora_name(name) || !name.ends_with(".A")) continue;
        const std::string update = name.substr(0, name.size() - 2);
        const std::string place = update.substr(std::string(lora_prefix).size());
        const std::size_t dot = place.find('.');
        const HostTensor& b = updates.at(update + ".B");
        for (const detail::PeftLayer& layer : detail::peft_layers()) {
            if (place.substr(dot + 1) != detail::named_map(layer.map)) continue;
            const Index parts = layer.map == BlockMap::attention_in ? 3 : 1, rows = b.shape[0] / parts;
            const Index own = a.shape[0] / form->rank;  // As: one for each part, or one for all
            const std::string key = detail::peft_prefix() + place.substr(0, dot + 1) + layer.name;
            const std::vector<float> first = a.to<float>(), second = b.to<float>();
            const Index a_from = own == 1 ? 0 : layer.part * form->rank * a.shape[1];
            out.tensors[key + ".lora_A.weight"] = make_tensor(
                std::vector<float>(first.begin() + a_from, first.begin() + a_from + form->rank * a.shape[1]),
                {form->rank, a.shape[1]});
            out.tensors[key + ".lora_B.weight"] =
                make_tensor(std::vector<float>(second.begin() + layer.part * rows * form->rank,
                                               second.begin() + (layer.part + 1) * rows * form->rank),
                            {rows, form->rank});
            const std::string module = layer.name;
            modules.insert(module.substr(module.rfind('.') + 1));
        }
    }
    make_directories(folder);
    out.metadata["format"] = "pt";
    write_safetensors(folder + "/adapter_model.safetensors", out);
    const nlohmann::json config = {{"peft_type", "LORA"},       {"r", form->rank},      {"lora_alpha", form->rank},
                                   {"target_modules", modules}, {"bias", "none"},       {"lora_dropout", 0.0},
                                   {"fan_in_fan_out", false},   {"task_type", nullptr}, {"inference_mode", true}};
    write_atomically(folder + "/adapter_config.json", json_text(config, 2) + "\n");
    return out.tensors.size();
}

}  // namespace promptkd
