// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/box_files.hpp>
#include <promptkd/evaluate/dense/average_precision.hpp>

#include <nlohmann/json.hpp>

#include <map>
#include <string>
#include <vector>

namespace promptkd {

/// Average precision of detections, class by class.
struct BoxEvaluation {
    std::vector<std::string> class_names;  ///< the categories of the true boxes
    AveragePrecision precision;            ///< of each
};

/// COCO's results (records with image_id, category_id, bbox and score) in the file `results` against the true boxes of
/// COCO's annotations in the file `truth`. Throws Error for files of another kind and for images and categories that
/// the annotations do not list.
inline BoxEvaluation evaluate_boxes(const std::string& results, const std::string& truth) {
    const BoxFile file = read_boxes(truth);
    require(!file.categories.empty(), truth,
            ": true boxes come in COCO's layout, with images, annotations and categories");
    BoxEvaluation out;
    std::map<std::string, Index> labels;
    std::map<std::int64_t, Index> of_category, of_image;
    for (const auto& [name, id] : file.categories) {
        of_category[id] = 0;
        labels[name] = 0;
    }
    for (auto& [id, label] : of_category) {  // in the order of the ids
        label = static_cast<Index>(out.class_names.size());
        for (const auto& [name, category] : file.categories)
            if (category == id) {
                out.class_names.push_back(name);
                labels[name] = label;
            }
    }
    std::vector<Detection> boxes, found;
    for (std::size_t i = 0; i < file.images.size(); ++i) {
        of_image[file.ids[i]] = static_cast<Index>(i);
        for (const FileBox& b : file.boxes[i])
            boxes.push_back(
                {static_cast<Index>(i), {b.edges[0], b.edges[1], b.edges[2], b.edges[3]}, labels[b.label], 1});
    }
    const nlohmann::json list = nlohmann::json::parse(read_file(results), nullptr, false);
    require(list.is_array(), results, ": COCO's results are a JSON list of records");
    try {
        for (const auto& one : list) {
            const auto image = one.at("image_id").get<std::int64_t>(),
                       category = one.at("category_id").get<std::int64_t>();
            require(of_image.count(image) != 0, results, ": image ", image, " is not in ", truth);
            require(of_category.count(category) != 0, results, ": category ", category, " is not in ", truth);
            const auto b = detail::four_numbers(one.at("bbox"), results);
            found.push_back({of_image[image],
                             {b[0], b[1], b[0] + b[2], b[1] + b[3]},
                             of_category[category],
                             one.at("score").get<double>()});
        }
    } catch (const nlohmann::json::exception& error) {
        fail(results, ": not COCO's results: ", error.what());
    }
    out.precision = average_precision(found, boxes, static_cast<Index>(out.class_names.size()));
    return out;
}

}  // namespace promptkd
