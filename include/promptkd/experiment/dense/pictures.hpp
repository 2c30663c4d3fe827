// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/box_files.hpp>
#include <promptkd/data/image_inputs.hpp>
#include <promptkd/data/mask_layouts.hpp>
#include <promptkd/evaluate/dense/components.hpp>
#include <promptkd/experiment/dense/spec.hpp>
#include <promptkd/format/label_png.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

namespace detail {

/// The pictures in the folder of a layout, and where their masks are to be.
inline std::vector<MaskedImage> pictures_of(const std::string& root, const MaskLayout& layout) {
    std::vector<MaskedImage> out;
    for (const std::string& stem : stems_below(root + "/" + layout.images, layout))
        out.push_back(masked_image(root, layout, stem));
    return out;
}

/// A path for comparisons.
inline std::string plain_path(const std::string& path) {
    return std::filesystem::absolute(path).lexically_normal().string();
}

}  // namespace detail

/// The pictures of a folder or a list as a data set without labels; of a folder in a layout with masks (mask_layouts)
/// its pictures alone. Throws Error where there is none.
inline Dataset open_pictures(const std::string& source, const std::vector<std::string>& class_names) {
    const std::string root = detail::without_kind(source);
    std::vector<std::string> files;
    if (const MaskLayout* layout = layout_below(root)) {
        for (MaskedImage& one : detail::pictures_of(root, *layout)) files.push_back(std::move(one.image));
    } else {
        files = image_inputs({source});
    }
    require(!files.empty(), "'", source, "' has no picture");
    Dataset data;
    data.name = root;
    data.class_names = class_names;
    for (std::size_t i = 0; i < files.size(); ++i) data.items.push_back({static_cast<Index>(i), -1});
    data.source = std::make_shared<ImageFiles>(std::move(files));
    return data;
}

/// The regions of pictures.
class RegionFinder {
public:
    /// Finds the mask or the boxes of each of `pictures`. Throws Error for a folder or a file that cannot be read, a
    /// mask that is missing, and where pictures of one name could take the mask or the boxes of each other.
    RegionFinder(const RegionOptions& options, const Dataset& pictures) : options_(options) {
        for (Index i = 0; i < pictures.size(); ++i) paths_.push_back(pictures.item_name(i));
        if (!options.masks.empty()) open_masks(pictures.name);
        if (!options.boxes.empty()) open_boxes();
    }

    /// Those of picture `i`. Throws Error for a mask of another size, and for a box outside the picture.
    std::vector<Component> find(Index i, const Image& picture) const {
        const auto at = static_cast<std::size_t>(i);
        if (!options_.masks.empty()) return of_mask(masks_.at(at), picture);
        if (!options_.boxes.empty()) return of_boxes(paths_.at(at), boxes_.at(at), picture);
        return connected_components(foreground_of(picture, options_.foreground), picture.height, picture.width,
                                    options_.least);
    }

    /// What there is when no picture has one.
    std::string nothing() const {
        if (!options_.masks.empty())
            return concat("no mask in '", options_.masks, "' has a component of ", options_.least,
                          " pixels with a label other than 0 and 255");
        if (!options_.boxes.empty()) return concat(options_.boxes, ": none of its boxes is of one of the pictures");
        return concat("no picture has a component of ", options_.least, " pixels above ", options_.foreground,
                      "; lower the threshold of the foreground, or give masks or boxes");
    }

    /// The mask of each picture, for the identity of a run; empty where regions come from elsewhere.
    const std::vector<std::string>& mask_files() const { return masks_; }

private:
    static std::string file_name(const std::string& path) { return std::filesystem::path(path).filename().string(); }

    /// Notes that `what` is of a picture. Throws Error where it is of another one already: their names do not tell them
    /// apart.
    void take(const std::string& what, const std::string& path) {
        const auto [at, fresh] = taken_.try_emplace(what, path);
        require(fresh, what, ": is of two pictures by its name, ", at->second, " and ", path,
                "; put it in a folder as the picture is");
    }

    /// Of a layout its own masks; else NAME.png in the folder of the picture below the masks, or beside all others.
    void open_masks(const std::string& root) {
        require(std::filesystem::is_directory(options_.masks), "'", options_.masks, "' is no folder of masks");
        std::map<std::string, std::string> own;
        if (const MaskLayout* layout = layout_below(options_.masks))
            for (const MaskedImage& one : detail::pictures_of(options_.masks, *layout))
                own[detail::plain_path(one.image)] = one.mask;
        for (const std::string& path : paths_) {
            const auto known = own.find(detail::plain_path(path));
            masks_.push_back(known != own.end() ? known->second : named_mask(path, root));
            require(std::filesystem::exists(masks_.back()), path, ": its mask '", masks_.back(), "' does not exist");
            take(masks_.back(), path);
        }
    }

