// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/tower.hpp>
#include <promptkd/data/dataset.hpp>
#include <promptkd/format/digest.hpp>
#include <promptkd/format/sha256.hpp>

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace promptkd {

namespace detail {

/// SHA-256 of f(i) for every image of `data`, in order.
template <class F>
std::string sha256_of_images(const Dataset& data, const F& f) {
    Sha256 sum;
    for (Index i = 0; i < data.size(); ++i) sum.add_text(f(i));
    return sum.finish();
}

inline std::string sha256_of_texts(const std::vector<std::string>& texts) {
    Sha256 sum;
    for (const std::string& text : texts) sum.add_text(text);
    return sum.finish();
}

}  // namespace detail

/// What tells the images of a run from others: their number, names below `root`, labels, class names, sizes and
/// modification times; with `contents` also SHA-256 of all their bytes, which takes the time to read them.
inline nlohmann::json images_identity(const Dataset& data, const std::string& root, bool contents) {
    nlohmann::json id;
    id["number of images"] = data.size();
    id["class names"] = detail::sha256_of_texts(data.class_names);
    id["names of the images"] = detail::sha256_of_images(data, [&](Index i) {
        const std::string name = data.item_name(i);
        return name.rfind(root, 0) == 0 ? name.substr(root.size()) : name;
    });
    id["labels of the images"] = detail::sha256_of_images(data, [&](Index i) { return std::to_string(data.label(i)); });
    id["sizes of the images"] =
        detail::sha256_of_images(data, [&](Index i) { return std::to_string(data.version(i).size); });
    id["modification times of the images"] =
        detail::sha256_of_images(data, [&](Index i) { return std::to_string(data.version(i).modified); });
    if (contents)
        id["contents of the images"] = detail::sha256_of_images(data, [&](Index i) { return data.contents(i); });
    return id;
}

/// SHA-256 of what a model's weights or prompts hold, whatever file they came in: the tensors, and of the metadata what
/// the tensors do not tell.
inline std::string weights_identity(const TensorMap& map) {
    Sha256 sum;
    for (const char* key : {"vision_heads", "text_heads", "gelu", "eot", "learner"}) {
        const auto it = map.metadata.find(key);
        sum.add_text(it == map.metadata.end() ? "" : it->second);
    }
    for (const char* key : tower_entries)  // absent ones add nothing: identities of CLIP's own kind stay as they were
        if (map.metadata.count(key) != 0) sum.add_text(concat(key, "=", map.metadata.at(key)));
    for (const auto& [name, tensor] : map.tensors) {
        sum.add_text(concat(name, to_string(tensor.shape), name_of(tensor.dtype)));
        detail::add_bytes(sum, tensor);
    }
    require_intact_mappings();
    return sum.finish();
}

}  // namespace promptkd
