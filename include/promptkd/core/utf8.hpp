// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace promptkd {

namespace detail {

/// Bytes of the UTF-8 sequence at the start of `text`; 0 when it is not valid (overlong, surrogate, cut, > U+10FFFF).
inline std::size_t utf8_length(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned first = byte(0);
    if (first < 0x80) return 1;
    const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
    const unsigned low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    const unsigned high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (byte(1) < low || byte(1) > high) return 0;
    for (std::size_t i = 2; i < length; ++i)
        if (byte(i) < 0x80 || byte(i) > 0xbf) return 0;
    return length;
}

inline bool is_utf8(std::string_view text) {
    while (!text.empty()) {
        const std::size_t length = utf8_length(text);
        if (length == 0) return false;
        text.remove_prefix(length);
    }
    return true;
}

/// "\xff": a byte that cannot be shown.
inline void append_escaped(std::string& text, unsigned char byte) {
    constexpr const char* digits = "0123456789abcdef";
    text += "\\x";
    text += digits[byte >> 4];
    text += digits[byte & 15];
}

/// The value of a hexadecimal digit as append_escaped() writes it, −1 for anything else.
inline int digit_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

}  // namespace detail

/// The parts of a text between its commas, empty ones too; one at least.
inline std::vector<std::string> comma_separated(const std::string& text) {
    std::vector<std::string> parts;
    for (std::size_t from = 0; from <= text.size();) {
        const std::size_t comma = std::min(text.find(',', from), text.size());
        parts.push_back(text.substr(from, comma - from));
        from = comma + 1;
    }
    return parts;
}

/// `text` with every byte that is not part of valid UTF-8 as "\xff". File names are bytes: so they stand in JSON.
inline std::string escape_bytes(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        const std::size_t length = detail::utf8_length(text);
        if (length == 0)
            detail::append_escaped(out, static_cast<unsigned char>(text[0]));
        else
            out += text.substr(0, length);
        text.remove_prefix(length == 0 ? 1 : length);
    }
    return out;
}

/// The bytes that escape_bytes() was given, where `text` holds an escaped byte that is not valid UTF-8; else `text`.
inline std::string unescape_bytes(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool escape = i + 3 < text.size() && text[i] == '\\' && text[i + 1] == 'x';
        const int high = escape ? detail::digit_value(text[i + 2]) : -1;
        const int low = escape ? detail::digit_value(text[i + 3]) : -1;
        if (high < 8 || low < 0) {
            out += text[i];
            continue;
        }
        out += static_cast<char>(16 * high + low);
        i += 3;
    }
    return detail::is_utf8(out) ? std::string(text) : out;
}

/// `text` as one line that a terminal shows as it is: line ends as "\n", other control characters and bytes that are
/// not UTF-8 as "\x1b".
inline std::string printable(std::string_view text) {
    std::string out;
    const std::string valid = escape_bytes(text);
    for (std::size_t i = 0; i < valid.size(); ++i) {
        const auto byte = static_cast<unsigned char>(valid[i]);
        const auto next = static_cast<unsigned char>(i + 1 < valid.size() ? valid[i + 1] : 0);
        const bool high_control = byte == 0xc2 && next < 0xa0;  // U+0080 to U+009F
        if (valid[i] == '\n') {
            out += "\\n";
        } else if (byte < 32 || byte == 127 || high_control) {
            detail::append_escaped(out, byte);
            if (high_control) detail::append_escaped(out, static_cast<unsigned char>(valid[++i]));
        } else {
            out += valid[i];
        }
    }
    return out;
}

}  // namespace promptkd
