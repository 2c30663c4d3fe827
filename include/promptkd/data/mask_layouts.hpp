// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/class_names_file.hpp>
#include <promptkd/data/files.hpp>
#include <promptkd/format/label_png.hpp>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// A picture and the file of its labels.
struct MaskedImage {
    std::string image, mask;  ///< paths
};

/// Where a published segmentation benchmark keeps its validation part, and what its labels mean.
struct MaskLayout {
    const char* name;         ///< as it is chosen
    const char* images;       ///< folder of the pictures
    const char* masks;        ///< folder of the labels
    const char* list;         ///< file with the names of the part; empty: every picture of the folder
    const char* image_begin;  ///< what a picture's name begins with, in front of its stem
    const char* image_end;    ///< what it ends with behind it; empty: any kind of picture
    const char* mask_begin;   ///< what the name of its mask begins with
    const char* mask_end;     ///< what that ends with
    Index classes = 0;        ///< published number of classes; 0: any
    bool shifted = false;     ///< label 0 is ignored and the others count from 1 (mmsegmentation's reduce_zero_label)
};

/// All of them. The first whose folders are there is taken where none is named.
inline constexpr MaskLayout mask_layouts[] = {
    {"voc21", "JPEGImages", "SegmentationClass", "ImageSets/Segmentation/val.txt", "", ".jpg", "", ".png", 21, false},
    {"voc20", "JPEGImages", "SegmentationClass", "ImageSets/Segmentation/val.txt", "", ".jpg", "", ".png", 20, true},
    {"context60", "JPEGImages", "SegmentationClassContext", "ImageSets/SegmentationContext/val.txt", "", ".jpg", "",
     ".png", 60, false},
    {"context59", "JPEGImages", "SegmentationClassContext", "ImageSets/SegmentationContext/val.txt", "", ".jpg", "",
     ".png", 59, true},
    {"ade20k", "images/validation", "annotations/validation", "", "", ".jpg", "", ".png", 150, true},
    {"coco-stuff", "images/val2017", "annotations/val2017", "", "", ".jpg", "", "_labelTrainIds.png", 171, false},
    {"cityscapes", "leftImg8bit/val", "gtFine/val", "", "", "_leftImg8bit.png", "", "_gtFine_labelTrainIds.png", 19,
     false},
    {"folder", "images", "masks", "", "", "", "", ".png", 0, false},
    {"folder-shifted", "images", "masks", "", "", "", "", ".png", 0, true},
    {"scenes", ".", ".", "", "scene", ".png", "mask", ".png", 0, true},
    {"scenes-with-background", ".", ".", "", "scene", ".png", "mask", ".png", 0, false},
};

/// "voc21, voc20, …".
inline std::string mask_layout_names() {
    std::string names;
    for (const MaskLayout& layout : mask_layouts) names += (names.empty() ? "" : ", ") + std::string(layout.name);
    return names;
}

/// The layout of a name. Throws Error when there is none.
inline const MaskLayout& mask_layout(const std::string& name) {
    for (const MaskLayout& layout : mask_layouts)
        if (name == layout.name) return layout;
    fail("'", name, "' is no layout of masks; there are ", mask_layout_names());
}

namespace detail {

/// "a/b" and "c" as "a/bc".
inline std::string with_begin(const std::string& stem, const std::string& begin) {
    const std::size_t name = stem.rfind('/') == std::string::npos ? 0 : stem.rfind('/') + 1;
    return stem.substr(0, name) + begin + stem.substr(name);
}

/// Paths of the pictures below a layout's folder, without what their names begin and end with.
inline std::vector<std::string> stems_below(const std::string& folder, const MaskLayout& layout) {
    const std::string begin = layout.image_begin, end = layout.image_end;
    std::vector<std::string> stems;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
        if (!entry.is_regular_file()) continue;
        const std::filesystem::path path = std::filesystem::relative(entry.path(), folder);
        const std::string name = path.filename().string();
        const bool own = end.empty() ? has_image_name(name) : name.ends_with(end);
        if (!own || !name.starts_with(begin) || name.size() < begin.size() + end.size()) continue;
        if (!begin.empty() && path.has_parent_path()) continue;  // of a folder of its own
        const std::string stem = name.substr(begin.size(), name.size() - begin.size() - end.size());
        stems.push_back((path.parent_path() / stem).string());
    }
    std::sort(stems.begin(), stems.end(), [](const std::string& a, const std::string& b) {
        return a.size() != b.size() && a.find_first_not_of("0123456789") == std::string::npos &&
                       b.find_first_not_of("0123456789") == std::string::npos
                   ? a.size() < b.size()
                   : a < b;
    });
    return stems;
}

