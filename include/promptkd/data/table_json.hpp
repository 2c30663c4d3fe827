// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/table_text.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace promptkd::detail {

/// A value of JSON whose depth is limited, so that a hostile file cannot grow. Throws Error behind `where`.
inline nlohmann::ordered_json parse_json(std::string_view text, const std::string& where) {
    using Json = nlohmann::ordered_json;
    const auto limited = [&](int depth, Json::parse_event_t event, Json&) {
        const bool opens = event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start;
        require(!opens || depth < 64, where, "nested values of more than 64 levels");
        return true;
    };
    try {
        return Json::parse(text.begin(), text.end(), limited);
    } catch (const Json::exception& error) {
        fail(where, "not valid JSON: ", error.what());
    }
}

/// A scalar as text ("" for null); nothing for lists and objects.
inline std::optional<std::string> text_of_json(const nlohmann::ordered_json& value) {
    if (value.is_string()) return value.get<std::string>();
    if (value.is_null()) return "";
    if (value.is_structured()) return std::nullopt;
    return value.dump();
}

/// Collects records of JSON in a table. Columns stand in the order in which they first occur.
class JsonTable {
public:
    explicit JsonTable(std::string path) { table_.source = std::move(path); }

    Table take() {
        for (TableRow& row : table_.rows) row.cells.resize(std::max(row.cells.size(), table_.columns.size()), "");
        return std::move(table_);
    }
    /// Counts entries instead of lines.
    void count_entries() { table_.unit = "entry"; }

    /// An object, a list of cells or a single cell.
    void add(const nlohmann::ordered_json& record, Index line) {
        TableRow row;
        row.line = line;
        if (record.is_object()) {
            for (const auto& [key, value] : record.items()) {
                const std::size_t column = column_of(key);
                if (row.cells.size() <= column) row.cells.resize(column + 1, "");
                row.cells[column] = text_of_json(value);
            }
        } else if (record.is_array()) {
            for (const auto& value : record) row.cells.push_back(text_of_json(value));
        } else {
            row.cells.push_back(text_of_json(record));
        }
        require(!record.is_object() || !table_.columns.empty(), table_.where(row), "the object is empty");
        require(table_.rows.empty() || record.is_object() == objects_, table_.where(row), "expected ",
                objects_ ? "an object" : "a text or a list of texts", ", as before");
        objects_ = record.is_object();
        table_.rows.push_back(std::move(row));
    }

    /// A row of two cells.
    void add_pair(const std::string& first, const nlohmann::ordered_json& second) {
        TableRow row;
        row.line = static_cast<Index>(table_.rows.size()) + 1;
        row.cells = {first, text_of_json(second)};
        table_.rows.push_back(std::move(row));
    }

private:
    std::size_t column_of(const std::string& name) {
        const auto [found, fresh] = places_.emplace(name, table_.columns.size());
        if (fresh) table_.columns.push_back(name);
        return found->second;
    }

    Table table_;
    bool objects_ = false;
    std::map<std::string, std::size_t> places_;
};

inline void add_records(const nlohmann::ordered_json& list, JsonTable& table) {
    Index entry = 0;
    for (const auto& record : list) table.add(record, ++entry);
}

/// {"path": […], "label": […]}, or pandas' {"path": {"0": …}, "label": {"0": …}}.
inline void add_columns(const nlohmann::ordered_json& object, const std::string& path, JsonTable& table) {
    const std::size_t rows = object.front().size();
    for (std::size_t i = 0; i < rows; ++i) {
        nlohmann::ordered_json record = nlohmann::ordered_json::object();
        for (const auto& [key, column] : object.items()) {
            require(column.size() == rows, path, ": column '", key, "' has ", column.size(), " values, another one ",
                    rows);
            record[key] =
                column.is_array() ? column[i] : std::next(column.begin(), static_cast<std::ptrdiff_t>(i)).value();
        }
        table.add(record, static_cast<Index>(i) + 1);
    }
}

inline bool all_of_json(const nlohmann::ordered_json& object, bool (*holds)(const nlohmann::ordered_json&)) {
    return std::all_of(object.begin(), object.end(), holds);
}

/// The names of an object's values that are no lists and no objects.
inline std::vector<std::string> scalar_keys(const nlohmann::ordered_json& object) {
    std::vector<std::string> keys;
    if (object.is_object())
        for (const auto& [key, value] : object.items())
            if (!value.is_structured()) keys.push_back(key);
    return keys;
}

/// One object: records under some key (those with columns that are expected first), columns, or pairs {"a.jpg": "cat"}.
inline void add_object(const nlohmann::ordered_json& object, const std::string& path, const TableGuess& guess,
                       JsonTable& table) {
    using Json = nlohmann::ordered_json;
    for (const bool expected : {true, false})
        for (const auto& [key, value] : object.items()) {
            const bool records =
                value.is_array() && !value.empty() && all_of_json(value, [](const Json& v) { return v.is_object(); });
            if (records && (!expected || guess.header(scalar_keys(value.front())))) return add_records(value, table);
        }
    const bool structured = !object.empty() && all_of_json(object, [](const Json& v) { return v.is_structured(); });
    const bool lists = structured && object.size() > 1 && object.front().size() > 0;
    const bool same = lists && std::all_of(object.begin(), object.end(),
                                           [&](const Json& v) { return v.size() == object.front().size(); });
    if (same && !object.front().front().is_structured()) return add_columns(object, path, table);
    for (const auto& [key, value] : object.items()) table.add_pair(key, value);
}

/// Whether the first line is a record of JSON lines: a whole value that is not the whole document, or a document of one
/// record with columns that are expected.
inline bool begins_json_lines(std::string_view text, const TableGuess& guess) {
    const std::string_view body = trimmed(text), line = trimmed(body.substr(0, body.find('\n')));
    if (!nlohmann::json::accept(line.begin(), line.end())) return false;
    if (line.size() < body.size()) return true;
    const nlohmann::ordered_json document = parse_json(line, "");
    return guess.header(scalar_keys(document));
}

/// JSON lines where the first line is a value of its own, else one document.
inline Table read_json_table(std::string_view text, const std::string& path, const TableGuess& guess) {
    JsonTable table(path);
    if (begins_json_lines(text, guess)) {
        for_each_line(text, [&](std::string_view line, Index number) {
            line = trimmed(line);
            if (!line.empty()) table.add(parse_json(line, concat(path, ": line ", number, ": ")), number);
        });
        return table.take();
    }
    const bool one_line = trimmed(text).find('\n') == std::string_view::npos;
    const nlohmann::ordered_json document = parse_json(text, path + (one_line ? ": line 1: " : ": "));
    table.count_entries();
    if (document.is_array())
        add_records(document, table);
    else
        add_object(document, path, guess, table);
    return table.take();
}

}  // namespace promptkd::detail
