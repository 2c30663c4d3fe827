// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/table.hpp>
#include <promptkd/format/file.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// A box in a file: left, top, right, bottom in pixels, and what else it says.
struct FileBox {
    std::array<double, 4> edges{0, 0, 0, 0};  ///< left, top, right, bottom
    std::string label;                        ///< name of its class; empty: none
    double score = 1;                         ///< how sure it is
    std::int64_t id = 0;                      ///< of COCO's image
};

/// Boxes of images, by the images' paths in the order of the file.
struct BoxFile {
    std::vector<std::string> images;                 ///< paths, relative ones completed
    std::vector<std::vector<FileBox>> boxes;         ///< of each image
    std::vector<std::int64_t> ids;                   ///< of each image: COCO's id, else its number
    std::map<std::string, std::int64_t> categories;  ///< COCO's ids of class names; empty: none
};

namespace detail {

/// Collects boxes by image.
class BoxCollector {
public:
    BoxCollector(std::string source, std::string folder) : source_(std::move(source)), folder_(std::move(folder)) {}

    /// The number of an image that is called so.
    std::size_t image(const std::string& name, std::int64_t id) {
        const auto [at, fresh] = numbers_.try_emplace(name, file_.images.size());
        if (fresh) {
            const std::filesystem::path path(name);
            file_.images.push_back(path.is_absolute() ? name : folder_ + "/" + name);
            file_.boxes.emplace_back();
            file_.ids.push_back(id);
        }
        return at->second;
    }
    std::size_t image(const std::string& name) { return image(name, static_cast<std::int64_t>(file_.images.size())); }
    void add(std::size_t image, FileBox box) { file_.boxes[image].push_back(std::move(box)); }
    BoxFile take() {
        require(!file_.images.empty(), source_, ": holds no image");
        return std::move(file_);
    }
    BoxFile& file() { return file_; }

private:
    std::string source_, folder_;
    BoxFile file_;
    std::map<std::string, std::size_t> numbers_;
};

inline std::array<double, 4> four_numbers(const nlohmann::json& list, const std::string& source) {
    require(list.is_array() && list.size() == 4, source, ": a box is a list of four numbers");
    std::array<double, 4> out{};
    for (std::size_t i = 0; i < 4; ++i) {
        require(list[i].is_number(), source, ": a box is a list of four numbers");
        out[i] = list[i].get<double>();
    }
    return out;
}

/// COCO's annotations: images with ids, boxes left, top, width, height.
inline void read_coco(const nlohmann::json& json, const std::string& source, BoxCollector& out) {
    std::map<std::int64_t, std::size_t> images;
    std::map<std::int64_t, std::string> names;
    for (const auto& one : json.at("images")) {
        const auto id = one.at("id").get<std::int64_t>();
        images[id] = out.image(one.at("file_name").get<std::string>(), id);
    }
    if (json.contains("categories"))
        for (const auto& one : json.at("categories")) {
            names[one.at("id").get<std::int64_t>()] = one.at("name").get<std::string>();
            out.file().categories[one.at("name").get<std::string>()] = one.at("id").get<std::int64_t>();
        }
    if (!json.contains("annotations")) return;
    for (const auto& one : json.at("annotations")) {
        const auto id = one.at("image_id").get<std::int64_t>();
        require(images.count(id) != 0, source, ": a box is in image ", id, ", which is not listed");
        FileBox box;
        box.edges = four_numbers(one.at("bbox"), source);
        box.edges[2] += box.edges[0];
        box.edges[3] += box.edges[1];
        box.score = one.value("score", 1.0);
        if (one.contains("category_id")) {
            const auto category = one.at("category_id").get<std::int64_t>();
            require(names.count(category) != 0, source, ": a box is of category ", category, ", which is not listed");
            box.label = names.at(category);
        }
        out.add(images.at(id), std::move(box));
    }
}

/// Records {"file": …, "boxes": [[left, top, right, bottom], …], "labels": […], "scores": […]}.
inline void read_box_records(const nlohmann::json& json, const std::string& source, BoxCollector& out) {
    for (const auto& one : json) {
        require(one.is_object() && one.contains("file") && one.contains("boxes"), source,
                ": expected records with 'file' and 'boxes', or COCO's 'images' and 'annotations'");
        const std::size_t image = out.image(one.at("file").get<std::string>());
        const auto& boxes = one.at("boxes");
        const nlohmann::json none = nlohmann::json::array();
        const auto &labels = one.contains("labels") ? one.at("labels") : none,
                   &scores = one.contains("scores") ? one.at("scores") : none;
        require(labels.empty() || labels.size() == boxes.size(), source, ": ", labels.size(), " labels for ",
                boxes.size(), " boxes");
        require(scores.empty() || scores.size() == boxes.size(), source, ": ", scores.size(), " scores for ",
                boxes.size(), " boxes");
        for (std::size_t i = 0; i < boxes.size(); ++i) {
            FileBox box;
            box.edges = four_numbers(boxes[i], source);
            if (!labels.empty()) box.label = labels[i].get<std::string>();
            if (!scores.empty()) box.score = scores[i].get<double>();
            out.add(image, std::move(box));
        }
    }
}

/// A table with the columns file, x0, y0, x1, y1, and perhaps label and score.
inline void read_box_table(const std::string& path, BoxCollector& out) {
    const auto header = [](const std::vector<std::string>& cells) {
        return std::find(cells.begin(), cells.end(), "x0") != cells.end();
    };
    const Table table = read_table(path, {header, [](const std::vector<std::string>&) { return true; }});
    const auto column = [&](const char* name) -> std::ptrdiff_t {
        const auto found = std::find(table.columns.begin(), table.columns.end(), name);
        return found == table.columns.end() ? -1 : found - table.columns.begin();
    };
    const std::ptrdiff_t file = column("file"), label = column("label"), score = column("score");
    const std::array<std::ptrdiff_t, 4> edges{column("x0"), column("y0"), column("x1"), column("y1")};
    require(file >= 0 && *std::min_element(edges.begin(), edges.end()) >= 0, path,
            ": a table of boxes has the columns file, x0, y0, x1, y1");
    const auto number = [&](const std::string& text) {
        char* end = nullptr;
        const double value = std::strtod(text.c_str(), &end);
        require(!text.empty() && *end == '\0', path, ": '", text, "' is no number");
        return value;
    };
    for (const auto& row : table.rows) {
        const auto cell = [&](std::ptrdiff_t i) { return row.cells.at(static_cast<std::size_t>(i)).value_or(""); };
        FileBox box;
        for (std::size_t i = 0; i < 4; ++i) box.edges[i] = number(cell(edges[i]));
        if (label >= 0) box.label = cell(label);
        if (score >= 0 && !cell(score).empty()) box.score = number(cell(score));
        out.add(out.image(cell(file)), std::move(box));
    }
}

}  // namespace detail

/// The boxes in a file: COCO's annotations, JSON records or a table (.csv). Relative paths of images stand below
/// `folder`, or with an empty one beside the file. Throws Error naming the file and what is wrong with it.
inline BoxFile read_boxes(const std::string& path, const std::string& folder = "") {
    const std::string parent = std::filesystem::path(path).parent_path().string();
    detail::BoxCollector out(path, !folder.empty() ? folder : parent.empty() ? "." : parent);
    if (path.ends_with(".csv") || path.ends_with(".tsv")) {
        detail::read_box_table(path, out);
        return out.take();
    }
    const nlohmann::json json = nlohmann::json::parse(read_file(path), nullptr, false);
    require(!json.is_discarded(), path, ": not JSON, nor a table called .csv");
    try {
        if (json.is_object() && json.contains("images"))
            detail::read_coco(json, path, out);
        else
            detail::read_box_records(json.is_array() ? json : nlohmann::json::array({json}), path, out);
    } catch (const nlohmann::json::exception& error) {
        fail(path, ": not a file of boxes: ", error.what());
    }
    return out.take();
}

}  // namespace promptkd
