// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/class_names.hpp>
#include <promptkd/data/table.hpp>
#include <promptkd/text/imagenet_classes.hpp>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

namespace detail {

/// Names of columns, letters and digits alone, in lower case: "Class Name" is "classname".
inline std::string column_key(const std::string& column) {
    std::string key;
    for (const char c : column)
        if (std::isalnum(static_cast<unsigned char>(c)) != 0)
            key += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return key;
}

/// The first column called by one of `keys`, in the order of `keys`; −1: none.
template <std::size_t N>
Index find_column(const std::vector<std::string>& columns, const std::array<const char*, N>& keys) {
    for (const char* key : keys)
        for (std::size_t i = 0; i < columns.size(); ++i)
            if (column_key(columns[i]) == key) return static_cast<Index>(i);
    return -1;
}

inline constexpr std::array<const char*, 12> class_name_columns{"classname", "labelname", "name",  "class",
                                                                "category",  "label",     "words", "text",
                                                                "title",     "names",     "breed", "species"};
inline constexpr std::array<const char*, 14> class_id_columns{"id",   "classid", "labelid",  "index", "classindex",
                                                              "wnid", "synset",  "synsetid", "label", "target",
                                                              "code", "number",  "idx",      "folder"};

/// Pairs of an id and a name as classes: ids that number the names 0 … N−1 or 1 … N give the order.
inline ClassNames classes_of_pairs(std::vector<std::pair<std::string, std::string>> pairs) {
    const auto number = [](const auto& pair) { return class_number(pair.first); };
    if (std::all_of(pairs.begin(), pairs.end(), number))
        std::stable_sort(pairs.begin(), pairs.end(),
                         [&](const auto& a, const auto& b) { return *number(a) < *number(b); });
    ClassNames classes;
    for (auto& [id, name] : pairs) {
        classes.ids.push_back(std::move(id));
        classes.names.push_back(std::move(name));
    }
    return classes;
}

/// Whether the keys are ids: WordNet numbers, or the numbers 0 … N−1 or 1 … N; each once.
inline bool are_ids(const std::vector<std::string>& keys) {
    if (std::set<std::string>(keys.begin(), keys.end()).size() != keys.size()) return false;
    if (std::all_of(keys.begin(), keys.end(), &is_wordnet_id)) return true;
    std::set<Index> numbers;
    for (const std::string& key : keys) {
        if (!is_number(key) || key.size() > 9) return false;
        numbers.insert(std::stoll(key));
    }
    const auto n = static_cast<Index>(keys.size());
    return static_cast<Index>(numbers.size()) == n && *numbers.begin() <= 1 &&
           *numbers.rbegin() == *numbers.begin() + n - 1;
}

/// What a WordNet file calls a class: the first of the words with commas between.
inline std::string first_synonym(const std::string& id, const std::string& name) {
    const std::size_t comma = is_wordnet_id(id) ? name.find(',') : std::string::npos;
    return std::string(trimmed(std::string_view(name).substr(0, comma)));
}

/// Lines "id name", "id,name" or "id<tab>name" as classes; no names where they are not all of this form.
inline ClassNames classes_of_id_lines(const std::vector<std::string>& lines) {
    std::vector<std::string> keys;
    std::vector<std::pair<std::string, std::string>> pairs;
    for (const std::string& line : lines) {
        const std::size_t gap = line.find_first_of(" \t,;:");
        if (gap == std::string::npos) return {};
        const std::size_t begin = line.find_first_not_of(" \t,;:", gap);
        const std::string name(trimmed(begin == std::string::npos ? "" : line.substr(begin)));
        keys.push_back(line.substr(0, gap));
        if (name.empty()) return {};
        pairs.emplace_back(keys.back(), first_synonym(keys.back(), name));
    }
    return are_ids(keys) ? classes_of_pairs(std::move(pairs)) : ClassNames{};
}

/// The names of `table`, which holds a name, or a name and its id, in each row.
inline ClassNames classes_of_table(const Table& table) {
    const Index name = find_column(table.columns, class_name_columns);
    Index id = find_column(table.columns, class_id_columns);
    if (id == name) id = -1;
    require(table.columns.empty() || name >= 0, table.source, ": none of the columns ", joined(table.columns, 10),
            " holds class names; expected 'name', 'class' or 'label', and for their ids 'id' or 'index'");
    require(!table.rows.empty(), table.source, ": the list of class names is empty");
    std::vector<std::string> names, ids;
    for (const TableRow& row : table.rows) {
        const auto cell = [&](Index i) {
            const auto& found = row.cells.at(static_cast<std::size_t>(i));
            require(found && !found->empty(), table.where(row), "the class name is empty or no text");
            return *found;
        };
        const bool pair = table.columns.empty() && row.cells.size() == 2;
        require(!row.cells.empty() && (!table.columns.empty() || row.cells.size() <= 2), table.where(row),
                "expected a name, or an id and a name");
        names.push_back(cell(table.columns.empty() ? (pair ? 1 : 0) : name));
        if (pair || id >= 0) ids.push_back(cell(pair ? 0 : id));
    }
    if (ids.size() != names.size()) return names;
    if (!are_ids(ids) && are_ids(names)) ids.swap(names);  // {"cat": 0}
    std::vector<std::pair<std::string, std::string>> pairs;
    for (std::size_t i = 0; i < names.size(); ++i) pairs.emplace_back(ids[i], first_synonym(ids[i], names[i]));
    return classes_of_pairs(std::move(pairs));
}

/// Lines of a text, whatever ends them, trimmed; blank ones are left out. `what` names what each is, in messages.
/// Throws Error for bytes that are no text.
inline std::vector<std::string> text_lines(std::string_view text, const std::string& path, const char* what) {
    std::vector<std::string> lines;
    for (Index number = 1; !text.empty(); ++number) {
        const std::size_t end = std::min(text.find_first_of("\r\n"), text.size());
        const std::string line(trimmed(text.substr(0, end)));
        const bool pair = text.substr(end, 2) == "\r\n";
        text.remove_prefix(std::min(text.size(), end + (pair ? 2 : 1)));
        require(is_utf8(line), path, ": line ", number, ": the ", what, " is not valid UTF-8");
        const bool control = std::any_of(line.begin(), line.end(), [](unsigned char c) { return c < 32 && c != '\t'; });
        require(!control, path, ": line ", number, ": holds a control character; write one ", what, " a line");
        if (!line.empty()) lines.push_back(line);
    }
    require(!lines.empty(), path, ": the list of ", what, "s is empty; write one a line");
    return lines;
}

/// imagenet_class_index.json: {"0": ["n01440764", "tench"], …}.
inline ClassNames classes_of_index(const nlohmann::ordered_json& document) {
    std::vector<std::pair<std::string, std::string>> pairs;
    std::vector<std::string> keys;
    for (const auto& [key, value] : document.items()) {
        const bool pair = value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string();
        if (!pair || !is_wordnet_id(value[0].get<std::string>())) return {};
        pairs.emplace_back(value[0].get<std::string>(), value[1].get<std::string>());
        keys.push_back(key);
    }
    return are_ids(keys) ? classes_of_pairs(std::move(pairs)) : ClassNames{};
}

inline ClassNames classes_of_json(std::string_view text, const std::string& path) {
    const TableGuess guess{[](const auto& cells) { return find_column(cells, class_name_columns) >= 0; }, {}};
    const std::string_view body = trimmed(text);
    if (body.substr(0, 1) == "{" && nlohmann::json::accept(body.begin(), body.end())) {
        const ClassNames indexed = classes_of_index(parse_json(body, path + ": "));
        if (!indexed.empty()) return indexed;
    }
    Table table = read_json_table(body, path, guess);
    table.source = path;
    return classes_of_table(table);
}

/// Whether the first line names columns of which one holds class names.
inline bool has_class_header(const std::string& line) {
    if (line.find_first_of(",;\t") == std::string::npos) return false;
    std::vector<std::string> cells;
    std::string_view rest(line);
    while (!rest.empty()) {
        const std::size_t end = std::min(rest.find_first_of(",;\t"), rest.size());
        cells.emplace_back(trimmed(rest.substr(0, end)));
        rest.remove_prefix(std::min(rest.size(), end + 1));
    }
    return find_column(cells, class_name_columns) >= 0 && find_column(cells, class_id_columns) >= 0;
}

/// Throws Error for a YAML file (as detectors have their names in), whose keys would be taken as names.
inline void refuse_yaml(const std::vector<std::string>& lines, const std::string& path) {
    const bool called = path.ends_with(".yaml") || path.ends_with(".yml");
    const bool key = std::any_of(lines.begin(), lines.end(),
                                 [](const std::string& line) { return line == "names:" || line == "---"; });
    require(!called && !key, path, ": looks like YAML, which is not read; write one class name a line, or JSON");
}

}  // namespace detail

