// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/text/class_names.hpp>

#include <array>
#include <cctype>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace promptkd::detail {

/// "ApplyEyeMakeup" → "Apply_Eye_Makeup"; names with underscores or without inner capitals stay.
inline std::string split_camel_case(const std::string& name) {
    std::string text;
    for (std::size_t i = 0; i < name.size(); ++i) {
        const bool capital = std::isupper(static_cast<unsigned char>(name[i])) != 0;
        if (i > 0 && capital && std::islower(static_cast<unsigned char>(name[i - 1]))) text += '_';
        text += name[i];
    }
    return text;
}

/// The published prompt name of a class folder: EuroSAT's and four of Caltech101's are replaced, UCF101's are split.
inline std::string published_name(const std::string& benchmark, const std::string& folder) {
    static const std::array<std::pair<const char*, const char*>, 8> eurosat{
        {{"AnnualCrop", "Annual Crop Land"},
         {"HerbaceousVegetation", "Herbaceous Vegetation Land"},
         {"Highway", "Highway or Road"},
         {"Industrial", "Industrial Buildings"},
         {"Pasture", "Pasture Land"},
         {"PermanentCrop", "Permanent Crop Land"},
         {"Residential", "Residential Buildings"},
         {"SeaLake", "Sea or Lake"}}};
    static const std::array<std::pair<const char*, const char*>, 4> caltech{
        {{"airplanes", "airplane"}, {"Faces", "face"}, {"Leopards", "leopard"}, {"Motorbikes", "motorbike"}}};
    if (benchmark == "eurosat")
        for (const auto& [from, to] : eurosat)
            if (folder == from) return to;
    if (benchmark == "caltech101")
        for (const auto& [from, to] : caltech)
            if (folder == from) return to;
    return benchmark == "ucf101" ? split_camel_case(folder) : folder;
}

/// "/a/abbey/indoor" of SUN397 → "indoor abbey": the letter is dropped, the words are reversed.
inline std::string sun_name(const std::string& path) {
    std::string name;
    std::size_t end = path.size();
    while (end != std::string::npos && end > 0) {
        const std::size_t slash = path.rfind('/', end - 1);
        const std::string word =
            path.substr(slash == std::string::npos ? 0 : slash + 1, end - (slash == std::string::npos ? 0 : slash + 1));
        if (slash == std::string::npos || slash == 0) break;  // the letter
        name += (name.empty() ? "" : " ") + word;
        end = slash;
    }
    return name;
}

/// Pairs of "key rest" lines, in order. Throws Error naming the line that has no rest, is not UTF-8 or repeats a key.
inline std::vector<std::pair<std::string, std::string>> read_pairs(const std::string& path) {
    std::vector<std::pair<std::string, std::string>> pairs;
    std::map<std::string, Index> line_of;
    const std::string text = read_file(path, std::size_t{64} << 20);
    for_each_line(without_mark(text), [&](std::string_view line, Index number) {
        line = trimmed(line);
        if (line.empty()) return;
        require(is_utf8(line), path, ": line ", number, " is not valid UTF-8");
        const std::size_t space = line.find(' ');
        require(space != std::string_view::npos, path, ": line ", number, ": the class name behind '", line,
                "' is empty");
        const std::string key(line.substr(0, space));
        const auto [known, fresh] = line_of.emplace(key, number);
        require(fresh, path, ": '", key, "' stands on line ", known->second, " and again on line ", number);
        pairs.emplace_back(key, std::string(trimmed(line.substr(space))));
    });
    require(!pairs.empty(), path, ": the file is empty");
    return pairs;
}

/// The lines of a file, trimmed, without blank ones.
inline std::vector<std::string> read_lines(const std::string& path) {
    std::vector<std::string> lines;
    const std::string text = read_file(path, std::size_t{256} << 20);
    for_each_line(without_mark(text), [&](std::string_view line, Index number) {
        line = trimmed(line);
        require(is_utf8(line), path, ": line ", number, " is not valid UTF-8");
        if (!line.empty()) lines.emplace_back(line);
    });
    require(!lines.empty(), path, ": the file is empty");
    return lines;
}

}  // namespace promptkd::detail
