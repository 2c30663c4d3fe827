// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/text/html.hpp>

#include <cstdint>
#include <string>
#include <string_view>

/// What CLIP's published tokenizer does to text before splitting it: repairs as the ftfy package makes them (Speer,
/// "ftfy", 2019), HTML references decoded twice, white space collapsed, lower case.
namespace promptkd::detail {

/// The two or three letters of a Latin ligature or digraph, or null.
inline const char32_t* latin_ligature(char32_t c) {
    constexpr const char32_t* digraphs[] = {U"D\u017d", U"D\u017e", U"d\u017e", U"LJ", U"Lj",
                                            U"lj",      U"NJ",      U"Nj",      U"nj"};
    constexpr const char32_t* ligatures[] = {U"ff", U"fi", U"fl", U"ffi", U"ffl", U"\u017ft", U"st"};
    if (c >= 0x1c4 && c <= 0x1cc) return digraphs[c - 0x1c4];
    if (c >= 0xfb00 && c <= 0xfb06) return ligatures[c - 0xfb00];
    switch (c) {
        case 0x132:
            return U"IJ";
        case 0x133:
            return U"ij";
        case 0x149:
            return U"\u02bcn";
        case 0x1f1:
            return U"DZ";
        case 0x1f2:
            return U"Dz";
        case 0x1f3:
            return U"dz";
        default:
            return nullptr;
    }
}

/// Control characters and invisible marks that carry no text.
inline bool is_removed_control(char32_t c) {
    return c <= 0x08 || c == 0x0b || (c >= 0x0e && c <= 0x1f) || c == 0x7f || (c >= 0x206a && c <= 0x206f) ||
           c == 0xfeff || (c >= 0xfff9 && c <= 0xfffc);
}

/// Length of a terminal escape sequence ("\x1b[36m") at text[at], or 0.
inline std::size_t terminal_escape(const std::u32string& text, std::size_t at) {
    if (text[at] != 0x1b || at + 1 >= text.size() || text[at + 1] != '[') return 0;
    std::size_t i = at + 2;
    while (i < text.size() && (text[i] == ';' || category_of(text[i]) == UTF8PROC_CATEGORY_ND)) ++i;
    return i < text.size() && is_ascii_alnum(text[i]) ? i + 1 - at : 0;
}

/// Appends `c` with C1 controls read as Windows-1252, ligatures split, full width narrowed, quotes straightened and
/// line ends unified (the carriage return is the caller's).
inline void append_fixed(std::u32string& out, char32_t c) {
    if (c < 0x80) return out.push_back(c);
    c = windows_1252(c);
    if (const char32_t* letters = latin_ligature(c)) {
        out += letters;
    } else if (c >= 0xff01 && c <= 0xffef) {
        out += normalize_nfkc(c);
    } else if (c == 0x2bc || (c >= 0x2018 && c <= 0x201b)) {
        out.push_back('\'');
    } else if (c >= 0x201c && c <= 0x201f) {
        out.push_back('"');
    } else if (c == 0x2028 || c == 0x2029 || c == 0x85) {
        out.push_back('\n');
    } else {
        out.push_back(c == 0x3000 ? U' ' : c);
    }
}

/// The byte that Windows-1252 (or Latin-1) writes `c` as, or -1.
inline int windows_1252_byte(char32_t c) {
    if (c < 0x100) return static_cast<int>(c);
    for (char32_t byte = 0x80; byte <= 0x9f; ++byte)
        if (windows_1252(byte) == c) return static_cast<int>(byte);
    return -1;
}

/// Undoes UTF-8 that was read as Windows-1252 or Latin-1 ("cafÃ©"), only where that is unambiguous: the whole text
/// must be well-formed UTF-8 after the way back, and hold what ordinary text does not: a sequence of three or more
/// bytes, two adjacent pairs, or a pair that starts with 'Â' or 'Ã'. Otherwise returns it unchanged.
inline std::u32string repair_mojibake(const std::u32string& text) {
    std::string bytes;
    bool ascii = true;
    for (const char32_t c : text) {
        const int byte = windows_1252_byte(c);
        if (byte < 0) return text;
        ascii = ascii && byte < 0x80;
        bytes.push_back(static_cast<char>(byte));
    }
    if (ascii) return text;
    std::u32string repaired;
    bool evidence = false;
    std::size_t previous = 1;
    for (std::size_t i = 0; i < bytes.size();) {
        char32_t point = 0;
        const std::size_t n = utf8_sequence(std::string_view(bytes).substr(i), point);
        if (n == 0) return text;
        evidence = evidence || n > 2 || (n == 2 && (point < 0x100 || previous == 2));
        previous = n;
        repaired.push_back(point);
        i += n;
    }
    return evidence ? repaired : text;
}

/// One round of the character fixes, in the fixer's order, then NFC.
inline std::u32string fix_characters(const std::u32string& text) {
    std::u32string mapped, kept;
    mapped.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\r') {
            append_fixed(mapped, text[i]);
        } else if (i + 1 == text.size() || text[i + 1] != '\n') {
            mapped.push_back('\n');
        }
    }
    kept.reserve(mapped.size());
    for (std::size_t i = 0; i < mapped.size();) {
        const std::size_t escape = terminal_escape(mapped, i);
        if (escape == 0 && !is_removed_control(mapped[i])) kept.push_back(mapped[i]);
        i += escape == 0 ? 1 : escape;
    }
    return normalize_nfc(kept);
}

/// Repairs one line until nothing changes. The number of rounds is bounded because text can be nested at will
/// ("&amp;amp;amp;…") and each round peels off one level.
inline std::u32string fix_line(std::u32string line, bool unescape) {
    constexpr int max_rounds = 16;
    for (int round = 0; round < max_rounds; ++round) {
        std::u32string fixed = fix_characters(repair_mojibake(unescape ? html_unescape_strict(line) : line));
        if (fixed == line) break;
        line = std::move(fixed);
    }
    return line;
}

/// All repairs, line by line. From the first line with a '<' on, the text is taken for markup and keeps its references.
inline std::u32string fix_text(const std::u32string& text) {
    std::u32string out;
    out.reserve(text.size());
    bool unescape = true;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t newline = text.find(U'\n', at);
        const std::size_t end = newline == std::u32string::npos ? text.size() : newline + 1;
        std::u32string line = text.substr(at, end - at);
        unescape = unescape && line.find(U'<') == std::u32string::npos;
        out += fix_line(std::move(line), unescape);
        at = end;
    }
    return out;
}

/// Runs of white space become one space; none at either end.
inline std::u32string collapse_spaces(const std::u32string& text) {
    std::u32string out;
    out.reserve(text.size());
    for (const char32_t c : text) {
        if (!is_space(c))
            out.push_back(c);
        else if (!out.empty() && out.back() != ' ')
            out.push_back(' ');
    }
    if (!out.empty() && out.back() == ' ') out.pop_back();
    return out;
}

/// Text fixes, HTML unescape twice, white space collapsed, lower case last. Throws Error for text that is not UTF-8.
inline std::u32string clean_text(std::string_view text) {
    bool plain = true;  // printable ASCII without references needs only the last two steps
    for (const char c : text) plain = plain && ((c >= 0x20 && c < 0x7f && c != '&') || c == '\n' || c == '\t');
    if (plain) return lower_case(collapse_spaces(std::u32string(text.begin(), text.end())));
    return lower_case(collapse_spaces(html_unescape(html_unescape(fix_text(decode_utf8(text))))));
}

}  // namespace promptkd::detail
