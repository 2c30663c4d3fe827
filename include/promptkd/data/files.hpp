// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/dataset.hpp>
#include <promptkd/format/file.hpp>
#include <promptkd/format/image.hpp>

#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace promptkd {

/// Images in files, decoded when asked for.
class ImageFiles final : public ImageSource {
public:
    /// Image `i` is the file `paths[i]`.
    explicit ImageFiles(std::vector<std::string> paths) : paths_(std::move(paths)) {}

    Index size() const override { return static_cast<Index>(paths_.size()); }
    std::string name(Index i) const override { return paths_.at(static_cast<std::size_t>(i)); }
    ImageVersion version(Index i) const override {
        struct stat status {};
        if (::stat(paths_.at(static_cast<std::size_t>(i)).c_str(), &status) != 0) return {};
        constexpr std::int64_t second = 1000000000;
        return {static_cast<std::int64_t>(status.st_size), status.st_mtim.tv_sec * second + status.st_mtim.tv_nsec};
    }
    std::string contents(Index i) const override {
        try {
            return read_file(paths_.at(static_cast<std::size_t>(i)));
        } catch (const ResourceError&) {
            throw;
        } catch (const Error&) {  // see ImageSource
            return {};
        }
    }
    void load(Index i, Image& out) const override { out = read_image(paths_.at(static_cast<std::size_t>(i))); }

private:
    std::vector<std::string> paths_;
};

/// Whether the name ends as those of the kinds that decode_image() knows, in any case. Hidden files (".…") are no
/// images.
inline bool has_image_name(const std::string& path) {
    const std::filesystem::path file(path);
    std::string extension = file.extension().string();
    for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (file.filename().string()[0] == '.') return false;
    return std::any_of(std::begin(image_extensions), std::end(image_extensions),
                       [&](const char* known) { return extension == known; });
}

namespace detail {

/// Calls f(entry) for each entry of the folder, in no order. Throws Error with the reason when it cannot be read.
template <class F>
void for_each_entry(const std::string& folder, F&& f) {
    std::error_code code;
    std::filesystem::directory_iterator it(folder, code);
    for (; !code && it != std::filesystem::directory_iterator(); it.increment(code)) f(*it);
    require(!code, "cannot read folder '", folder, "': ", code.message());
}

/// Whether the entry is a folder to look into: not hidden, and no symbolic link (those may form loops).
inline bool is_plain_folder(const std::filesystem::directory_entry& entry) {
    std::error_code code;
    return entry.is_directory(code) && !entry.is_symlink(code) && entry.path().filename().string()[0] != '.';
}

inline bool is_image_file(const std::filesystem::directory_entry& entry) {
    std::error_code code;
    return has_image_name(entry.path().string()) && entry.is_regular_file(code);
}

/// The folders below `root` that are looked into, sorted by name. Links count here: class folders are often linked.
inline std::vector<std::string> folder_names(const std::string& root) {
    std::vector<std::string> names;
    for_each_entry(root, [&](const std::filesystem::directory_entry& entry) {
        std::error_code code;
        const std::string name = entry.path().filename().string();
        if (name[0] != '.' && entry.is_directory(code)) names.push_back(name);
    });
    std::sort(names.begin(), names.end());
    return names;
}

}  // namespace detail

/// Paths of the images in `root` (and, if `recursive`, below it), sorted. Hidden files and folders are left out.
/// Throws Error with the reason when a folder cannot be read.
inline std::vector<std::string> find_images(const std::string& root, bool recursive = true) {
    std::vector<std::string> paths, pending{root};
    while (!pending.empty()) {
        const std::string folder = std::move(pending.back());
        pending.pop_back();
        detail::for_each_entry(folder, [&](const std::filesystem::directory_entry& entry) {
            if (detail::is_image_file(entry))
                paths.push_back(entry.path().string());
            else if (recursive && detail::is_plain_folder(entry))
                pending.push_back(entry.path().string());
        });
    }
    std::sort(paths.begin(), paths.end());
    return paths;
}

}  // namespace promptkd
