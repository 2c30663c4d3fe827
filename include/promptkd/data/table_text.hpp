// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>
#include <promptkd/text/class_names.hpp>
#include <promptkd/text/unicode.hpp>

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace promptkd {

/// A row of a table.
struct TableRow {
    std::vector<std::optional<std::string>> cells;  ///< as text; nothing: a list or an object of JSON
    Index line = 0;                                 ///< or number of the entry, from 1
};

/// A table of texts.
struct Table {
    std::string source;                ///< its file
    std::string unit = "line";         ///< what TableRow::line counts
    std::vector<std::string> columns;  ///< empty: there is no header
    std::vector<TableRow> rows;        ///< each as long as the header where there is one

    /// "FILE: line 7: ".
    std::string where(const TableRow& row) const { return concat(source, ": ", unit, " ", row.line, ": "); }
};

/// What a reader of a table knows of it.
struct TableGuess {
    std::function<bool(const std::vector<std::string>&)> header;  ///< whether these are names of columns
    std::function<bool(const std::vector<std::string>&)> row;     ///< whether these can be the cells of a row
};

namespace detail {

/// UTF-16 with a byte order mark (a spreadsheet's "Unicode text") as UTF-8; any other text as it is.
inline std::string utf16_as_utf8(std::string bytes) {
    const std::string_view mark = std::string_view(bytes).substr(0, 2);
    if (mark != "\xff\xfe" && mark != "\xfe\xff") return bytes;
    const std::size_t low = mark == "\xff\xfe" ? 0 : 1;
    const auto unit = [&](std::size_t i) {
        return static_cast<char32_t>(static_cast<unsigned char>(bytes[i + low]) |
                                     static_cast<unsigned char>(bytes[i + 1 - low]) << 8);
    };
    std::string text;
    for (std::size_t i = 2; i + 1 < bytes.size(); i += 2) {
        char32_t point = unit(i);
        if (point >= 0xd800 && point < 0xdc00 && i + 3 < bytes.size()) {
            point = 0x10000 + ((point - 0xd800) << 10) + (unit(i + 2) - 0xdc00);
            i += 2;
        }
        append_utf8(text, point);
    }
    return text;
}

/// Reads tables with a separator, which it finds out.
class DelimitedReader {
public:
    DelimitedReader(std::string_view text, std::string path, const TableGuess& guess)
        : text_(text), path_(std::move(path)), guess_(guess) {}

    Table read() {
        skip_separator_line();
        const bool header = choose_separator();
        Table table;
        for (std::vector<std::string> cells; next(cells);) {
            if (cells.size() == 1 && cells[0].empty()) continue;
            if (header && table.columns.empty()) {
                table.columns = std::move(cells);
                continue;
            }
            add_row(table, std::move(cells));
        }
        return table;
    }

private:
    static constexpr char last_gap = ' ', none = '\n';  // white space before the last cell; one cell a line

    /// "sep=;", which Excel reads and other programs write.
    void skip_separator_line() {
        if (text_.substr(0, 4) != "sep=" || text_.size() < 6) return;
        separator_ = text_[4];
        fixed_ = true;
        at_ = std::min(text_.find('\n'), text_.size() - 1) + 1;
        line_ = 2;
    }

    /// Sets the separator; whether the first row is a header.
    bool choose_separator() {
        const std::string candidates = fixed_ ? std::string(1, separator_) : std::string(",\t;|");
        for (const bool header : {true, false}) {
            std::size_t most = 0;
            for (const char candidate : candidates + (header ? "" : std::string{last_gap, none})) {
                if (most > 0 && (candidate == last_gap || candidate == none)) break;
                const std::vector<std::string> cells = first_row(candidate);
                if (cells.size() <= most || !(header ? guess_.header : guess_.row)(cells)) continue;
                most = cells.size();
                separator_ = candidate;
            }
            if (most > 0) return header;
        }
        if (!fixed_) separator_ = ',';
        for (const char candidate : candidates)
            if (first_row(candidate).size() > first_row(separator_).size()) separator_ = candidate;
        return false;
    }

    /// The cells of the first row that is not blank, the reader staying where it is; none where it cannot be read so.
    std::vector<std::string> first_row(char separator) {
        const auto before = std::make_tuple(at_, line_, row_line_, separator_);
        separator_ = separator;
        std::vector<std::string> cells;
        try {
            while (next(cells) && cells.size() == 1 && cells[0].empty()) {
            }
        } catch (const Error&) {
            cells.clear();
        }
        std::tie(at_, line_, row_line_, separator_) = before;
        return cells;
    }

    void add_row(Table& table, std::vector<std::string> cells) const {
        const std::string where = concat(path_, ": line ", row_line_, ": ");
        if (!table.columns.empty()) {
            while (cells.size() > table.columns.size() && cells.back().empty()) cells.pop_back();
            require(cells.size() <= table.columns.size(), where, cells.size(), " fields, but the header names ",
                    table.columns.size());
            cells.resize(table.columns.size());
        }
        TableRow row;
        row.line = row_line_;
        for (std::string& cell : cells) row.cells.emplace_back(std::move(cell));
        table.rows.push_back(std::move(row));
    }

    /// The next row, trimmed; false at the end.
    bool next(std::vector<std::string>& cells) {
        cells.clear();
        if (at_ >= text_.size()) return false;
        row_line_ = line_;
        const std::size_t begin = at_;
        if (separator_ == last_gap || separator_ == none)
            split_line(cells);
        else
            parse_row(cells);
        require(is_utf8(text_.substr(begin, at_ - begin)), path_, ": line ", row_line_, ": not valid UTF-8");
        return true;
    }

    /// The rest of the line, its end consumed: LF, CRLF or CR.
    std::string_view take_line() {
        const std::size_t end = std::min(text_.find_first_of("\r\n", at_), text_.size());
        const std::string_view line = text_.substr(at_, end - at_);
        at_ = end;
        end_line();
        return line;
    }

    void end_line() {
        if (text_.substr(at_, 2) == "\r\n") ++at_;
        ++at_;
        ++line_;
    }

    void split_line(std::vector<std::string>& cells) {
        const std::string_view line = trimmed(take_line());
        const std::size_t gap = separator_ == none ? std::string_view::npos : line.find_last_of(" \t");
        cells.emplace_back(trimmed(line.substr(0, gap)));
        if (gap != std::string_view::npos) cells.emplace_back(line.substr(gap + 1));
    }

    void parse_row(std::vector<std::string>& cells) {
        for (;;) {
            cells.push_back(parse_cell());
            const bool more = at_ < text_.size() && text_[at_] == separator_;
            if (more) {
                ++at_;
                continue;
            }
            if (at_ < text_.size()) end_line();
            return;
        }
    }

    bool ends_cell(std::size_t i) const {
        return i >= text_.size() || text_[i] == separator_ || text_[i] == '\n' || text_[i] == '\r';
    }

    std::string parse_cell() {
        if (at_ < text_.size() && text_[at_] == '"') return parse_quoted();
        const std::size_t begin = at_;
        while (!ends_cell(at_)) ++at_;
        return std::string(trimmed(text_.substr(begin, at_ - begin)));
    }

    std::string parse_quoted() {
        const std::string where = concat(path_, ": line ", line_, ": ");
        std::string cell;
        for (++at_;; ++at_) {
            require(at_ < text_.size(), where, "a quote is not closed");
            if (text_[at_] == '"' && text_.substr(at_ + 1, 1) != "\"") break;
            if (text_[at_] == '"') ++at_;
            line_ += text_[at_] == '\n';
            cell += text_[at_];
        }
        ++at_;
        while (at_ < text_.size() && text_[at_] == ' ' && text_[at_] != separator_) ++at_;
        require(ends_cell(at_), where, "text after a closing quote");
        return std::string(trimmed(cell));
    }

    std::string_view text_;
    std::string path_;
    const TableGuess& guess_;
    char separator_ = ',';
    bool fixed_ = false;
    std::size_t at_ = 0;
    Index line_ = 1, row_line_ = 1;
};

}  // namespace detail

}  // namespace promptkd