/// The lines of a text file, trimmed, without blank ones. Throws Error naming the line that is no text, and for a file
/// without any.
inline std::vector<std::string> read_text_lines(const std::string& path) {
    const std::string bytes = detail::utf16_as_utf8(read_file(path, std::size_t{64} << 20));
    return detail::text_lines(detail::without_mark(bytes), path, "text");
}

/// Reads class names: one a line in label order; lines "id name" (ImageNet's classnames.txt, LOC_synset_mapping.txt, of
/// whose synonyms the first counts); a CSV or TSV table with a header; a JSON list of names or records, an object
/// {"id": "name"} or {"name": number}, JSON lines. Ids are WordNet numbers or the numbers 0 … N−1 or 1 … N, which give
/// the order of the labels; anything else in front of a name belongs to the name. Names may repeat: see
/// distinct_names(). The name "imagenet" stands for OpenAI's names of ImageNet's classes, with their WordNet numbers.
/// Throws Error naming the file and line of what is no class name.
inline ClassNames read_class_names_file(const std::string& path) {
    if (path == "imagenet" && !std::filesystem::exists(path)) return {imagenet_class_names(), imagenet_class_ids()};
    const std::string bytes = detail::utf16_as_utf8(read_file(path, std::size_t{64} << 20));
    const std::string_view text = detail::without_mark(bytes);
    const std::string_view begin = detail::trimmed(text).substr(0, 1);
    if (begin == "[" || begin == "{") return detail::classes_of_json(text, path);
    const std::vector<std::string> lines = detail::text_lines(text, path, "class name");
    detail::refuse_yaml(lines, path);
    if (detail::has_class_header(lines.front())) {
        const auto header = [](const auto& cells) {
            return detail::find_column(cells, detail::class_name_columns) >= 0;
        };
        const TableGuess guess{header, [](const auto&) { return false; }};
        Table table = detail::DelimitedReader(text, path, guess).read();
        table.source = path;
        return detail::classes_of_table(table);
    }
    ClassNames mapped = detail::classes_of_id_lines(lines);
    return mapped.empty() ? ClassNames(lines) : mapped;
}

}  // namespace promptkd
