// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/hash.hpp>
#include <promptkd/io/safetensors.hpp>
#include <promptkd/train/evaluate.hpp>
#include <promptkd/train/targets.hpp>
#include <promptkd/train/training_loop.hpp>

#include <nlohmann/json.hpp>

#include <limits>

namespace promptkd {

/// What stored targets belong to, part by part; parts are compared by name.
using Fingerprint = nlohmann::ordered_json;

/// Number and order of the images (their names below `root`) and the pixels of some of them.
inline std::string images_fingerprint(const Dataset& data, const std::string& root) {
    Checksum sum;
    for (Index i = 0; i < data.size(); ++i) {
        const std::string name = data.item_name(i);
        sum.add(name.rfind(root, 0) == 0 ? name.substr(root.size()) : name);
    }
    Image image;
    for (Index k = 0; k < std::min<Index>(8, data.size()); ++k) {
        try {
            data.load(k * data.size() / 8 % data.size(), image);
            sum.add(image.pixels.data(), image.pixels.size());
        } catch (const Error&) {  // training skips it too
        }
    }
    return concat(data.size(), " images ", sum.text());
}

/// Names, shapes, types and bytes of all tensors.
inline std::string tensors_fingerprint(const TensorMap& map) {
    Checksum sum;
    for (const auto& [name, tensor] : map.tensors) {
        sum.add(concat(name, to_string(tensor.shape), name_of(tensor.dtype)));
        sum.add(tensor.bytes, tensor.size_bytes());
        detail::release_pages(tensor);
    }
    return sum.text();
}

/// The part of a fingerprint that says which views are seen. Without augmentation there is one view, whatever the seed.
inline void add_views(Fingerprint& print, const TrainingLoopConfig& config) {
    print["resolution"] = config.resolution;
    print["augmentation"] = to_string(config.augmentation);
    if (config.augmentation == Augmentation::none) return;
    print["seed of the views"] = config.view_seed.value_or(config.seed);
    print["views"] = config.fixed_views ? "fixed" : "new ones each epoch";
}

/// Throws Error naming the first part in which `now` is not what `stored` says; parts that this run knows nothing about
/// (a teacher that it does not load) are not compared.
inline void require_same_fingerprint(const Fingerprint& stored, const Fingerprint& now, const std::string& path) {
    for (const auto& [part, value] : now.items()) {
        const bool known = stored.is_object() && stored.contains(part);
        require(known && stored.at(part) == value, path, ": these targets were made for something else: the ", part,
                known ? concat(" (", stored.at(part).dump(), ") are not those of this run (", value.dump(), ")")
                      : concat(" (", value.dump(), " here) are not in the file"),
                "; write them again with promptkd teacher-logits");
    }
}

/// Views that a run of `config` sees of each image.
inline Index count_views(const TrainingLoopConfig& config) {
    return config.fixed_views || config.augmentation == Augmentation::none ? 1 : config.schedule.max_epoch;
}

/// The targets of every image of `data` in all the views that a run of `config` sees, computed in the batches of that
/// run, so that training from them repeats training with the teachers bit for bit. `progress(done, all)` may be empty.
template <Device D>
TargetTable compute_targets(D& device, LiveTeachers<D>& teachers, const Dataset& data, const TrainingLoopConfig& config,
                            const std::function<void(Index, Index)>& progress) {
    using T = typename D::Scalar;
    TargetTable table;
    table.views = count_views(config), table.images = data.size(), table.size = teachers.size();
    const Index row = table.size;
    std::vector<float> values(static_cast<std::size_t>(table.views * table.images * row),
                              std::numeric_limits<float>::quiet_NaN());
    LoaderOptions loading;
    loading.batch = config.batch, loading.resolution = config.resolution, loading.augmentation = config.augmentation;
    loading.seed = config.view_seed.value_or(config.seed), loading.threads = config.loader_threads,
    loading.warn = config.warn;
    BatchLoader loader(data, loading);
    ImageFeed<D> feed(device, config.batch, config.resolution);
    std::vector<T> host(static_cast<std::size_t>(config.batch * row));
    Index done = 0;
    for (Index view = 0; view < table.views; ++view) {
        const auto epoch = static_cast<std::uint32_t>(view);
        loader.start(config.shuffle ? shuffled(data.size(), config.seed, epoch) : in_order(data.size()), epoch);
        while (const Batch* batch = loader.next()) {
            const T* targets = teachers.targets(feed.upload(*batch), batch->size);
            device.download(host.data(), targets, static_cast<std::size_t>(batch->size * row) * sizeof(T));
            for (Index i = 0; i < batch->size; ++i)
                for (Index j = 0; j < row; ++j)
                    values[static_cast<std::size_t>(
                        (view * table.images + batch->indices[static_cast<std::size_t>(i)]) * row + j)] =
                        static_cast<float>(host[static_cast<std::size_t>(i * row + j)]);
            done += batch->size;
            if (progress) progress(done, table.views * table.images);
        }
    }
    table.values = make_tensor(std::move(values), {table.views, table.images, row});
    return table;
}

/// Targets in a file: with the class vectors that the student needs, and what they belong to.
struct StoredTargetsFile {
    bool features = false;  ///< normalised features instead of logits
    TargetTable table;
    HostTensor class_vectors;
    std::vector<std::string> class_names;
    Fingerprint fingerprint;
};

inline void write_targets(const std::string& path, const StoredTargetsFile& file) {
    TensorMap map;
    map.tensors["targets"] = file.table.values;
    map.tensors["class_vectors"] = file.class_vectors;
    map.metadata["format"] = "promptkd.targets";
    map.metadata["kind"] = file.features ? "features" : "logits";
    map.metadata["class_names"] = nlohmann::json(file.class_names).dump();
    map.metadata["fingerprint"] = file.fingerprint.dump();
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
            ": not a file of stored targets (metadata 'format' is not 'promptkd.targets'); promptkd teacher-logits "
            "writes them");
    StoredTargetsFile file;
    file.features = text("kind") == "features";
    file.fingerprint = Fingerprint::parse(text("fingerprint"), nullptr, false);
    const auto names = nlohmann::json::parse(text("class_names"), nullptr, false);
    require(file.fingerprint.is_object() && names.is_array() && !names.empty(), path, ": damaged metadata");
    for (const auto& name : names) {
        require(name.is_string(), path, ": damaged metadata: a class name is not a text");
        file.class_names.push_back(name.get<std::string>());
    }
    const HostTensor& targets = map.at("targets");
    require(targets.shape.size() == 3 && targets.count() > 0 && is_floating(targets.dtype), path,
            ": 'targets' has shape ", to_string(targets.shape), ", expected (views, images, values)");
    file.table.views = targets.shape[0], file.table.images = targets.shape[1], file.table.size = targets.shape[2];
    const bool in_place =
        targets.dtype == DType::f32 && reinterpret_cast<std::uintptr_t>(targets.bytes) % sizeof(float) == 0;
    file.table.values = in_place ? targets : make_tensor(targets.to<float>(), targets.shape);
    file.class_vectors = map.at("class_vectors");
    require(file.features || file.table.size == static_cast<Index>(file.class_names.size()), path, ": logits of ",
            file.table.size, " classes, but ", file.class_names.size(), " class names");
    return file;
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
