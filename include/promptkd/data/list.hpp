// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/files.hpp>
#include <promptkd/text/class_names.hpp>

#include <nlohmann/json.hpp>

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace promptkd {

namespace detail {

/// A line of a list: an image and its class name ("" when it has none).
struct ListEntry {
    std::string path, label;
    Index line = 0;
};

/// The fields of a CSV line (RFC 4180: a field in double quotes may hold commas, and "" for a quote).
inline std::vector<std::string> split_csv(std::string_view line, const std::string& where) {
    std::vector<std::string> fields(1);
    for (std::size_t i = 0; i < line.size(); ++i) {
        if (line[i] == ',') {
            fields.emplace_back();
        } else if (line[i] == '"' && fields.back().empty()) {
            for (++i;; ++i) {
                require(i < line.size(), where, "a quote is not closed");
                if (line[i] == '"' && (i + 1 >= line.size() || line[i + 1] != '"')) break;
                if (line[i] == '"') ++i;
                fields.back() += line[i];
            }
            require(i + 1 >= line.size() || line[i + 1] == ',', where, "text after a closing quote");
        } else {
            fields.back() += line[i];
        }
    }
    return fields;
}

inline ListEntry parse_csv_line(std::string_view line, Index number, const std::string& where) {
    std::vector<std::string> fields = split_csv(line, where);
    require(fields.size() <= 2, where, fields.size(), " fields, expected path and label");
    fields.resize(2);
    return {std::string(trimmed(fields[0])), std::string(trimmed(fields[1])), number};
}

inline ListEntry parse_json_line(std::string_view line, Index number, const std::string& where) {
    // Objects of strings only: the parser is told to stop at any nesting, so a hostile line cannot grow.
    const auto shallow = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json&) {
        const bool opens =
            event == nlohmann::json::parse_event_t::object_start || event == nlohmann::json::parse_event_t::array_start;
        require(!opens || depth == 0, where, "nested values are not expected, only \"path\" and \"label\"");
        return true;
    };
    nlohmann::json json;
    try {
        json = nlohmann::json::parse(line.begin(), line.end(), shallow);
    } catch (const nlohmann::json::exception& error) {
        fail(where, "not valid JSON: ", error.what());
    }
    require(json.is_object() && json.contains("path") && json["path"].is_string(), where,
            "expected an object with the string \"path\"");
    ListEntry entry{json["path"].get<std::string>(), "", number};
    if (!json.contains("label") || json["label"].is_null()) return entry;
    require(json["label"].is_string(), where, "\"label\" must be a class name (a string)");
    entry.label = json["label"].get<std::string>();
    return entry;
}

inline bool is_header(const ListEntry& entry) {
    return starts_with_ignoring_case(entry.path, "path") && entry.path.size() == 4 &&
           (entry.label.empty() || (starts_with_ignoring_case(entry.label, "label") && entry.label.size() == 5));
}

/// The entries of the list, each path checked to exist, all with labels or all without.
inline std::vector<ListEntry> read_list(const std::string& path) {
    const std::string text = read_file(path);
    const std::string_view body = without_mark(text);
    const bool json = trimmed(body.substr(0, 4096)).substr(0, 1) == "{";
    const std::filesystem::path folder = std::filesystem::path(path).parent_path();
    std::vector<ListEntry> entries;
    bool first = true;
    for_each_line(body, [&](std::string_view line, Index number) {
        if (trimmed(line).empty()) return;
        const std::string where = concat(path, ": line ", number, ": ");
        require(is_utf8(line), where, "not valid UTF-8");
        ListEntry entry = json ? parse_json_line(line, number, where) : parse_csv_line(line, number, where);
        if (std::exchange(first, false) && !json && is_header(entry)) return;
        require(!entry.path.empty(), where, "the path is empty");
        entry.path = (folder / entry.path).string();
        std::error_code code;
        require(std::filesystem::is_regular_file(entry.path, code), where, "there is no file '", entry.path, "'");
        require(entries.empty() || entries[0].label.empty() == entry.label.empty(), where,
                "images with and without a label are mixed (see line ", entries.empty() ? 0 : entries[0].line, ")");
        entries.push_back(std::move(entry));
    });
    require(!entries.empty(), path, ": the list names no image");
    return entries;
}

}  // namespace detail

/// Images listed in a file: CSV ("path,label" or "path" a line, an optional header line of these words) or JSON lines
/// ({"path": …, "label": …}). Labels are class names. Relative paths start at the list's folder. Without `class_names`
/// the sorted labels are the classes; with them every label must be among them.
/// Throws Error with the line's number for a malformed line, a missing file or an unknown label.
inline Dataset load_list(const std::string& path, const std::vector<std::string>& class_names = {}) {
    std::vector<detail::ListEntry> entries = detail::read_list(path);
    Dataset data;
    data.name = path;
    data.class_names = class_names;
    if (class_names.empty() && !entries[0].label.empty()) {
        std::set<std::string> names;
        for (const detail::ListEntry& entry : entries) names.insert(readable_name(entry.label));
        data.class_names.assign(names.begin(), names.end());
    }
    const std::map<std::string, Index> label_of = labels_by_name(data.class_names);
    std::vector<std::string> paths;
    for (detail::ListEntry& entry : entries) {
        Index label = -1;
        if (!entry.label.empty()) {
            const auto known = label_of.find(readable_name(entry.label));
            require(known != label_of.end(), path, ": line ", entry.line, ": label '", entry.label,
                    "' is not among the class names given");
            label = known->second;
        }
        data.items.push_back({static_cast<Index>(paths.size()), label});
        paths.push_back(std::move(entry.path));
    }
    data.source = std::make_shared<ImageFiles>(std::move(paths));
    return data;
}

}  // namespace promptkd
