// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/benchmark_splits.hpp>
#include <promptkd/data/class_subset.hpp>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

namespace detail {

inline std::string benchmark_images(const BenchmarkInfo& info, const std::string& root) {
    return root + "/" + info.folder + (info.images.empty() ? "" : "/" + info.images);
}

/// classnames.txt of an ImageNet-like set: its own, else ImageNet's beside it. Pairs of folder and class name.
inline std::vector<std::pair<std::string, std::string>> wordnet_names(const BenchmarkInfo& info,
                                                                      const std::string& root) {
    const std::string own = root + "/" + info.folder + "/classnames.txt", shared = root + "/imagenet/classnames.txt";
    const bool has_own = std::filesystem::exists(own);
    require(has_own || std::filesystem::exists(shared), info.name, ": there is neither '", own, "' nor '", shared,
            "' (a line for each class: WordNet number and name)");
    return read_pairs(has_own ? own : shared);
}

/// Images of class folders, whose order gives the labels. `named`: name of a folder.
template <class Name>
std::vector<BenchmarkEntry> read_labelled_folders(const std::string& root, const std::string& below,
                                                  const std::vector<std::string>& folders, Name&& named) {
    std::vector<BenchmarkEntry> entries;
    for (std::size_t label = 0; label < folders.size(); ++label) {
        const std::string folder = root + "/" + below + folders[label];
        require(std::filesystem::is_directory(folder), "'", folder, "' is missing, the folder of class '", named(label),
                "'");
        const std::vector<std::string> found = find_images(folder);
        require(!found.empty(), "'", folder, "': class '", named(label), "' has no image (.jpg, .jpeg, .png)");
        for (const std::string& path : found)
            entries.push_back({path.substr(root.size() + 1), static_cast<Index>(label)});
    }
    return entries;
}

/// ImageNet and its variants: folders by WordNet number (V2: 0–999), named through classnames.txt. Reads one part only.
inline BenchmarkParts read_imagenet(const BenchmarkInfo& info, const std::string& root, Split split) {
    const auto pairs = wordnet_names(info, root);
    const std::map<std::string, std::string> name_of_folder(pairs.begin(), pairs.end());
    const std::string images = benchmark_images(info, root);
    require(split == Split::test || info.layout == BenchmarkLayout::imagenet, info.name,
            " has no training part: it is a test of models trained on another set");
    const std::string below = info.layout != BenchmarkLayout::imagenet ? "" : split == Split::train ? "train/" : "val/";
    std::vector<std::string> folders;
    BenchmarkParts parts;
    if (info.layout == BenchmarkLayout::numbered) {
        for (std::size_t i = 0; i < pairs.size(); ++i) {
            folders.push_back(std::to_string(i));
            parts.class_names.push_back(pairs[i].second);
            parts.class_ids.push_back(pairs[i].first);
        }
    } else {
        folders = folder_names(images + "/" + below);
        for (const std::string& folder : folders) {
            const auto name = name_of_folder.find(folder);
            require(name != name_of_folder.end(), "'", images, "/", below, folder,
                    "': this folder is not in classnames.txt");
            parts.class_names.push_back(name->second);
            parts.class_ids.push_back(folder);
        }
    }
    require(!folders.empty(), "'", images, "/", below, "' has no class folders");
    (split == Split::train ? parts.train : parts.test) =
        read_labelled_folders(images, below, folders, [&](std::size_t label) { return parts.class_names[label]; });
    return parts;
}

/// The parts of a benchmark from its split file, else from what its layout offers.
inline BenchmarkParts read_benchmark(const BenchmarkInfo& info, const std::string& root, Split split) {
    const std::string folder = root + "/" + info.folder, split_file = folder + "/" + info.split;
    require(std::filesystem::is_directory(folder), info.name, ": there is no folder '", folder,
            "'; ROOT is the folder that holds '", info.folder, "'");
    if (!info.split.empty() && std::filesystem::exists(split_file)) return read_split_file(split_file);
    switch (info.layout) {
        case BenchmarkLayout::drawn:
            return draw_parts(info, benchmark_images(info, root));
        case BenchmarkLayout::pets:
            return read_pets(folder);
        case BenchmarkLayout::sun:
            return read_sun(folder);
        case BenchmarkLayout::aircraft:
            return read_aircraft(folder);
        case BenchmarkLayout::annotations:
            fail(info.name, ": '", split_file,
                 "' is missing; without it only the MATLAB annotations (.mat) tell the labels, and those are not read: "
                 "put the "
                 "published split file there");
        default:
            return read_imagenet(info, root, split);
    }
}

inline std::vector<std::string> absolute_paths(const std::string& images, const std::vector<BenchmarkEntry>& entries) {
    std::vector<std::string> paths;
    paths.reserve(entries.size());
    for (const BenchmarkEntry& entry : entries) paths.push_back(images + "/" + entry.path);
    return paths;
}

/// Files among `paths` that do not exist.
inline std::vector<std::string> missing_files(const std::vector<std::string>& paths) {
    std::vector<std::string> missing;
    std::error_code code;
    for (const std::string& path : paths)
        if (!std::filesystem::is_regular_file(path, code)) missing.push_back(path);
    return missing;
}

}  // namespace detail

