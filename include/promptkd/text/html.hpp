// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/text/html_entities.hpp>
#include <promptkd/text/unicode.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

/// HTML character references, decoded by the rules of Python's `html.unescape` (HTML5's own, errors included).
namespace promptkd::detail {

struct HtmlEntity {
    std::u32string text;
    bool without_semicolon = false;
};

using HtmlEntities = std::unordered_map<std::string_view, HtmlEntity>;

inline HtmlEntities parse_html_entities() {
    HtmlEntities entities;
    std::string_view table = html_entity_table;
    while (!table.empty()) {
        const std::string_view entry = table.substr(0, table.find(' '));
        table.remove_prefix(entry.size() + 1);
        const std::size_t sign = entry.find_first_of("=!");
        HtmlEntity entity;
        entity.without_semicolon = entry[sign] == '!';
        char32_t point = 0;
        for (const char c : entry.substr(sign + 1)) {
            if (c == ',') {
                entity.text.push_back(point);
                point = 0;
            } else {
                point = point * 16 + static_cast<char32_t>(c <= '9' ? c - '0' : c - 'A' + 10);
            }
        }
        entity.text.push_back(point);
        entities.emplace(entry.substr(0, sign), std::move(entity));
    }
    return entities;
}

inline const HtmlEntities& html_entities() {
    static const HtmlEntities entities = parse_html_entities();
    return entities;
}

/// The entity called `name` (no semicolon), or null; `bare` restricts to those that HTML reads without a semicolon.
inline const HtmlEntity* find_entity(std::string_view name, bool bare) {
    const auto it = html_entities().find(name);
    return it == html_entities().end() || (bare && !it->second.without_semicolon) ? nullptr : &it->second;
}

inline bool is_ascii_digit(char32_t c) { return c >= '0' && c <= '9'; }
inline bool is_hex_digit(char32_t c) { return is_ascii_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
inline bool is_ascii_alnum(char32_t c) { return is_ascii_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/// The character that Windows-1252 has at 0x80–0x9f; undefined places keep their value.
inline char32_t windows_1252(char32_t byte) {
    constexpr char16_t table[32] = {0x20ac, 0x81,   0x201a, 0x192,  0x201e, 0x2026, 0x2020, 0x2021,
                                    0x2c6,  0x2030, 0x160,  0x2039, 0x152,  0x8d,   0x17d,  0x8f,
                                    0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014,
                                    0x2dc,  0x2122, 0x161,  0x203a, 0x153,  0x9d,   0x17e,  0x178};
    return byte >= 0x80 && byte <= 0x9f ? table[byte - 0x80] : byte;
}

/// What a numeric reference to `value` stands for: HTML5's replacements, nothing for other control characters.
inline std::u32string numeric_reference(std::uint32_t value) {
    if (value == 0 || (value >= 0xd800 && value <= 0xdfff) || value > 0x10ffff) return U"\ufffd";
    if (value >= 0x80 && value <= 0x9f) return std::u32string(1, windows_1252(value));
    const bool control =
        (value < 0x20 && value != 0x9 && value != 0xa && value != 0xc && value != 0xd) || value == 0x7f;
    const bool noncharacter = (value >= 0xfdd0 && value <= 0xfdef) || (value & 0xfffe) == 0xfffe;
    if (control || noncharacter) return {};
    return std::u32string(1, static_cast<char32_t>(value));
}

/// Reads a numeric reference at text[at] == '&'. Returns its length (0: there is none) and appends its text.
inline std::size_t read_numeric_reference(std::u32string_view text, std::size_t at, std::u32string& out) {
    std::size_t i = at + 1;
    if (i >= text.size() || text[i] != '#') return 0;
    ++i;
    const bool hexadecimal = i < text.size() && (text[i] == 'x' || text[i] == 'X');
    if (hexadecimal) ++i;
    const std::size_t first = i;
    std::uint32_t value = 0;
    for (; i < text.size() && (hexadecimal ? is_hex_digit(text[i]) : is_ascii_digit(text[i])); ++i) {
        const char32_t c = text[i];
        const std::uint32_t digit = is_ascii_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10;
        if (value <= 0x10ffff) value = value * (hexadecimal ? 16 : 10) + digit;
    }
    if (i == first) return 0;
    if (i < text.size() && text[i] == ';') ++i;
    out += numeric_reference(value);
    return i - at;
}

/// Reads a named reference at text[at] == '&': exact, or else the longest name that is valid without a semicolon.
inline std::size_t read_named_reference(std::u32string_view text, std::size_t at, std::u32string& out) {
    std::string name;  // stops at the first character no name has; the match would go on, but no name could
    std::size_t i = at + 1;
    while (i < text.size() && name.size() < 32 && is_ascii_alnum(text[i])) name.push_back(static_cast<char>(text[i++]));
    if (i < text.size() && text[i] == ';') {
        if (const HtmlEntity* entity = find_entity(name, false)) {
            out += entity->text;
            return i + 1 - at;
        }
    }
    for (; name.size() > 1; name.pop_back()) {
        if (const HtmlEntity* entity = find_entity(name, true)) {
            out += entity->text;
            return name.size() + 1;
        }
    }
    return 0;
}

/// Replaces every reference by what `read(text, position, out)` makes of it; 0 characters read means no reference.
template <class Read>
std::u32string replace_references(const std::u32string& text, Read read) {
    if (text.find(U'&') == std::u32string::npos) return text;
    std::u32string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size();) {
        const std::size_t n = text[i] == '&' ? read(text, i, out) : 0;
        if (n == 0) out.push_back(text[i]);
        i += n == 0 ? 1 : n;
    }
    return out;
}

/// Python's html.unescape.
inline std::u32string html_unescape(const std::u32string& text) {
    return replace_references(text, [](std::u32string_view all, std::size_t at, std::u32string& out) {
        const std::size_t n = read_numeric_reference(all, at, out);
        return n > 0 ? n : read_named_reference(all, at, out);
    });
}

/// Upper case of an entity's text, Python's rules for the characters that entities have.
inline std::u32string upper_case_entity(const std::u32string& text) {
    constexpr const char32_t* ligatures[] = {U"FF", U"FI", U"FL", U"FFI", U"FFL"};
    std::u32string out;
    for (const char32_t c : text) {
        if (c == 0xdf)
            out += U"SS";
        else if (c == 0x149)
            out += U"\u02bcN";
        else if (c >= 0xfb00 && c <= 0xfb04)
            out += ligatures[c - 0xfb00];
        else
            out.push_back(static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
    }
    return out;
}

/// A name that someone shouted: "NTILDE" for "ntilde", where HTML itself would leave it alone.
inline bool read_shouted_entity(std::string name, std::u32string& out) {
    for (std::size_t n = name.size(); n > 1; --n)
        if (find_entity(std::string_view(name).substr(0, n), true)) return false;
    for (char& c : name) {
        if (c >= 'a' && c <= 'z') return false;
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    }
    const HtmlEntity* entity = find_entity(name, false);
    if (entity) out += upper_case_entity(entity->text);
    return entity != nullptr;
}

/// The cautious unescaping of the text fixer: complete references only, those that end in a semicolon.
inline std::u32string html_unescape_strict(const std::u32string& text) {
    return replace_references(text, [](std::u32string_view all, std::size_t at, std::u32string& out) -> std::size_t {
        const std::size_t first = at + (at + 1 < all.size() && all[at + 1] == '#' ? 2 : 1);
        std::size_t end = first;
        std::string name;
        while (end < all.size() && end - first < 24 && is_ascii_alnum(all[end]))
            name.push_back(static_cast<char>(all[end++]));
        if (end == first || end >= all.size() || all[end] != ';') return 0;
        const std::size_t length = end + 1 - at;
        if (first == at + 2) {
            std::u32string decoded;
            if (read_numeric_reference(all, at, decoded) != length || decoded == U";") return 0;
            out += decoded;
            return length;
        }
        if (const HtmlEntity* entity = find_entity(name, false)) {
            out += entity->text;
            return length;
        }
        return read_shouted_entity(std::move(name), out) ? length : 0;
    });
}

}  // namespace promptkd::detail
