// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/class_names_file.hpp>
#include <promptkd/data/list_paths.hpp>
#include <promptkd/data/table.hpp>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

namespace detail {

inline constexpr std::array<const char*, 20> path_columns{
    "path",      "file",  "filename",      "filepath", "imagepath", "image", "imagefile",
    "imagename", "img",   "imgpath",       "imgname",  "imgfile",   "photo", "picture",
    "imageid",   "imgid", "imagefilename", "images",   "files",     "id"};
inline constexpr std::array<const char*, 25> label_columns{
    "label",    "class",      "category",   "target",     "classname", "labelname", "categoryname",
    "labels",   "classes",    "species",    "breed",      "y",         "tag",       "groundtruth",
    "gt",       "classlabel", "targets",    "categories", "classid",   "labelid",   "categoryid",
    "targetid", "classindex", "labelindex", "classidx"};
inline constexpr std::array<const char*, 8> split_columns{"split", "subset", "set",   "partition",
                                                          "part",  "phase",  "usage", "fold"};

/// "3.0", a number that a column of floats holds, as "3"; any other text as it is.
inline std::string whole_number(const std::string& text) {
    const std::size_t dot = text.find('.');
    if (dot == std::string::npos || !is_number(text.substr(0, dot))) return text;
    return text.find_first_not_of('0', dot + 1) == std::string::npos ? text.substr(0, dot) : text;
}

}  // namespace detail

/// A table of images: which columns hold their paths, their labels and their parts, by the usual names of such columns
/// ("path", "filename", "image_id", …; "label", "class", "category", …; "split"), or without a header the first and the
/// second column.
class ImageTable {
public:
    /// `classes` decide between several columns of labels; they may be empty. Throws Error naming the line of damage.
    ImageTable(const std::string& path, const ClassNames& classes)
        : files_(std::filesystem::path(path).parent_path()), table_(read_table(path, guess())) {
        choose_path_column();
        choose_label_column(classes);
        choose_split_column();
    }

    /// The table's file.
    const std::string& source() const { return table_.source; }
    /// Whether a column holds paths. entries() and labels() need one.
    bool has_paths() const { return path_ >= 0; }
    /// Whether a column holds labels.
    bool labelled() const { return has_paths() && label_ >= 0; }
    /// "'path', 'caption'": the columns there are, and the columns expected.
    std::string columns_expected() const {
        const bool paths = has_paths() && !columns().empty();
        return concat("the columns ", detail::joined(header(), 12),
                      paths ? " hold no labels; expected" : " are none of those expected",
                      ": for the image 'path', 'file', 'filename', 'file_name', 'filepath', 'image', 'image_path' or "
                      "'image_id', for its class 'label', 'class', 'category', 'target' or 'classname'");
    }

    /// An image of the list.
    struct Entry {
        std::string path;              ///< of its file, which is there
        std::string label;             ///< "": none
        std::optional<DataPart> part;  ///< where the table names parts
        Index line = 0;                ///< in the file
    };

    /// All images. Throws Error with the line of a file that is not there, of an empty path, and of labels that only
    /// some images have.
    std::vector<Entry> entries() {
        require(has_paths(), source(), ": ", columns_expected());
        std::vector<Entry> list;
        for (const TableRow& row : table_.rows) {
            Entry entry;
            entry.line = row.line;
            entry.path = file_of(row);
            if (label_ >= 0) entry.label = detail::whole_number(text(row, label_));
            if (split_ >= 0) entry.part = part_named(text(row, split_));
            require(list.empty() || list[0].label.empty() == entry.label.empty(), table_.where(row),
                    "images with and without a label are mixed (see ", table_.unit, " ",
                    list.empty() ? 0 : list[0].line, ")");
            list.push_back(std::move(entry));
        }
        require(!list.empty(), source(), ": the list names no image");
        return list;
    }

    /// Whether the table names the part of each image.
    bool has_parts() const { return split_ >= 0; }
    /// "FILE: line 7: ".
    std::string where(Index line) const { return concat(source(), ": ", table_.unit, " ", line, ": "); }
    /// How images were found that do not lie where their names say; empty: they do.
    const std::string& note() const { return files_.note(); }

private:
    TableGuess guess() {
        const auto header = [](const std::vector<std::string>& cells) {
            const Index path = detail::find_column(cells, detail::path_columns);
            const bool id = path >= 0 && detail::column_key(cells[static_cast<std::size_t>(path)]) == "id";
            const bool known = path >= 0 && (!id || detail::find_column(cells, detail::label_columns) >= 0);
            return known && std::none_of(cells.begin(), cells.end(), &has_image_name_cell);
        };
        const auto row = [this](const std::vector<std::string>& cells) {
            return !cells.empty() && !cells[0].empty() && (has_image_name_cell(cells[0]) || finds(cells[0]));
        };
        return {header, row};
    }

    static bool has_image_name_cell(const std::string& cell) { return !cell.empty() && has_image_name(cell); }

