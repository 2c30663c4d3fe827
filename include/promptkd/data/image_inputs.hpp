// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/files.hpp>
#include <promptkd/data/folder_tree.hpp>
#include <promptkd/data/image_table.hpp>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

namespace detail {

/// Whether a file of this name is read as a list of images.
inline bool is_list_name(const std::string& path) {
    const std::string extension = lower_extension(path);
    return is_table_name(extension) || extension == ".txt";
}

/// "folder:x" and "list:x" as "x", where there is no file of the longer name.
inline std::string without_kind(const std::string& name) {
    for (const std::string kind : {"folder:", "list:"})
        if (name.compare(0, kind.size(), kind) == 0 && !std::filesystem::exists(name)) return name.substr(kind.size());
    return name;
}

}  // namespace detail

/// The image files that `names` stand for, in order: those of a folder and below it, sorted; those of a list (.csv,
/// .tsv, .txt, .json, .jsonl; see ImageTable); any other name as it is, whether there is such a file or not. Throws
/// Error for a folder without images and for a list that cannot be read.
inline std::vector<std::string> image_inputs(const std::vector<std::string>& names) {
    std::vector<std::string> files;
    for (const std::string& given : names) {
        const std::string name = detail::without_kind(given);
        if (std::filesystem::is_directory(name)) {
            const std::vector<std::string> found = find_images(name);
            require(!found.empty(), "'", name, "' has no image");
            files.insert(files.end(), found.begin(), found.end());
        } else if (detail::is_list_name(name)) {
            for (ImageTable::Entry& entry : ImageTable(name, {}).entries()) files.push_back(std::move(entry.path));
        } else {
            files.push_back(name);
        }
    }
    return files;
}

}  // namespace promptkd