/// A folder of a layout below `root`, with a slash behind.
inline std::string layout_folder(const std::string& root, const std::string& folder) {
    return folder == "." ? root + "/" : root + "/" + folder + "/";
}

/// The picture of a stem below `root`, and where its mask is to be.
inline MaskedImage masked_image(const std::string& root, const MaskLayout& layout, const std::string& stem) {
    const std::string images = layout_folder(root, layout.images), masks = layout_folder(root, layout.masks);
    const bool any = *layout.image_end == '\0';
    const std::string name = any ? std::filesystem::path(stem).replace_extension("").string() : stem;
    return {images + with_begin(stem, layout.image_begin) + layout.image_end,
            masks + with_begin(name, layout.mask_begin) + layout.mask_end};
}

/// Whether the folders of a layout are below `root`; where pictures and masks share one, a picture with its mask.
inline bool has_layout(const std::string& root, const MaskLayout& layout) {
    const bool folders = std::filesystem::is_directory(root + "/" + layout.images) &&
                         std::filesystem::is_directory(root + "/" + layout.masks) &&
                         (*layout.list == '\0' || std::filesystem::is_regular_file(root + "/" + layout.list));
    if (!folders || *layout.image_begin == '\0') return folders;
    const std::vector<std::string> stems = stems_below(root + "/" + layout.images, layout);
    return std::any_of(stems.begin(), stems.end(), [&](const std::string& stem) {
        return std::filesystem::is_regular_file(masked_image(root, layout, stem).mask);
    });
}

}  // namespace detail

/// The first layout whose folders are below `root`; null where there is none.
inline const MaskLayout* layout_below(const std::string& root) {
    if (!std::filesystem::is_directory(root)) return nullptr;
    for (const MaskLayout& layout : mask_layouts)
        if (detail::has_layout(root, layout)) return &layout;
    return nullptr;
}

/// The layout of `name` below `root`; of an empty name the first whose folders are there. Throws Error when there is
/// none.
inline MaskLayout find_mask_layout(const std::string& root, const std::string& name) {
    require(std::filesystem::is_directory(root), "'", root, "' is no folder of pictures with masks");
    const MaskLayout* const found = name.empty() ? layout_below(root) : &mask_layout(name);
    require(found != nullptr && detail::has_layout(root, *found), "'", root, "' has not the folders of ",
            name.empty() ? "any layout of masks" : name,
            "; the simplest are images/ and masks/ with files of the same names");
    return *found;
}

/// The pictures of a layout below `root` with their masks, in the order of its list or by name. Throws Error naming a
/// picture or a mask that is missing.
inline std::vector<MaskedImage> masked_images(const std::string& root, const MaskLayout& layout) {
    const std::string images = detail::layout_folder(root, layout.images);
    std::vector<std::string> stems;
    if (*layout.list != '\0') {
        for (const std::string& line : read_text_lines(root + "/" + layout.list)) stems.push_back(line);
    } else {
        stems = detail::stems_below(images, layout);
    }
    require(!stems.empty(), "'", images, "' has no picture");
    std::vector<MaskedImage> out;
    for (const std::string& stem : stems) {
        out.push_back(detail::masked_image(root, layout, stem));
        for (const std::string& file : {out.back().image, out.back().mask})
            require(std::filesystem::is_regular_file(file), "'", file, "' does not exist, but '", stem, "' is listed");
    }
    return out;
}

/// Reads the masks of one data set, all of which must be stored in the same way.
class MaskReader {
public:
    /// Of a layout.
    explicit MaskReader(const MaskLayout& layout) : shifted_(layout.shifted) {}

    /// The labels in a file; 255: ignored. Throws Error for a mask that is stored otherwise than the first one.
    LabelMap read(const std::string& path) {
        StoredLabels stored = read_labels(path);
        const auto name = [](LabelStorage s) { return s == LabelStorage::palette ? "a palette" : "grey values"; };
        if (first_.empty()) {
            first_ = path;
            storage_ = stored.storage;
        }
        require(stored.storage == storage_, path, ": a mask of ", name(stored.storage), ", but ", first_, " has ",
                name(storage_), "; masks of one data set are stored in one way");
        if (shifted_)
            for (std::uint8_t& label : stored.map.labels)
                label = static_cast<std::uint8_t>(label == 0 ? 255 : label - (label == 255 ? 0 : 1));
        return std::move(stored.map);
    }

private:
    bool shifted_;
    std::string first_;
    LabelStorage storage_ = LabelStorage::palette;
};

}  // namespace promptkd