    std::string named_mask(const std::string& path, const std::string& root) const {
        const std::filesystem::path below = std::filesystem::path(path).lexically_relative(root);
        const std::filesystem::path masks = options_.masks, name = std::filesystem::path(path).stem();
        const std::string beside = (masks / below.parent_path() / name).string() + ".png";
        const bool inside = !below.empty() && *below.begin() != "..";
        return inside && std::filesystem::exists(beside) ? beside : (masks / name).string() + ".png";
    }

    void open_boxes() {
        const BoxFile file = read_boxes(options_.boxes);
        std::map<std::string, std::size_t> by_path;
        std::map<std::string, std::vector<std::size_t>> by_name;
        for (std::size_t i = 0; i < file.images.size(); ++i) {
            by_path[detail::plain_path(file.images[i])] = i;
            by_name[file_name(file.images[i])].push_back(i);
        }
        for (const std::string& path : paths_) {
            boxes_.emplace_back();
            const auto known = by_path.find(detail::plain_path(path));
            const auto named = by_name.find(file_name(path));
            if (known == by_path.end() && (named == by_name.end() || named->second.size() > 1)) continue;
            const std::size_t i = known != by_path.end() ? known->second : named->second.front();
            take(concat(options_.boxes, ": ", file.images[i]), path);
            for (const FileBox& box : file.boxes[i])
                boxes_.back().push_back({box.edges[0], box.edges[1], box.edges[2], box.edges[3]});
        }
    }

    std::vector<Component> of_mask(const std::string& file, const Image& picture) const {
        LabelMap map = read_labels(file).map;
        require(map.height == picture.height && map.width == picture.width, file, ": a mask of ", map.width, " x ",
                map.height, " pixels for a picture of ", picture.width, " x ", picture.height);
        for (std::uint8_t& label : map.labels)
            if (label == 255) label = 0;
        return connected_components(map.labels, map.height, map.width, options_.least);
    }

    static std::vector<Component> of_boxes(const std::string& path, const std::vector<Box>& boxes,
                                           const Image& picture) {
        std::vector<Component> out;
        for (const Box& box : boxes) {
            require_box(box, picture.width, picture.height, path);
            Component one;
            one.box = box;
            for (auto y = static_cast<Index>(std::floor(box.y0)); y < static_cast<Index>(std::ceil(box.y1)); ++y)
                for (auto x = static_cast<Index>(std::floor(box.x0)); x < static_cast<Index>(std::ceil(box.x1)); ++x)
                    one.pixels.push_back(y * picture.width + x);
            out.push_back(std::move(one));
        }
        return out;
    }

    RegionOptions options_;
    std::vector<std::string> paths_, masks_;    ///< of each picture
    std::vector<std::vector<Box>> boxes_;       ///< of each picture
    std::map<std::string, std::string> taken_;  ///< masks and boxes, and the picture of each
};

/// Which region each patch of a picture belongs to.
struct PatchRegions {
    std::vector<std::int32_t> region;  ///< (cells): the one that covers most of it, −1: none
    std::vector<float> share;          ///< (cells): how much of it that covers
};

/// Patches of a grid that is stretched over a picture of height × width pixels.
inline PatchRegions regions_of_patches(const std::vector<Component>& regions, const GridSize& grid, Index height,
                                       Index width) {
    const auto cell = [&](Index y, Index x) {
        return static_cast<std::size_t>(y * grid.rows / height * grid.columns + x * grid.columns / width);
    };
    const auto cells = static_cast<std::size_t>(grid.cells());
    std::vector<Index> pixels(cells, 0), most(cells, 0);
    for (Index y = 0; y < height; ++y)
        for (Index x = 0; x < width; ++x) ++pixels[cell(y, x)];
    PatchRegions out{std::vector<std::int32_t>(cells, -1), std::vector<float>(cells, 0)};
    std::vector<Index> covered(cells, 0);
    for (std::size_t r = 0; r < regions.size(); ++r) {
        for (const Index p : regions[r].pixels) ++covered[cell(p / width, p % width)];
        for (const Index p : regions[r].pixels) {
            const std::size_t k = cell(p / width, p % width);
            if (covered[k] > most[k]) {
                most[k] = covered[k];
                out.region[k] = static_cast<std::int32_t>(r);
                out.share[k] = static_cast<float>(covered[k]) / static_cast<float>(pixels[k]);
            }
            covered[k] = 0;
        }
    }
    return out;
}

}  // namespace promptkd