/// A part of a published benchmark below `root`, in the layout of CoOp's DATASETS.md. Throws Error naming the folder or
/// file that is missing, the class without images, and how many files a split names that are not there.
inline Dataset load_benchmark(const BenchmarkInfo& info, const std::string& root, Split split) {
    const detail::BenchmarkParts parts = detail::read_benchmark(info, root, split);
    const std::vector<detail::BenchmarkEntry>& entries = split == Split::train ? parts.train : parts.test;
    std::vector<std::string> paths = detail::absolute_paths(detail::benchmark_images(info, root), entries);
    require(!paths.empty(), info.name, ": the ", name_of(split), " part below '", root, "' has no image");
    const std::vector<std::string> missing = detail::missing_files(paths);
    require(missing.empty(), info.name, ": ", missing.size(), " of the ", paths.size(), " ", name_of(split),
            " images are missing, the first is '", missing.empty() ? "" : missing[0], "'");
    Dataset data;
    data.name = info.name;
    data.class_names = parts.class_names;
    data.class_ids = parts.class_ids;
    for (std::size_t i = 0; i < entries.size(); ++i) data.items.push_back({static_cast<Index>(i), entries[i].label});
    data.source = std::make_shared<ImageFiles>(std::move(paths));
    return data;
}

/// What a root holds of a benchmark, beside the published sizes (0: not published or not there).
struct BenchmarkReport {
    Index classes = 0;                  ///< N
    Index train = 0;                    ///< training images
    Index base = 0, novel = 0;          ///< test images of the base and of the new classes
    std::vector<std::string> problems;  ///< empty: complete
};

namespace detail {

/// Counts a part into the report: its images that exist, and its problems. Returns the number that counts for `train`.
inline Index count_part(const BenchmarkInfo& info, const std::string& root, Split split, BenchmarkReport& report) {
    BenchmarkParts parts;
    try {
        parts = read_benchmark(info, root, split);
    } catch (const Error& error) {
        if (report.problems.empty() || report.problems.back() != error.what())
            report.problems.emplace_back(error.what());
        return 0;
    }
    const auto& entries = split == Split::train ? parts.train : parts.test;
    const auto paths = absolute_paths(benchmark_images(info, root), entries);
    const std::vector<std::string> missing = missing_files(paths);
    if (!missing.empty())
        report.problems.push_back(concat(missing.size(), " of ", paths.size(), " ", name_of(split),
                                         " images are missing, the first is '", missing[0], "'"));
    report.classes = static_cast<Index>(parts.class_names.size());
    if (split == Split::test) {
        const Index middle = class_range(report.classes, ClassSubset::base).second;
        for (const BenchmarkEntry& entry : entries) ++(entry.label < middle ? report.base : report.novel);
    }
    return static_cast<Index>(entries.size());
}

inline void compare_size(const char* what, Index found, Index published, BenchmarkReport& report) {
    if (published > 0 && found != published)
        report.problems.push_back(concat(what, ": ", found, ", published ", published));
}

}  // namespace detail

/// Checks a root against the published numbers of classes and images, and names what is missing.
inline BenchmarkReport check_benchmark(const BenchmarkInfo& info, const std::string& root) {
    BenchmarkReport report;
    if (info.layout != BenchmarkLayout::numbered && info.layout != BenchmarkLayout::wordnet)
        report.train = detail::count_part(info, root, Split::train, report);
    detail::count_part(info, root, Split::test, report);
    if (report.classes == 0) return report;
    detail::compare_size("classes", report.classes, info.classes, report);
    detail::compare_size("training images", report.train, info.train, report);
    detail::compare_size("test images of the base classes", report.base, info.base, report);
    detail::compare_size("test images of the new classes", report.novel, info.novel, report);
    return report;
}

}  // namespace promptkd