    bool finds(const std::string& name) {
        try {
            return files_.find(name).has_value();
        } catch (const Error&) {
            return true;  // in two places
        }
    }

    const std::vector<std::string>& columns() const { return table_.columns; }

    /// The names of the columns, or the first row.
    std::vector<std::string> header() const {
        if (!columns().empty()) return columns();
        std::vector<std::string> cells;
        if (!table_.rows.empty())
            for (const auto& cell : table_.rows.front().cells) cells.push_back(cell.value_or("…"));
        return cells;
    }

    /// Of several columns that could hold paths the first whose first value is a file.
    void choose_path_column() {
        if (columns().empty()) {
            path_ = 0;
            return;
        }
        path_ = detail::find_column(columns(), detail::path_columns);
        for (const char* key : detail::path_columns)
            for (std::size_t i = 0; i < columns().size() && !table_.rows.empty(); ++i) {
                const auto& first = table_.rows.front().cells[i];
                if (detail::column_key(columns()[i]) != key || !first || first->empty() || !finds(*first)) continue;
                path_ = static_cast<Index>(i);
                return;
            }
    }

    /// Of several columns that could hold labels the one whose values are the classes given, else the first with words.
    void choose_label_column(const ClassNames& classes) {
        if (columns().empty()) {
            choose_second_column();
            return;
        }
        std::vector<Index> candidates;
        for (const char* key : detail::label_columns)
            for (std::size_t i = 0; i < columns().size(); ++i)
                if (detail::column_key(columns()[i]) == key && static_cast<Index>(i) != path_)
                    candidates.push_back(static_cast<Index>(i));
        if (candidates.empty()) return;
        label_ = candidates.front();
        for (const bool by_name : {true, false})
            for (const Index column : candidates) {
                if (by_name ? !values_are(column, classes) : values_are_numbers(column)) continue;
                label_ = column;
                return;
            }
    }

    void choose_second_column() {
        std::size_t most = 1;
        for (const TableRow& row : table_.rows) most = std::max(most, row.cells.size());
        for (const TableRow& row : table_.rows)
            require(row.cells.size() <= 2, table_.where(row), row.cells.size(),
                    " fields and no header that names them; expected path and label, or a header such as path,label");
        if (most == 2) label_ = 1;
        for (TableRow& row : table_.rows) row.cells.resize(most, "");
    }

    std::set<std::string> values(Index column) const {
        std::set<std::string> found;
        for (const TableRow& row : table_.rows)
            if (const auto& cell = row.cells[static_cast<std::size_t>(column)])
                found.insert(detail::whole_number(*cell));
        return found;
    }

    bool values_are(Index column, const ClassNames& classes) const {
        const detail::ClassFinder finder(classes);
        const std::set<std::string> found = values(column);
        return std::all_of(found.begin(), found.end(), [&](const std::string& name) { return finder.find(name) >= 0; });
    }

    bool values_are_numbers(Index column) const {
        const std::set<std::string> found = values(column);
        return std::all_of(found.begin(), found.end(),
                           [](const std::string& value) { return detail::is_number(value); });
    }

    /// A column by that name all of whose values are parts.
    void choose_split_column() {
        const Index column = columns().empty() ? -1 : detail::find_column(columns(), detail::split_columns);
        if (column < 0 || column == path_ || column == label_) return;
        const std::set<std::string> found = values(column);
        const bool parts =
            std::all_of(found.begin(), found.end(), [](const std::string& v) { return part_named(v).has_value(); });
        if (parts && !found.empty()) split_ = column;
    }

    std::string text(const TableRow& row, Index column) const {
        const auto& cell = row.cells.at(static_cast<std::size_t>(column));
        require(
            cell.has_value(), table_.where(row), "the value of ",
            columns().empty() ? concat("column ", column + 1) : "'" + columns()[static_cast<std::size_t>(column)] + "'",
            " is a list or an object, expected a text or a number");
        return *cell;
    }

    std::string file_of(const TableRow& row) {
        const std::string name = text(row, path_);
        require(!name.empty(), table_.where(row), "the path is empty");
        require(name.find('\0') == std::string::npos, table_.where(row), "the path holds a zero byte");
        const std::optional<std::string> file = find_file(row, name);
        if (file) return *file;
        const bool plain = columns().empty() && &row == &table_.rows.front() && !has_image_name_cell(name);
        const std::filesystem::path at = std::filesystem::path(source()).parent_path() / name;
        fail(table_.where(row), "there is no file '", at.string(), "'", plain ? "; " + columns_expected() : "");
    }

    std::optional<std::string> find_file(const TableRow& row, const std::string& name) {
        try {
            return files_.find(name);
        } catch (const Error& error) {
            fail(table_.where(row), error.what());
        }
    }

    detail::ListPaths files_;
    Table table_;
    Index path_ = -1, label_ = -1, split_ = -1;
};

}  // namespace promptkd
