// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace promptkd {

/// A part of a data set as folders and lists name it.
enum class DataPart { train, validation, test };

/// "train", "validation" or "test".
inline const char* name_of(DataPart part) {
    constexpr const char* names[] = {"train", "validation", "test"};
    return names[static_cast<int>(part)];
}

namespace detail {

/// The words of a name in lower case: cut at what is neither letter nor digit, at digits and at capitals ("TestSet").
inline std::vector<std::string> words_of(std::string_view name) {
    std::vector<std::string> words;
    int last = 0;  // 0: nothing, 1: digit, 2: small letter, 3: capital
    for (const char c : name) {
        const auto u = static_cast<unsigned char>(c);
        const int kind = std::isdigit(u) ? 1 : std::islower(u) || u >= 0x80 ? 2 : std::isupper(u) ? 3 : 0;
        const bool inside = kind == last || (kind == 2 && last == 3);
        if (kind != 0 && !inside) words.emplace_back();
        if (kind != 0) words.back() += static_cast<char>(std::tolower(u));
        last = kind;
    }
    return words;
}

inline bool is_number(std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

template <std::size_t N>
bool is_one_of(const std::string& word, const std::array<const char*, N>& words) {
    return std::any_of(words.begin(), words.end(), [&](const char* one) { return word == one; });
}

/// Words that stand beside the name of a part and of folders that hold nothing but images.
inline bool is_filler(const std::string& word) {
    static constexpr std::array<const char*, 21> fillers{
        "set",    "data",  "dataset", "datasets", "images", "image",   "imgs",   "img",      "split", "samples", "seg",
        "photos", "photo", "jpg",     "jpeg",     "png",    "resized", "folder", "pictures", "part",  "files"};
    return is_number(word) || is_one_of(word, fillers);
}

inline std::optional<DataPart> part_word(std::string word) {
    static constexpr std::array<const char*, 3> train{"train", "training", "trn"};
    static constexpr std::array<const char*, 8> validation{"val", "valid",       "validation", "validate",
                                                           "dev", "development", "eval",       "evaluation"};
    static constexpr std::array<const char*, 4> test{"test", "testing", "tst", "heldout"};
    for (const std::string_view end : {"dataset", "set", "data"})
        if (word.size() > end.size() + 2 && word.compare(word.size() - end.size(), end.size(), end) == 0) {
            word.resize(word.size() - end.size());
            break;
        }
    if (is_one_of(word, train)) return DataPart::train;
    if (is_one_of(word, validation)) return DataPart::validation;
    if (is_one_of(word, test)) return DataPart::test;
    return std::nullopt;
}

}  // namespace detail

/// The part that a folder (or a value of a list's column) is called by: train, training, val, valid, validation, dev,
/// test, testing and the like in any case, also beside words such as "set" and "images" ("Training_Set", "val2017").
/// Nothing for any other name.
inline std::optional<DataPart> part_named(std::string_view name) {
    std::optional<DataPart> found;
    for (const std::string& word : detail::words_of(name)) {
        const std::optional<DataPart> part = detail::part_word(word);
        if (!part && detail::is_filler(word)) continue;
        if (!part || (found && *found != *part)) return std::nullopt;
        found = part;
    }
    return found;
}

/// Whether a folder of this name says nothing of its content: "images", "data", "photos_2021".
inline bool is_plain_container(std::string_view name) {
    const std::vector<std::string> words = detail::words_of(name);
    const bool number = std::all_of(words.begin(), words.end(), [](const auto& w) { return detail::is_number(w); });
    return !words.empty() && !number && std::all_of(words.begin(), words.end(), &detail::is_filler);
}

}  // namespace promptkd
