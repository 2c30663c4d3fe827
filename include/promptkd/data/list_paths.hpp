// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/files.hpp>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace promptkd::detail {

inline bool is_file(const std::filesystem::path& path) {
    std::error_code code;
    return std::filesystem::is_regular_file(path, code);
}

/// Finds the files that a list names, as people write them: relative to the list or to the current folder, with
/// backslashes, without the extension, in one of the folders beside the list, or with the folders of another machine in
/// front. What worked for the last image is tried first.
class ListPaths {
public:
    /// `folder`: the list's.
    explicit ListPaths(std::filesystem::path folder) : folder_(std::move(folder)) {}

    /// The file that `name` stands for. Throws Error where two folders hold one.
    std::optional<std::string> find(const std::string& name) {
        for (const std::string& spelling : spellings(name)) {
            if (const auto found = at(last_, spelling)) return found;
            for (std::size_t drop = 0; drop <= parts(spelling); ++drop)
                for (const std::filesystem::path& base : {folder_, std::filesystem::path(".")}) {
                    const Rule rule{base, drop};
                    if (const auto found = at(rule, spelling)) return keep(rule, name, *found);
                    if (const auto found = beside(drop, name, spelling); found && base == folder_) return found;
                }
        }
        return anywhere(name);
    }

    /// How the first image was found that does not lie where its name says; empty: all do.
    const std::string& note() const { return note_; }

private:
    /// `drop` leading folders of a name are left out, `base` is put in front.
    struct Rule {
        std::filesystem::path base;
        std::size_t drop = 0;
    };

    static std::vector<std::string> spellings(const std::string& name) {
        std::vector<std::string> all{name};
        if (name.find('\\') == std::string::npos) return all;
        std::string slashes = name;
        std::replace(slashes.begin(), slashes.end(), '\\', '/');
        if (slashes.size() > 2 && slashes[1] == ':') slashes.erase(0, slashes[2] == '/' ? 3 : 2);
        all.push_back(std::move(slashes));
        return all;
    }

    static std::size_t parts(const std::string& name) {
        return static_cast<std::size_t>(std::count(name.begin(), name.end(), '/'));
    }

    static std::string without_first(const std::string& name, std::size_t drop) {
        std::size_t begin = 0;
        for (; drop > 0; --drop) begin = name.find('/', begin) + 1;
        return name.substr(begin);
    }

    /// The file under this rule, also with an extension added.
    static std::optional<std::string> at(const Rule& rule, const std::string& name) {
        if (rule.drop > parts(name)) return std::nullopt;
        const std::filesystem::path path = rule.base / without_first(name, rule.drop);
        if (is_file(path)) return path.string();
        if (path.filename().empty() || has_image_name(path.string())) return std::nullopt;
        for (const std::string extension : image_extensions)
            for (const std::string& spelling : {extension, upper(extension)})
                if (is_file(path.string() + spelling)) return path.string() + spelling;
        return std::nullopt;
    }

    static std::string upper(std::string extension) {
        for (char& c : extension) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
        return extension;
    }

    std::string keep(const Rule& rule, const std::string& name, const std::string& found) {
        last_ = rule;
        const bool plain = rule.drop == 0 && rule.base == folder_ && found.find('\\') == std::string::npos;
        if (note_.empty() && !(plain && found.size() >= name.size() &&
                               found.compare(found.size() - name.size(), name.size(), name) == 0))
            note_ = "'" + name + "' is taken as '" + found + "'";
        return found;
    }

    /// In exactly one of the folders beside the list.
    std::optional<std::string> beside(std::size_t drop, const std::string& name, const std::string& spelling) {
        std::optional<std::string> found;
        Rule used;
        for (const std::string& folder : folders()) {
            const Rule rule{folder_ / folder, drop};
            const auto file = at(rule, spelling);
            require(!file || !found, "'", name, "' could be '", found.value_or(""), "' or '", file.value_or(""), "'");
            if (!file) continue;
            found = file;
            used = rule;
        }
        return found ? std::optional<std::string>(keep(used, name, *found)) : std::nullopt;
    }

    /// The only image of this name, with or without its extension, somewhere below the list's folder.
    std::optional<std::string> anywhere(const std::string& name) {
        if (name.find_first_of("/\\") != std::string::npos) return std::nullopt;
        if (!below_) {
            below_.emplace();
            for (const std::string& path : find_images(folder_.empty() ? "." : folder_.string())) {
                below_->emplace(std::filesystem::path(path).filename().string(), path);
                below_->emplace(std::filesystem::path(path).stem().string(), path);
            }
        }
        const auto [first, last] = below_->equal_range(name);
        if (first == last) return std::nullopt;
        require(std::next(first) == last, "'", name, "' could be '", first->second, "' or '", std::next(first)->second,
                "'");
        if (note_.empty()) note_ = "'" + name + "' is taken as '" + first->second + "'";
        return first->second;
    }

    const std::vector<std::string>& folders() {
        if (!folders_) folders_ = folder_names(folder_.empty() ? "." : folder_.string());
        return *folders_;
    }

    std::filesystem::path folder_;
    Rule last_{folder_, 0};
    std::optional<std::vector<std::string>> folders_;
    std::optional<std::multimap<std::string, std::string>> below_;
    std::string note_;
};

}  // namespace promptkd::detail
