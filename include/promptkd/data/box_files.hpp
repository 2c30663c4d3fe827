// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/json_record.hpp>
#include <promptkd/data/table.hpp>
#include <promptkd/format/file.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// A box in a file: left, top, right, bottom in pixels, and what else it says.
struct FileBox {
    std::array<double, 4> edges{0, 0, 0, 0};  ///< left, top, right, bottom
    std::string label;                        ///< name of its class; empty: none
    double score = 1;                         ///< how sure it is
    bool crowd = false;                       ///< a region of many objects (COCO's iscrowd)
};

/// Boxes of images, by the images' paths in the order of the file.
struct BoxFile {
    std::vector<std::string> images;                 ///< paths, relative ones completed
    std::vector<std::vector<FileBox>> boxes;         ///< of each image
    std::vector<std::int64_t> ids;                   ///< of each image: COCO's id, else its number
    bool has_ids = false;                            ///< whether the ids are COCO's
    std::map<std::string, std::int64_t> categories;  ///< COCO's ids of class names; empty: none
};

namespace detail {

/// Collects boxes by image.
class BoxCollector {
public:
    BoxCollector(std::string source, std::string folder) : source_(std::move(source)), folder_(std::move(folder)) {}

    /// The number of an image that is called so.
    std::size_t image(const std::string& name) {
        const auto known = numbers_.find(name);
        return known != numbers_.end() ? known->second : add_image(name, static_cast<std::int64_t>(numbers_.size()));
    }
    /// The number of a new image. Throws Error where there is one of this name.
    std::size_t add_image(const std::string& name, std::int64_t id) {
        const auto [at, fresh] = numbers_.try_emplace(name, file_.images.size());
        require(fresh, source_, ": two images are '", name, "'; each picture is listed once");
        const std::filesystem::path path(name);
        file_.images.push_back(path.is_absolute() ? name : folder_ + "/" + name);
        file_.boxes.emplace_back();
        file_.ids.push_back(id);
        return at->second;
    }
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

/// COCO's left, top, width and height as edges.
inline std::array<double, 4> coco_edges(const JsonRecord& record) {
    const std::array<double, 4> b = record.four_numbers("bbox");
    return {b[0], b[1], b[0] + b[2], b[1] + b[3]};
}

/// COCO's annotations: images with ids, boxes left, top, width, height. An id, a file and a category stand once.
class CocoReader {
public:
    CocoReader(const JsonRecord& json, BoxCollector& out) : out_(out) {
        out_.file().has_ids = true;
        json.for_each("images", [this](const JsonRecord& one) { add_image(one); });
        if (json.has("categories")) json.for_each("categories", [this](const JsonRecord& one) { add_category(one); });
        if (json.has("annotations")) json.for_each("annotations", [this](const JsonRecord& one) { add_box(one); });
    }

private:
    void add_image(const JsonRecord& one) {
        const std::int64_t id = one.whole("id");
        require(images_.count(id) == 0, one.where(), "the id ", id, " is that of another image");
        images_[id] = out_.add_image(one.text("file_name"), id);
    }

    void add_category(const JsonRecord& one) {
        const std::int64_t id = one.whole("id");
        const std::string name = one.text("name");
        require(names_.emplace(id, name).second, one.where(), "the id ", id, " is that of another category");
        require(out_.file().categories.emplace(name, id).second, one.where(), "another category is called '", name,
                "' too");
    }

    void add_box(const JsonRecord& one) {
        if (one.has("id"))
            require(ids_.insert(one.whole("id")).second, one.where(), "the id ", one.whole("id"),
                    " is that of another box");
        const std::int64_t id = one.whole("image_id");
        require(images_.count(id) != 0, one.where(), "it is in image ", id, ", which is not listed");
        FileBox box;
        box.edges = coco_edges(one);
        if (one.has("score")) box.score = one.number("score");
        if (one.has("iscrowd"))
            box.crowd = one.at("iscrowd").is_boolean() ? one.at("iscrowd").get<bool>() : one.whole("iscrowd") != 0;
        if (one.has("category_id") && !names_.empty()) {  // a file of proposals need not list any
            const std::int64_t category = one.whole("category_id");
            require(names_.count(category) != 0, one.where(), "it is of category ", category, ", which is not listed");
            box.label = names_.at(category);
        }
        out_.add(images_.at(id), std::move(box));
    }

