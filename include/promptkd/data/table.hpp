// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/table_json.hpp>
#include <promptkd/data/table_text.hpp>
#include <promptkd/format/file.hpp>

#include <string>
#include <string_view>

namespace promptkd {

namespace detail {

/// Throws Error naming the kind of a file that is no text.
inline void require_text(const std::string& bytes, const std::string& path) {
    const std::string_view text(bytes);
    require(text.substr(0, 4) != "PAR1", path, ": a Parquet file, which is not read; save the table as CSV");
    require(text.substr(0, 4) != "PK\x03\x04", path,
            ": an Excel workbook or another zip archive, which is not read; save the table as CSV");
    require(text.find('\0') == std::string_view::npos, path,
            ": holds zero bytes; expected a text file (CSV, TSV, JSON or JSON lines)");
}

}  // namespace detail

/// Reads a table: comma, semicolon, tab or bar between the cells (RFC 4180's quotes), white space before the last cell,
/// or one cell a line; a JSON array, JSON lines, a JSON object of columns, of records or of pairs. UTF-8 or UTF-16 with
/// a byte order mark. `guess` knows the headers and rows that are expected. Throws Error naming the line of damage.
inline Table read_table(const std::string& path, const TableGuess& guess) {
    const std::string bytes = detail::utf16_as_utf8(read_file(path, std::size_t{1} << 30));
    detail::require_text(bytes, path);
    const std::string_view text = detail::without_mark(bytes);
    const std::string_view begin = detail::trimmed(text.substr(0, 4096)).substr(0, 1);
    Table table = begin == "{" || begin == "[" ? detail::read_json_table(text, path, guess)
                                               : detail::DelimitedReader(text, path, guess).read();
    table.source = path;
    return table;
}

}  // namespace promptkd
