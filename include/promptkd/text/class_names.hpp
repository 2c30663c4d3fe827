// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>
#include <promptkd/core/utf8.hpp>
#include <promptkd/format/file.hpp>

#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>
#include <vector>

namespace promptkd {

/// The name of a data set by which it is looked up: case and - or _ do not tell sets apart.
inline std::string data_set_key(std::string name) {
    for (char& c : name) c = c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return name;
}

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

}  // namespace promptkd
