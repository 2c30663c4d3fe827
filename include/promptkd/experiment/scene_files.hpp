// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/scenes.hpp>
#include <promptkd/experiment/observer.hpp>
#include <promptkd/format/json_text.hpp>
#include <promptkd/format/label_png.hpp>

#include <nlohmann/json.hpp>

#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Scenes 0 … count − 1 as files.
struct SceneFilesSpec {
    SceneSpec scenes;    ///< what they are
    Index count = 500;   ///< how many
    std::string folder;  ///< where they go
};

namespace detail {

inline void write_bytes_as_png(const std::string& path, const Scene& scene, const std::vector<std::uint8_t>& bytes,
                               LabelStorage storage) {
    LabelMap map(scene.height, scene.width);
    map.labels = bytes;
    write_labels(path, map, storage);
}

}  // namespace detail

/// Renders scenes of a data set: scene{i}.png (grey), mask{i}.png (0, or class + 1, VOC's palette) and boxes.json, the
/// boxes in COCO's layout. The same numbers give the same files. Throws Error where scenes cannot be made.
inline void run(const SceneFilesSpec& spec, const Dataset& data, Observer& observer = silent_observer()) {
    require_scenes(spec.scenes, data);
    make_directories(spec.folder);
    nlohmann::json boxes = {{"images", nlohmann::json::array()},
                            {"annotations", nlohmann::json::array()},
                            {"categories", nlohmann::json::array()}};
    for (Index c = 0; c < data.classes(); ++c)
        boxes["categories"].push_back({{"id", c + 1}, {"name", data.class_names[static_cast<std::size_t>(c)]}});
    for (Index i = 0; i < spec.count; ++i) {
        const Scene scene = render_scene(spec.scenes, data, i);
        const std::string picture = concat("scene", i, ".png");
        detail::write_bytes_as_png(spec.folder + "/" + picture, scene, scene.grey, LabelStorage::grey);
        detail::write_bytes_as_png(concat(spec.folder, "/mask", i, ".png"), scene, scene.mask, LabelStorage::palette);
        boxes["images"].push_back(
            {{"id", i}, {"file_name", picture}, {"width", scene.width}, {"height", scene.height}});
        for (std::size_t k = 0; k < scene.boxes.size(); ++k) {
            const auto& b = scene.boxes[k];
            boxes["annotations"].push_back({{"id", boxes["annotations"].size() + 1},
                                            {"image_id", i},
                                            {"category_id", scene.labels[k] + 1},
                                            {"bbox", {b[0], b[1], b[2] - b[0], b[3] - b[1]}},
                                            {"area", (b[2] - b[0]) * (b[3] - b[1])},
                                            {"iscrowd", 0}});
        }
        observer.on_progress({"render", "scenes", i + 1, spec.count, 0, ""});
    }
    write_atomically(spec.folder + "/boxes.json", json_text(boxes) + "\n");
}

}  // namespace promptkd
