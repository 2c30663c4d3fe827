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

/// A folder with masks beside or among its pictures, by its layout; null where it has none.
inline const MaskLayout* layout_of(const std::string& root) {
    if (!std::filesystem::is_directory(root)) return nullptr;
    for (const MaskLayout& layout : mask_layouts)
        if (has_layout(root, layout)) return &layout;
    return nullptr;
}

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
    if (const MaskLayout* layout = detail::layout_of(root)) {
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
    /// Throws Error for a folder or a file that cannot be read.
    explicit RegionFinder(const RegionOptions& options) : options_(options) {
        if (!options.masks.empty()) open_masks();
        if (!options.boxes.empty()) open_boxes();
    }

    /// Those of a picture from file `path`. Throws Error for a mask that is missing or of another size, and for a box
    /// outside the picture.
    std::vector<Component> find(const std::string& path, const Image& picture) const {
        if (!options_.masks.empty()) return of_mask(path, picture);
        if (!options_.boxes.empty()) return of_boxes(path, picture);
        return connected_components(foreground_of(picture, options_.foreground), picture.height, picture.width,
                                    options_.least);
    }

    /// What there is when a picture has none.
    std::string nothing() const {
        if (!options_.masks.empty())
            return concat("no mask in '", options_.masks, "' has a component of ", options_.least,
                          " pixels with a label other than 0 and 255");
        if (!options_.boxes.empty()) return concat(options_.boxes, ": none of its boxes is of one of the pictures");
        return concat("no picture has a component of ", options_.least, " pixels above ", options_.foreground,
                      "; lower the threshold of the foreground, or give masks or boxes");
    }

    /// Masks that belong to pictures, for the identity of a run.
    std::vector<std::string> mask_files(const Dataset& pictures) const {
        std::vector<std::string> files;
        if (!options_.masks.empty())
            for (Index i = 0; i < pictures.size(); ++i) files.push_back(mask_of(pictures.item_name(i)));
        return files;
    }

private:
    void open_masks() {
        require(std::filesystem::is_directory(options_.masks), "'", options_.masks, "' is no folder of masks");
        if (const MaskLayout* layout = detail::layout_of(options_.masks))
            for (const MaskedImage& one : detail::pictures_of(options_.masks, *layout))
                masks_[detail::plain_path(one.image)] = one.mask;
    }

    void open_boxes() {
        const BoxFile file = read_boxes(options_.boxes);
        for (std::size_t i = 0; i < file.images.size(); ++i) {
            const std::string path = detail::plain_path(file.images[i]);
            std::vector<Box>& list = boxes_[path];
            named_[std::filesystem::path(path).filename().string()].push_back(path);
            for (const FileBox& box : file.boxes[i])
                list.push_back({box.edges[0], box.edges[1], box.edges[2], box.edges[3]});
        }
    }

    std::string mask_of(const std::string& path) const {
        const auto known = masks_.find(detail::plain_path(path));
        if (known != masks_.end()) return known->second;
        return options_.masks + "/" + std::filesystem::path(path).stem().string() + ".png";
    }

    std::vector<Component> of_mask(const std::string& path, const Image& picture) const {
        const std::string file = mask_of(path);
        require(std::filesystem::exists(file), path, ": its mask '", file, "' does not exist");
        LabelMap map = read_labels(file).map;
        require(map.height == picture.height && map.width == picture.width, file, ": a mask of ", map.width, " x ",
                map.height, " pixels for a picture of ", picture.width, " x ", picture.height);
        for (std::uint8_t& label : map.labels)
            if (label == 255) label = 0;
        return connected_components(map.labels, map.height, map.width, options_.least);
    }

    std::vector<Component> of_boxes(const std::string& path, const Image& picture) const {
        std::vector<Component> out;
        auto known = boxes_.find(detail::plain_path(path));
        const auto named = named_.find(std::filesystem::path(path).filename().string());
        if (known == boxes_.end() && named != named_.end() && named->second.size() == 1)
            known = boxes_.find(named->second.front());
        if (known == boxes_.end()) return out;
        for (const Box& box : known->second) {
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
    std::map<std::string, std::string> masks_;               ///< of a layout, by picture
    std::map<std::string, std::vector<Box>> boxes_;          ///< by picture
    std::map<std::string, std::vector<std::string>> named_;  ///< pictures with boxes by the name of their file
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
