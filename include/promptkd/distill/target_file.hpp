// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/stored_targets.hpp>
#include <promptkd/format/finite.hpp>
#include <promptkd/format/json_text.hpp>
#include <promptkd/format/safetensors.hpp>
#include <promptkd/train/checkpoint.hpp>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace promptkd {

/// Targets in a file: with the class vectors that the student needs, and what they belong to.
struct StoredTargetsFile {
    bool features = false;                 ///< normalised features instead of logits
    TargetTable table;                     ///< the targets
    HostTensor class_vectors;              ///< (N, e), what the logits were computed with
    std::vector<std::string> class_names;  ///< N
    Fingerprint fingerprint;               ///< of everything that the targets depend on
    Slice range;                           ///< of a shard: the images that `table` has rows of; else empty
    nlohmann::json inputs;                 ///< what tells their images from others; null: of an earlier version
};

/// Writes the file, all or nothing. Throws Error when it cannot be written.
inline void write_targets(const std::string& path, const StoredTargetsFile& file) {
    TensorMap map;
    map.tensors["targets"] = file.table.values;
    map.tensors["class_vectors"] = file.class_vectors;
    map.metadata["format"] = "promptkd.targets";
    map.metadata["kind"] = file.features ? "features" : "logits";
    map.metadata["class_names"] = json_text(nlohmann::json(file.class_names));
    map.metadata["fingerprint"] = json_text(file.fingerprint);
    if (file.range.count > 0) map.metadata["first_image"] = std::to_string(file.range.first);
    if (!file.inputs.is_null()) map.metadata["inputs"] = json_text(file.inputs);
    write_safetensors(path, map);
}

/// Throws Error when `path` is not a file of write_targets().
inline StoredTargetsFile read_targets(const std::string& path) {
    const TensorMap map = read_safetensors(path);
    const auto text = [&](const char* key) {
        const auto it = map.metadata.find(key);
        return it == map.metadata.end() ? std::string() : it->second;
    };
    require(text("format") == "promptkd.targets", path,
            ": not a file of stored targets (metadata 'format' is not 'promptkd.targets')");
    StoredTargetsFile file;
    file.features = text("kind") == "features";
    file.fingerprint = Fingerprint::parse(text("fingerprint"), nullptr, false);
    if (!text("inputs").empty()) file.inputs = nlohmann::json::parse(text("inputs"), nullptr, false);
    const auto names = nlohmann::json::parse(text("class_names"), nullptr, false);
    require(file.fingerprint.is_object() && names.is_array() && !names.empty() && !file.inputs.is_discarded(), path,
            ": damaged metadata");
    for (const auto& name : names) {
        require(name.is_string(), path, ": damaged metadata: a class name is not a text");
        file.class_names.push_back(name.get<std::string>());
    }
    const HostTensor& targets = map.at("targets");
    require(targets.shape.size() == 3 && targets.count() > 0 && is_floating(targets.dtype), path,
            ": 'targets' has shape ", to_string(targets.shape), ", expected (views, images, values)");
    file.table.views = targets.shape[0];
    file.table.images = targets.shape[1];
    file.table.size = targets.shape[2];
    if (map.metadata.count("first_image") != 0) {
        const auto first = nlohmann::json::parse(text("first_image"), nullptr, false);
        require(first.is_number_unsigned(), path, ": damaged metadata");
        file.range = {first.get<Index>(), file.table.images};
    }
    const bool in_place =
        targets.dtype == DType::f32 && reinterpret_cast<std::uintptr_t>(targets.bytes) % sizeof(float) == 0;
    file.table.values = in_place ? targets : make_tensor(targets.to<float>(), targets.shape);
    file.class_vectors = map.at("class_vectors");
    require_finite(file.class_vectors, "class_vectors", path);
    require(file.features || file.table.size == static_cast<Index>(file.class_names.size()), path, ": logits of ",
            file.table.size, " classes, but ", file.class_names.size(), " class names");
    return file;
}

/// The targets of all images from the files of their shards, whose ranges follow one another. Throws Error for shards
/// of different runs, and for images that are missing or there twice.
inline StoredTargetsFile merge_targets(const std::vector<std::string>& paths) {
    std::vector<StoredTargetsFile> shards;
    Index images = 0;
    for (const std::string& path : paths) {
        shards.push_back(read_targets(path));
        const StoredTargetsFile &first = shards.front(), &one = shards.back();
        require(one.range.count > 0, path, ": not the targets of a shard, but of all images");
        require(one.fingerprint == first.fingerprint && one.features == first.features &&
                    one.table.size == first.table.size && one.table.views == first.table.views &&
                    one.class_names == first.class_names,
                path, ": belongs to another run than ", paths[0]);
        if (!first.inputs.is_null() && !one.inputs.is_null())
            require_same_inputs(first.inputs, one.inputs, path, "first shard", "make this shard again");
        require(one.range.first >= images, path, ": images ", one.range.first, " to ", images - 1,
                " are in another shard too");
        require(one.range.first == images, path, ": images ", images, " to ", one.range.first - 1, " are missing");
        images += one.range.count;
    }
    StoredTargetsFile all = shards.at(0);
    std::vector<float> values;
    values.reserve(static_cast<std::size_t>(all.table.views * images * all.table.size));
    for (Index view = 0; view < all.table.views; ++view)
        for (const StoredTargetsFile& one : shards)
            values.insert(values.end(), one.table.row(view, 0),
                          one.table.row(view, 0) + one.table.images * one.table.size);
    all.range = {};
    all.table.images = images;
    all.table.values = make_tensor(std::move(values), {all.table.views, images, all.table.size});
    return all;
}

/// Throws Error unless `names` are the file's class names, naming the first difference.
inline void require_same_names(const StoredTargetsFile& file, const std::vector<std::string>& names,
                               const std::string& path) {
    const std::size_t stored = file.class_names.size();
    require(stored == names.size(), path, ": these targets were made for other class names: ", stored,
            " classes in the file, ", names.size(), " in this run");
    for (std::size_t i = 0; i < stored; ++i)
        require(file.class_names[i] == names[i], path, ": these targets were made for other class names: class ", i + 1,
                " is '", file.class_names[i], "' in the file and '", names[i], "' in this run");
}

}  // namespace promptkd
