// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/files.hpp>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace promptkd {

/// A folder with everything below it. Hidden files and folders, and those that archives of a Mac leave, do not count.
struct FolderNode {
    std::string name;                          ///< its last part
    std::string path;                          ///< as it is opened
    std::vector<std::string> images;           ///< paths of the images in it, sorted
    std::map<std::string, Index> other_kinds;  ///< files in it of image kinds that are not read, by extension
    std::vector<std::string> tables;           ///< paths of the tables in it (.csv, .tsv, .json, .jsonl), sorted
    std::vector<std::string> archives;         ///< paths of the archives in it, sorted
    Index other_files = 0;                     ///< further files in it
    std::vector<FolderNode> folders;           ///< below it, sorted by name

    /// Images in it and below.
    Index count() const {
        auto total = static_cast<Index>(images.size());
        for (const FolderNode& folder : folders) total += folder.count();
        return total;
    }
    /// Whether nothing is in it and below, no file of any kind.
    bool bare() const {
        const bool files = !images.empty() || !other_kinds.empty() || !tables.empty() || !archives.empty();
        return !files && other_files == 0 &&
               std::all_of(folders.begin(), folders.end(), [](const FolderNode& folder) { return folder.bare(); });
    }
    /// Whether it or a folder below holds images, read or not.
    bool holds_images() const {
        return !images.empty() || !other_kinds.empty() ||
               std::any_of(folders.begin(), folders.end(), [](const FolderNode& f) { return f.holds_images(); });
    }
    /// Paths of the images in it and below, sorted.
    std::vector<std::string> all_images() const {
        std::vector<std::string> paths;
        collect(paths);
        std::sort(paths.begin(), paths.end());
        return paths;
    }
    /// Files in it and below of image kinds that are not read, by extension.
    std::map<std::string, Index> all_other_kinds() const {
        std::map<std::string, Index> kinds = other_kinds;
        for (const FolderNode& folder : folders)
            for (const auto& [kind, files] : folder.all_other_kinds()) kinds[kind] += files;
        return kinds;
    }

private:
    void collect(std::vector<std::string>& paths) const {
        paths.insert(paths.end(), images.begin(), images.end());
        for (const FolderNode& folder : folders) folder.collect(paths);
    }
};

namespace detail {

inline std::string lower_extension(const std::filesystem::path& path) {
    std::string extension = path.extension().string();
    for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return extension;
}

/// Kinds of images that people have, whether they are read or not.
inline bool is_image_kind(const std::string& extension) {
    static constexpr std::array<const char*, 34> kinds{
        ".jpg",  ".jpeg", ".jpe",  ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff",
        ".heic", ".heif", ".avif", ".jp2",  ".j2k", ".jxl",  ".ppm",  ".pgm", ".pbm", ".pnm", ".tga", ".ico",
        ".psd",  ".svg",  ".exr",  ".hdr",  ".dng", ".cr2",  ".nef",  ".arw", ".raw", ".dcm"};
    return std::find(kinds.begin(), kinds.end(), extension) != kinds.end();
}

inline bool is_table_name(const std::string& extension) {
    return extension == ".csv" || extension == ".tsv" || extension == ".json" || extension == ".jsonl";
}

inline bool is_archive_name(const std::string& extension) {
    static constexpr std::array<const char*, 9> kinds{".zip", ".tar", ".tgz", ".gz", ".bz2",
                                                      ".xz",  ".rar", ".7z",  ".zst"};
    return std::find(kinds.begin(), kinds.end(), extension) != kinds.end();
}

/// Reads a tree. Links are followed unless they lead back to a folder above.
class TreeReader {
public:
    FolderNode read(const std::string& path) {
        std::error_code code;
        above_.push_back(std::filesystem::canonical(path, code));
        FolderNode node;
        node.path = path;
        node.name = std::filesystem::path(path).filename().string();
        std::vector<std::string> folders;
        for_each_entry(path, [&](const std::filesystem::directory_entry& entry) { add(entry, node, folders); });
        std::sort(folders.begin(), folders.end());
        for (const std::string& folder : folders) node.folders.push_back(read(folder));
        for (std::vector<std::string>* files : {&node.images, &node.tables, &node.archives})
            std::sort(files->begin(), files->end());
        above_.pop_back();
        return node;
    }

private:
    void add(const std::filesystem::directory_entry& entry, FolderNode& node, std::vector<std::string>& folders) {
        std::error_code code;
        const std::string name = entry.path().filename().string();
        if (name[0] == '.' || name == "__MACOSX") return;
        if (entry.is_directory(code)) {
            if (!leads_back(entry)) folders.push_back(entry.path().string());
        } else if (entry.is_regular_file(code)) {
            add_file(entry.path(), node);
        }
    }

    static void add_file(const std::filesystem::path& path, FolderNode& node) {
        const std::string extension = lower_extension(path);
        if (has_image_name(path.string()))
            node.images.push_back(path.string());
        else if (is_image_kind(extension))
            ++node.other_kinds[extension];
        else if (is_table_name(extension))
            node.tables.push_back(path.string());
        else if (is_archive_name(extension))
            node.archives.push_back(path.string());
        else
            ++node.other_files;
    }

    bool leads_back(const std::filesystem::directory_entry& entry) const {
        std::error_code code;
        if (!entry.is_symlink(code)) return false;
        const std::filesystem::path target = std::filesystem::canonical(entry.path(), code);
        return code || above_.size() > 64 || std::find(above_.begin(), above_.end(), target) != above_.end();
    }

    std::vector<std::filesystem::path> above_;
};

}  // namespace detail

/// The tree below `root`. Throws Error with the reason when a folder cannot be read.
inline FolderNode read_tree(std::string root) {
    while (root.size() > 1 && root.back() == '/') root.pop_back();
    return detail::TreeReader().read(root);
}

/// "8 files .webp, .bmp": what `kinds` counts; empty for none.
inline std::string list_kinds(const std::map<std::string, Index>& kinds) {
    Index files = 0;
    std::string names;
    for (const auto& [kind, count] : kinds) {
        files += count;
        names += (names.empty() ? "" : ", ") + kind;
    }
    return files == 0 ? "" : concat(files, files == 1 ? " file " : " files ", names);
}

}  // namespace promptkd
