// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>
#include <promptkd/core/utf8.hpp>
#include <promptkd/format/file.hpp>

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace promptkd {

namespace detail {

inline std::string_view trimmed(std::string_view text) {
    const std::size_t first = text.find_first_not_of(" \t\r\n");
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

/// Removes a UTF-8 byte order mark.
inline std::string_view without_mark(std::string_view text) {
    if (text.substr(0, 3) == "\xef\xbb\xbf") text.remove_prefix(3);
    return text;
}

/// Calls f(line, number from 1) for every line of `text`, without the line end (LF or CRLF).
template <class F>
void for_each_line(std::string_view text, F&& f) {
    for (Index number = 1; !text.empty(); ++number) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        std::string_view line = text.substr(0, end);
        if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
        f(line, number);
        text.remove_prefix(std::min(end + 1, text.size()));
    }
}

}  // namespace detail

/// The name as people read it: underscores become spaces ("ankle_boot" → "ankle boot").
inline std::string readable_name(std::string name) {
    std::replace(name.begin(), name.end(), '_', ' ');
    return name;
}

/// The prompt of a class: every "{}" of `pattern` replaced by the readable name, e.g. "a photo of a {}.".
/// Throws Error when the pattern has no "{}".
inline std::string prompt_text(const std::string& pattern, const std::string& class_name) {
    const std::string name = readable_name(class_name);
    require(pattern.find("{}") != std::string::npos, "prompt template '", pattern, "' has no '{}' for the class name");
    std::string text;
    std::size_t begin = 0;
    for (std::size_t at; (at = pattern.find("{}", begin)) != std::string::npos; begin = at + 2)
        text += pattern.substr(begin, at - begin) + name;
    return text + pattern.substr(begin);
}

/// What stands between lines where it is neither LF nor CRLF: such a text looks like a single line. Empty: nothing.
inline std::string foreign_line_end(std::string_view text) {
    if (text.find('\0') != std::string_view::npos) return "NUL bytes";
    for (std::size_t at = 0; (at = text.find('\r', at)) != std::string_view::npos; ++at)
        if (at + 1 < text.size() && text[at + 1] != '\n') return "carriage returns alone";
    return text.ends_with('\r') ? "carriage returns alone" : "";
}

/// Reads class names: UTF-8, one a line, in label order. Blank lines, a byte order mark and CRLF are tolerated.
/// Throws Error naming file and lines when there is no name, a name twice (underscores equal spaces), other line ends,
/// or bad UTF-8.
inline std::vector<std::string> read_class_names(const std::string& path) {
    const std::string text = read_file(path, std::size_t{64} << 20);
    const std::string ends = foreign_line_end(text);
    require(ends.empty(), path, ": the names are separated by ", ends, "; write one a line (LF or CRLF)");
    std::vector<std::string> names;
    std::map<std::string, Index> line_of;
    detail::for_each_line(detail::without_mark(text), [&](std::string_view line, Index number) {
        const std::string name(detail::trimmed(line));
        if (name.empty()) return;
        require(detail::is_utf8(name), path, ": line ", number, ": the class name is not valid UTF-8");
        const auto [known, fresh] = line_of.emplace(readable_name(name), number);
        require(fresh, path, ": class name '", name, "' stands on line ", known->second, " and again on line ", number);
        names.push_back(name);
    });
    require(!names.empty(), path, ": the list of class names is empty; write one name a line");
    return names;
}

}  // namespace promptkd