    BoxCollector& out_;
    std::map<std::int64_t, std::size_t> images_;
    std::map<std::int64_t, std::string> names_;
    std::set<std::int64_t> ids_;
};

/// A record {"file": …, "boxes": [[left, top, right, bottom], …], "labels": […], "scores": […]}.
inline void read_box_record(const JsonRecord& one, BoxCollector& out) {
    require(one.has("file") && one.has("boxes"), one.where(),
            "expected records with 'file' and 'boxes', or COCO's 'images' and 'annotations'");
    const std::size_t image = out.image(one.text("file"));
    const nlohmann::json& boxes = one.list("boxes");
    const auto beside = [&](const char* key) -> const nlohmann::json* {
        if (!one.has(key) || one.list(key).empty()) return nullptr;
        require(one.list(key).size() == boxes.size(), one.where(), one.list(key).size(), " ", key, " for ",
                boxes.size(), " boxes");
        return &one.list(key);
    };
    const nlohmann::json *labels = beside("labels"), *scores = beside("scores");
    for (std::size_t i = 0; i < boxes.size(); ++i) {
        FileBox box;
        box.edges = one.four_numbers(boxes[i], concat("boxes[", i, "]"));
        if (labels) {
            require((*labels)[i].is_string(), one.where(), "'labels' are names of classes");
            box.label = (*labels)[i].get<std::string>();
        }
        if (scores) {
            require((*scores)[i].is_number(), one.where(), "'scores' are numbers");
            box.score = (*scores)[i].get<double>();
        }
        out.add(image, std::move(box));
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
    for (const TableRow& row : table.rows) {
        const auto cell = [&](std::ptrdiff_t i) { return row.cells.at(static_cast<std::size_t>(i)).value_or(""); };
        const auto number = [&](std::ptrdiff_t i) {
            const std::string text = cell(i);
            char* end = nullptr;
            const double value = std::strtod(text.c_str(), &end);
            require(!text.empty() && *end == '\0' && std::isfinite(value), table.where(row), "'", text, "' in column '",
                    table.columns[static_cast<std::size_t>(i)], "' is no number");
            return value;
        };
        require(!cell(file).empty(), table.where(row), "the file has no name");
        FileBox box;
        for (std::size_t i = 0; i < 4; ++i) box.edges[i] = number(edges[i]);
        if (label >= 0) box.label = cell(label);
        if (score >= 0 && !cell(score).empty()) box.score = number(score);
        out.add(out.image(cell(file)), std::move(box));
    }
}

}  // namespace detail

/// The boxes in a file: COCO's annotations, JSON records or a table (.csv). Relative paths of images stand below
/// `folder`, or with an empty one beside the file. Throws Error naming the file, the place and what is wrong there.
inline BoxFile read_boxes(const std::string& path, const std::string& folder = "") {
    const std::string parent = std::filesystem::path(path).parent_path().string();
    detail::BoxCollector out(path, !folder.empty() ? folder : parent.empty() ? "." : parent);
    if (path.ends_with(".csv") || path.ends_with(".tsv")) {
        detail::read_box_table(path, out);
        return out.take();
    }
    const nlohmann::json json = nlohmann::json::parse(read_file(path), nullptr, false);
    require(!json.is_discarded(), path, ": not JSON, nor a table called .csv");
    if (json.is_array()) {
        for (std::size_t i = 0; i < json.size(); ++i)
            detail::read_box_record(JsonRecord(json[i], concat(path, ": [", i, "]: ")), out);
        return out.take();
    }
    const JsonRecord whole(json, path + ": ");
    if (whole.has("images"))
        detail::CocoReader(whole, out);
    else
        detail::read_box_record(whole, out);
    return out.take();
}

}  // namespace promptkd
