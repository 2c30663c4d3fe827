// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>

#include <utf8proc.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

/// Unicode as Python's `str` sees it: the published tokenizer is Python, and its ids depend on these rules.
namespace promptkd::detail {

/// Length of the well-formed UTF-8 sequence that `bytes` starts with (1–4), or 0. Overlong forms, surrogates and
/// values above U+10FFFF are not well-formed.
inline std::size_t utf8_sequence(std::string_view bytes, char32_t& point) {
    utf8proc_int32_t decoded = -1;
    const auto n = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(bytes.data()),
                                    static_cast<utf8proc_ssize_t>(bytes.size()), &decoded);
    if (n <= 0 || decoded < 0) return 0;
    point = static_cast<char32_t>(decoded);
    return static_cast<std::size_t>(n);
}

/// Code points of UTF-8 text. Throws Error with the byte offset of the first malformed sequence.
inline std::u32string decode_utf8(std::string_view text) {
    std::u32string points;
    points.reserve(text.size());
    for (std::size_t i = 0; i < text.size();) {
        char32_t point = 0;
        const std::size_t n = utf8_sequence(text.substr(i), point);
        require(n > 0, "text is not UTF-8: bad byte at offset ", i, "; convert it to UTF-8 first");
        points.push_back(point);
        i += n;
    }
    return points;
}

inline void append_utf8(std::string& out, char32_t point) {
    utf8proc_uint8_t bytes[4];
    const auto n = utf8proc_encode_char(static_cast<utf8proc_int32_t>(point), bytes);
    out.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(n));
}

inline std::string encode_utf8(std::u32string_view points) {
    std::string out;
    out.reserve(points.size());
    for (const char32_t point : points) append_utf8(out, point);
    return out;
}

