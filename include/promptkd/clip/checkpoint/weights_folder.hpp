// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>
#include <promptkd/format/file.hpp>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace promptkd {

/// Whether `path` is a folder.
inline bool is_folder(const std::string& path) {
    std::error_code code;
    return std::filesystem::is_directory(path, code);
}

namespace detail {

inline bool is_file(const std::string& path) {
    std::error_code code;
    return std::filesystem::is_regular_file(path, code);
}

/// JSON files that may describe the model in `source` (a file or a folder), best first.
inline std::vector<std::string> config_candidates(const std::string& source, bool huggingface) {
    const std::filesystem::path path(source);
    const std::filesystem::path folder = is_folder(source) ? path : path.parent_path();
    std::vector<std::string> found;
    const auto offer = [&](const std::filesystem::path& file) {
        if (is_file(file.string())) found.push_back(file.string());
    };
    if (!is_folder(source)) offer(std::filesystem::path(path).replace_extension(".json"));
    offer(folder / (huggingface ? "config.json" : "open_clip_config.json"));
    return found;
}

/// The shards that an index file lists: file name -> tensors expected in it.
inline std::map<std::string, std::set<std::string>> read_shard_index(const std::string& path) {
    const nlohmann::json index = nlohmann::json::parse(read_file(path, std::size_t{64} << 20), nullptr, false);
    require(index.is_object() && index.contains("weight_map") && index["weight_map"].is_object(), path,
            ": not an index of shards (no 'weight_map')");
    std::map<std::string, std::set<std::string>> shards;
    for (const auto& item : index["weight_map"].items()) {
        require(item.value().is_string(), path, ": the file of tensor '", item.key(), "' is not a text");
        const std::string file = item.value().get<std::string>();
        require(!file.empty() && file[0] != '.' && file.find('/') == std::string::npos &&
                    file.find('\\') == std::string::npos && file.find('\0') == std::string::npos,
                path, ": the shard name '", file, "' leaves the folder");
        shards[file].insert(item.key());
    }
    require(!shards.empty(), path, ": lists no tensors");
    return shards;
}

template <class Read>
TensorMap read_shards(const std::string& folder, const std::string& index, const Read& read) {
    TensorMap all;
    for (const auto& [file, expected] : read_shard_index(folder + "/" + index)) {
        TensorMap part = read(folder + "/" + file);
        for (const std::string& name : expected)
            require(part.contains(name), folder, "/", file, ": tensor '", name, "' is missing, but ", index,
                    " says that it is here");
        for (auto& [name, tensor] : part.tensors)
            require(all.tensors.emplace(name, std::move(tensor)).second, folder, "/", file, ": tensor '", name,
                    "' is in two shards");
        all.metadata.merge(part.metadata);
    }
    return all;
}

/// The number behind the last '-' of "model.pth.tar-50", −1 where there is none.
inline long epoch_in_name(const std::string& name) {
    const std::size_t dash = name.rfind('-');
    const std::string digits = dash == std::string::npos ? "" : name.substr(dash + 1);
    const bool number =
        !digits.empty() && digits.size() < 9 && digits.find_first_not_of("0123456789") == std::string::npos;
    return number ? std::stol(digits) : -1;
}

/// The checkpoint of the highest epoch in a folder of the published trainers ("model.pth.tar-50"), else its best one;
/// empty where it holds none.
inline std::string best_checkpoint(const std::filesystem::path& folder) {
    std::string best;
    long epoch = -2;
    std::error_code code;
    for (std::filesystem::directory_iterator it(folder, code); !code && it != std::filesystem::directory_iterator();
         it.increment(code)) {
        const std::string name = it->path().filename().string();
        const bool model = name.rfind("model.pth.tar", 0) == 0 || name == "model-best.pth.tar";
        if (!model || !is_file(it->path().string()) || epoch_in_name(name) <= epoch) continue;
        epoch = epoch_in_name(name);
        best = it->path().string();
    }
    return best;
}

/// The file that holds what a run left in `folder`: a student's bundle, learned prompts, or a published trainer's
/// checkpoint, in the folder itself or in one folder below it (ours: in that of a seed). Throws Error where several
/// fit, naming them.
inline std::string run_file(const std::string& folder) {
    const std::filesystem::path root(folder);
    for (const char* name : {"bundle.safetensors", "prompts.safetensors"})
        if (is_file((root / name).string())) return (root / name).string();
    const std::string own = best_checkpoint(root);
    if (!own.empty()) return own;
    std::set<std::string> below;
    std::error_code code;
    for (std::filesystem::directory_iterator it(root, code); !code && it != std::filesystem::directory_iterator();
         it.increment(code)) {
        if (!is_folder(it->path().string())) continue;
        const bool of_a_seed = it->path().filename().string().rfind("seed", 0) == 0;
        for (const char* name : {"bundle.safetensors", "prompts.safetensors"})
            if (of_a_seed && is_file((it->path() / name).string())) below.insert((it->path() / name).string());
        const std::string checkpoint = best_checkpoint(it->path());
        if (!checkpoint.empty()) below.insert(checkpoint);
    }
    std::string all;
    for (const std::string& file : below) all += (all.empty() ? "" : ", ") + file;
    require(below.size() <= 1, folder, ": several runs in this folder; give one of ", all);
    return below.empty() ? "" : *below.begin();
}

}  // namespace detail

/// The tensors of a folder as Hugging Face's and open_clip's libraries write it, each file through `read(path)`: one
/// file of weights, or shards with their index; or of the folder of a run: its bundle, its prompts, or the checkpoint
/// of the highest epoch of a published trainer. Throws Error when there is none, a shard is missing, or its names leave
/// the folder.
template <class Read>
TensorMap read_weights_folder(const std::string& folder, const Read& read) {
    TensorMap map;
    for (const char* name :
         {"model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin"}) {
        const std::string path = folder + "/" + name, index = std::string(name) + ".index.json";
        if (detail::is_file(path))
            map = read(path);
        else if (detail::is_file(folder + "/" + index))
            map = detail::read_shards(folder, index, read);
        else
            continue;
        map.source = folder;
        return map;
    }
    const std::string file = detail::run_file(folder);
    if (!file.empty()) return read(file);
    require(!is_folder(folder + "/checkpoint"), folder,
            ": the folder of a run that has not ended (no bundle.safetensors, no prompts.safetensors); call it again");
    fail(folder,
         ": no weights in this folder (model.safetensors, pytorch_model.bin, an index of shards), and no run "
         "(bundle.safetensors, prompts.safetensors, model.pth.tar-N)");
}

}  // namespace promptkd
