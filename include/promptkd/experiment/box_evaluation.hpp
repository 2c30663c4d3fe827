// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/box_files.hpp>
#include <promptkd/evaluate/dense/average_precision.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace promptkd {

/// Average precision of detections, class by class.
struct BoxEvaluation {
    std::vector<std::string> class_names;  ///< the categories of the true boxes
    AveragePrecision precision;            ///< of each
};

namespace detail {

/// The labels of COCO's ids: their places in rising order.
template <class Ids>
std::map<std::int64_t, Index> places_of(const Ids& ids) {
    std::map<std::int64_t, Index> places;
    for (const std::int64_t id : ids) places[id] = 0;
    Index next = 0;
    for (auto& [id, place] : places) place = next++;
    return places;
}

/// A box as it is measured. Throws Error, whose text begins with `where`, for one that ends before it begins.
inline Box measured_box(const std::array<double, 4>& edges, const std::string& where) {
    require(edges[2] >= edges[0] && edges[3] >= edges[1], where,
            "'bbox' has a side below 0; it is left, top, width, height");
    return {edges[0], edges[1], edges[2], edges[3]};
}

inline std::string file_name_of(const std::string& path) { return std::filesystem::path(path).filename().string(); }

/// Throws Error where a record calls its image or its category by another name than the annotations do: it numbers them
/// in another way.
inline void require_same(const JsonRecord& one, const char* key, const std::string& name, const std::string& truth) {
    if (!one.has(key)) return;
    const std::string own = std::string(key) == "file_name" ? file_name_of(one.text(key)) : one.text(key);
    require(own == name, one.where(), "its ", key, " is '", own, "', but that of this id is '", name, "' in ", truth,
            ": the ids are others; detect --boxes takes those of the annotations");
}

}  // namespace detail

/// COCO's results (records with image_id, category_id, bbox and score) in the file `results` against the true boxes of
/// COCO's annotations in the file `truth`. Throws Error for files of another kind, and naming the record for images and
/// categories that the annotations do not list.
inline BoxEvaluation evaluate_boxes(const std::string& results, const std::string& truth) {
    const BoxFile file = read_boxes(truth);
    require(!file.categories.empty(), truth,
            ": true boxes come in COCO's layout, with images, annotations and categories");
    std::vector<std::int64_t> ids;
    for (const auto& [name, id] : file.categories) ids.push_back(id);
    const std::map<std::int64_t, Index> labels = detail::places_of(ids), images = detail::places_of(file.ids);
    BoxEvaluation out;
    out.class_names.resize(ids.size());
    for (const auto& [name, id] : file.categories) out.class_names[static_cast<std::size_t>(labels.at(id))] = name;
    std::map<std::int64_t, std::string> files;
    for (std::size_t i = 0; i < file.images.size(); ++i) files[file.ids[i]] = file.images[i];
    std::vector<TrueBox> boxes;
    for (std::size_t i = 0; i < file.images.size(); ++i)
        for (const FileBox& b : file.boxes[i]) {
            const std::string where = concat(truth, ": a box of image ", file.ids[i], ": ");
            require(!b.label.empty(), where, "has no 'category_id'");
            boxes.push_back({images.at(file.ids[i]), detail::measured_box(b.edges, where),
                             labels.at(file.categories.at(b.label)), b.crowd});
        }
    require(std::any_of(boxes.begin(), boxes.end(), [](const TrueBox& one) { return !one.crowd; }), truth,
            ": holds no true box");
    const nlohmann::json list = nlohmann::json::parse(read_file(results), nullptr, false);
    require(list.is_array(), results, ": COCO's results are a JSON list of records");
    std::vector<Detection> found;
    for (std::size_t i = 0; i < list.size(); ++i) {
        const JsonRecord one(list[i], concat(results, ": [", i, "]: "));
        const std::int64_t image = one.whole("image_id"), category = one.whole("category_id");
        require(images.count(image) != 0, one.where(), "image ", image, " is not in ", truth);
        require(labels.count(category) != 0, one.where(), "category ", category, " is not in ", truth);
        detail::require_same(one, "file_name", detail::file_name_of(files.at(image)), truth);
        detail::require_same(one, "category", out.class_names[static_cast<std::size_t>(labels.at(category))], truth);
        found.push_back({images.at(image), detail::measured_box(detail::coco_edges(one), one.where()),
                         labels.at(category), one.number("score")});
    }
    out.precision = average_precision(found, boxes, static_cast<Index>(out.class_names.size()));
    return out;
}

}  // namespace promptkd