inline utf8proc_category_t category_of(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

/// \p{L}
inline bool is_letter(char32_t c) {
    if (c < 0x80) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const auto k = category_of(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

/// \p{N}
inline bool is_number(char32_t c) {
    if (c < 0x80) return c >= '0' && c <= '9';
    const auto k = category_of(c);
    return k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO;
}

/// \s of the published pattern: the White_Space property.
inline bool is_space(char32_t c) {
    return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/// Appends the full decomposition of `c`: canonical, or compatibility with `compatibility`.
inline void append_decomposed(std::u32string& out, char32_t c, bool compatibility) {
    const int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatibility ? UTF8PROC_COMPAT : 0);
    utf8proc_int32_t buffer[32];  // the longest decomposition has 18 code points (U+FDFA)
    int boundary = 0;
    const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), buffer, 32,
                                           static_cast<utf8proc_option_t>(options), &boundary);
    if (n < 0 || n > 32) {
        out.push_back(c);
    } else {
        for (utf8proc_ssize_t i = 0; i < n; ++i) out.push_back(static_cast<char32_t>(buffer[i]));
    }
}

inline int combining_class(char32_t c) {
    return c < 0x300 ? 0 : utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class;
}

/// Canonical order, then composition, of decomposed text. Ordering is a stable sort of each run of marks: utf8proc's
/// own insertion sort takes quadratic time on a long hostile run.
inline std::u32string compose(std::u32string points) {
    for (std::size_t i = 0; i < points.size();) {
        if (combining_class(points[i]) == 0) {
            ++i;
            continue;
        }
        std::size_t end = i;
        while (end < points.size() && combining_class(points[end]) != 0) ++end;
        std::stable_sort(points.begin() + static_cast<std::ptrdiff_t>(i),
                         points.begin() + static_cast<std::ptrdiff_t>(end),
                         [](char32_t a, char32_t b) { return combining_class(a) < combining_class(b); });
        i = end;
    }
    std::vector<utf8proc_int32_t> buffer(points.begin(), points.end());
    const auto n = utf8proc_normalize_utf32(buffer.data(), static_cast<utf8proc_ssize_t>(buffer.size()),
                                            static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (n < 0) return points;
    return std::u32string(buffer.begin(), buffer.begin() + n);
}

/// Normalization form C.
inline std::u32string normalize_nfc(const std::u32string& points) {
    if (std::all_of(points.begin(), points.end(), [](char32_t c) { return c < 0x300; })) return points;
    std::u32string decomposed;
    decomposed.reserve(points.size());
    for (const char32_t c : points) append_decomposed(decomposed, c, false);
    return compose(std::move(decomposed));
}

/// Normalization form KC of one character.
inline std::u32string normalize_nfkc(char32_t c) {
    std::u32string decomposed;
    append_decomposed(decomposed, c, true);
    return compose(std::move(decomposed));
}

/// Property Cased: letters with case and the few other characters with Other_Lowercase or Other_Uppercase.
inline bool is_cased(char32_t c) {
    const auto k = category_of(c);
    if (k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT) return true;
    constexpr char32_t ranges[][2] = {{0xaa, 0xaa},       {0xba, 0xba},       {0x2b0, 0x2b8},     {0x2c0, 0x2c1},
                                      {0x2e0, 0x2e4},     {0x345, 0x345},     {0x37a, 0x37a},     {0x1d2c, 0x1d6a},
                                      {0x1d78, 0x1d78},   {0x1d9b, 0x1dbf},   {0x2071, 0x2071},   {0x207f, 0x207f},
                                      {0x2090, 0x209c},   {0x2160, 0x217f},   {0x24b6, 0x24e9},   {0x2c7c, 0x2c7d},
                                      {0xa69c, 0xa69d},   {0xa770, 0xa770},   {0xa7f8, 0xa7f9},   {0xab5c, 0xab5f},
                                      {0x10780, 0x10780}, {0x10783, 0x10785}, {0x10787, 0x107b0}, {0x107b2, 0x107ba},
                                      {0x1f130, 0x1f149}, {0x1f150, 0x1f169}, {0x1f170, 0x1f189}};
    for (const auto& range : ranges)
        if (c >= range[0] && c <= range[1]) return true;
    return false;
}

/// Property Case_Ignorable.
inline bool is_case_ignorable(char32_t c) {
    switch (category_of(c)) {
        case UTF8PROC_CATEGORY_MN:
        case UTF8PROC_CATEGORY_ME:
        case UTF8PROC_CATEGORY_CF:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_SK:
            return true;
        default:
            break;
    }
    constexpr char32_t punctuation[] = {'\'',   '.',    ':',    0xb7,   0x387,  0x55f,  0x5f4,  0x2018, 0x2019,
                                        0x2024, 0x2027, 0xfe13, 0xfe52, 0xfe55, 0xff07, 0xff0e, 0xff1a};
    return std::find(std::begin(punctuation), std::end(punctuation), c) != std::end(punctuation);
}

/// Final_Sigma of the Unicode standard: a cased letter before, none after, case-ignorable characters skipped.
inline bool is_final_sigma(const std::u32string& text, std::size_t at) {
    std::size_t before = at;
    while (before > 0 && is_case_ignorable(text[before - 1])) --before;
    if (before == 0 || !is_cased(text[before - 1])) return false;
    std::size_t after = at + 1;
    while (after < text.size() && is_case_ignorable(text[after])) ++after;
    return after == text.size() || !is_cased(text[after]);
}

/// Python's str.lower: simple lower case, except 'İ' (two code points) and the final sigma.
inline std::u32string lower_case(const std::u32string& text) {
    std::u32string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char32_t c = text[i];
        if (c < 0x80) {
            out.push_back(c >= 'A' && c <= 'Z' ? c + 32 : c);
        } else if (c == 0x130) {
            out += U"i\u0307";
        } else if (c == 0x3a3) {
            out.push_back(is_final_sigma(text, i) ? 0x3c2 : 0x3c3);
        } else {
            out.push_back(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
        }
    }
    return out;
}

}  // namespace promptkd::detail
