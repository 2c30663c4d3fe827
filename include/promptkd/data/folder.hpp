// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/files.hpp>
#include <promptkd/text/class_names.hpp>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// How the subfolders of an image folder are read.
enum class FolderLabels {
    automatic,  ///< as class folders when they carry the class names (or none are given), else as a mere tree
    required,   ///< as class folders; an error when they are not
    none        ///< as a mere tree of unlabelled images
};

namespace detail {

inline std::string joined(const std::vector<std::string>& names, std::size_t most = 5) {
    std::string text;
    for (std::size_t i = 0; i < names.size() && i < most; ++i) text += (i ? ", '" : "'") + names[i] + "'";
    return names.size() > most ? concat(text, " and ", names.size() - most, " more") : text;
}

/// Whether the tree is labelled: class folders under the names of `class_names` (any names when that is empty).
/// Throws Error saying which folder or class is in the way when it is neither one nor the other.
inline bool has_class_folders(const std::string& root, const std::vector<std::string>& folders,
                              const std::vector<std::string>& class_names, FolderLabels labels) {
    if (labels == FolderLabels::none) return false;
    if (class_names.empty()) {
        require(!folders.empty(), "'", root,
                "' has no class folders; give a list of class names to use its images unlabelled");
        return true;
    }
    const std::map<std::string, Index> known = labels_by_name(class_names), present = labels_by_name(folders);
    std::vector<std::string> unknown, absent;
    for (const std::string& folder : folders)
        if (known.count(readable_name(folder)) == 0) unknown.push_back(folder);
    for (const std::string& name : class_names)
        if (present.count(readable_name(name)) == 0) absent.push_back(name);
    if (labels == FolderLabels::automatic && unknown.size() == folders.size()) return false;
    require(unknown.empty(), "'", root, "': folder ", joined(unknown), " is not among the class names given");
    require(absent.empty(), "'", root, "': there is no folder for class ", joined(absent));
    return true;
}

}  // namespace detail

namespace detail {

/// Names of the classes behind sorted class folders. Throws Error for unreadable names and for two that read the same.
inline std::vector<std::string> names_of_folders(const std::string& root, const std::vector<std::string>& folders) {
    std::vector<std::string> names;
    for (const std::string& folder : folders) {
        require(is_utf8(folder), "'", root, "': the name of class folder '", folder, "' is not valid UTF-8");
        names.push_back(readable_name(folder));
    }
    require(labels_by_name(names).size() == names.size(), "'", root, "': two class folders differ only in _ and space");
    return names;
}

/// Fills in items and source from the class folders of a labelled tree.
inline void read_class_folders(const std::string& root, const std::vector<std::string>& folders, Dataset& data) {
    const std::vector<std::string> stray = find_images(root, false);
    require(stray.empty(), "'", root, "': image '", stray.empty() ? "" : stray[0],
            "' lies beside the class folders; move it into one, or give class names to use all images unlabelled");
    const std::map<std::string, Index> labels = labels_by_name(data.class_names);
    std::vector<std::string> paths;
    for (const std::string& folder : folders) {
        const std::vector<std::string> found = find_images(root + "/" + folder);
        require(!found.empty(), "'", root, "': class '", folder, "' has no image (.jpg, .jpeg, .png)");
        const Index label = labels.at(readable_name(folder));
        for (const std::string& path : found) {
            data.items.push_back({static_cast<Index>(paths.size()), label});
            paths.push_back(path);
        }
    }
    data.source = std::make_shared<ImageFiles>(std::move(paths));
}

}  // namespace detail

/// Images below `root`. Three uses:
///  - a labelled tree, one folder a class: without `class_names` the sorted folder names (underscores read as spaces)
///    are the classes; with them, folders and names must agree and labels follow the order of the names;
///  - any folder of unlabelled images, searched recursively, with `class_names` for the prompts;
///  - `FolderLabels::required` or `none` decide where `automatic` is not wanted.
/// Images are .jpg, .jpeg, .png, in sorted order. Throws Error naming the class without image, the folder that is no
/// class, the class without folder, or two folders with one name; and when there is no image at all.
inline Dataset load_folder(const std::string& root, const std::vector<std::string>& class_names = {},
                           FolderLabels labels = FolderLabels::automatic) {
    const std::vector<std::string> folders = detail::folder_names(root);
    Dataset data;
    data.name = root;
    data.class_names = class_names;
    if (detail::has_class_folders(root, folders, class_names, labels)) {
        if (class_names.empty()) data.class_names = detail::names_of_folders(root, folders);
        detail::read_class_folders(root, folders, data);
        return data;
    }
    std::vector<std::string> paths = find_images(root);
    require(!paths.empty(), "'", root, "' has no image (.jpg, .jpeg, .png)");
    for (std::size_t i = 0; i < paths.size(); ++i) data.items.push_back({static_cast<Index>(i), -1});
    data.source = std::make_shared<ImageFiles>(std::move(paths));
    return data;
}

/// The folder that holds `split` of `root`: ROOT/train for training and ROOT/test (or ROOT/val) for testing when `root`
/// is divided so; otherwise `root` itself. It counts as divided when it has train/ and a test/ or val/, or nothing but
/// such folders ("train" alone may be a class of vehicles).
inline std::string split_folder(const std::string& root, Split split) {
    bool train = false, test = false, val = false, others = false;
    for (const std::string& name : detail::folder_names(root)) {
        if (name == "train")
            train = true;
        else if (name == "test")
            test = true;
        else if (name == "val")
            val = true;
        else
            others = true;
    }
    const bool divided =
        (train && (test || val)) || ((train || test || val) && !others && find_images(root, false).empty());
    if (!divided) return root;
    if (split == Split::train) {
        require(train, "'", root, "' has a test or val folder but no train folder");
        return root + "/train";
    }
    require(test || val, "'", root, "' has a train folder but no test or val folder");
    return root + (test ? "/test" : "/val");
}

}  // namespace promptkd
