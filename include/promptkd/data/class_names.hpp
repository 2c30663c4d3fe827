// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/part_names.hpp>
#include <promptkd/text/class_names.hpp>
#include <promptkd/text/cleaning.hpp>

#include <algorithm>
#include <cctype>
#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// The classes that a user names: their texts and, where they are known, what stands for them in folders and lists
/// (WordNet numbers, numbers).
struct ClassNames {
    std::vector<std::string> names;  ///< (N) in label order
    std::vector<std::string> ids;    ///< (N), or empty: the names themselves stand in folders and lists

    /// None are given.
    ClassNames() = default;
    /// Names without ids.
    ClassNames(std::vector<std::string> texts) : names(std::move(texts)) {}
    /// The same.
    ClassNames(std::initializer_list<std::string> texts) : names(texts) {}
    /// Names with ids.
    ClassNames(std::vector<std::string> texts, std::vector<std::string> keys)
        : names(std::move(texts)), ids(std::move(keys)) {}

    /// Whether none are given.
    bool empty() const { return names.empty(); }
    /// N.
    Index size() const { return static_cast<Index>(names.size()); }

    /// These ids for `texts` (a bundle's names, say), which keep their order. Throws Error for a text without an id,
    /// and where there are no ids, for names that are not the texts.
    ClassNames renamed(const std::vector<std::string>& texts) const {
        if (empty()) return texts;
        const auto equal = [](const std::string& a, const std::string& b) {
            return readable_name(a) == readable_name(b);
        };
        if (ids.empty()) {
            require(std::equal(names.begin(), names.end(), texts.begin(), texts.end(), equal),
                    "the class names given are not those of the model, in its order; give a map from ids to its names");
            return texts;
        }
        std::map<std::string, std::vector<std::size_t>> places;
        for (std::size_t i = names.size(); i-- > 0;) places[readable_name(names[i])].push_back(i);
        ClassNames result(texts);
        for (const std::string& text : texts) {
            std::vector<std::size_t>& left = places[readable_name(text)];
            require(!left.empty(), "class '", text, "' is not among the class names given");
            result.ids.push_back(ids[left.back()]);
            left.pop_back();
        }
        return result;
    }
};

namespace detail {

/// "'a', 'b' and 3 more".
inline std::string joined(const std::vector<std::string>& names, std::size_t most = 5) {
    std::string text;
    for (std::size_t i = 0; i < names.size() && i < most; ++i) text += (i ? ", '" : "'") + names[i] + "'";
    return names.size() > most ? concat(text, " and ", names.size() - most, " more") : text;
}

/// Whether it is a WordNet number: n and eight digits.
inline bool is_wordnet_id(const std::string& name) {
    return name.size() == 9 && name[0] == 'n' && is_number(std::string_view(name).substr(1));
}

/// The number in "7", "007", "class_7", "c7"; nothing for other names.
inline std::optional<Index> class_number(const std::string& name) {
    static constexpr std::array<const char*, 6> prefixes{"class", "cls", "c", "label", "category", "id"};
    const std::vector<std::string> words = words_of(name);
    const bool prefixed = words.size() == 2 && is_one_of(words[0], prefixes);
    if (words.empty() || !(words.size() == 1 || prefixed)) return std::nullopt;
    const std::string& digits = words.back();
    if (!is_number(digits) || digits.size() > 9 || (words.size() == 1 && !is_number(name))) return std::nullopt;
    return std::stoll(digits);
}

/// Whether a name tells a model nothing: a number, a WordNet number (also in front of a name), "class_7".
inline bool is_code(const std::string& name) {
    return is_wordnet_id(name) || class_number(name) || (name.size() > 10 && is_wordnet_id(name.substr(0, 9)));
}

/// What names are compared by when they differ: letters in lower case, _, - and white space alike.
inline std::string loose_name(const std::string& name) {
    std::string key;
    for (const char c : name) {
        const bool gap = c == '_' || c == '-' || c == ' ' || c == '\t';
        if (!gap)
            key += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        else if (!key.empty() && key.back() != ' ')
            key += ' ';
    }
    while (!key.empty() && key.back() == ' ') key.pop_back();
    return key;
}

/// Finds the class of a name among those given: by id, by readable name, else by loose name where that is one class's.
class ClassFinder {
public:
    explicit ClassFinder(const ClassNames& classes) {
        for (std::size_t i = 0; i < classes.names.size(); ++i) {
            const auto label = static_cast<Index>(i);
            if (!classes.ids.empty()) add(ids_, classes.ids[i], label);
            add(names_, readable_name(classes.names[i]), label);
            add(loose_, loose_name(classes.names[i]), label);
        }
    }

    /// The label, −1: none, −2: several classes have this name.
    Index find(const std::string& name) const {
        for (const auto& [table, key] :
             {std::pair(&ids_, name), std::pair(&names_, readable_name(name)), std::pair(&loose_, loose_name(name))}) {
            const auto found = table->find(key);
            if (found != table->end()) return found->second;
        }
        return -1;
    }

private:
    using Table = std::map<std::string, Index>;
    static void add(Table& table, const std::string& key, Index label) {
        const auto [entry, fresh] = table.emplace(key, label);
        if (!fresh) entry->second = -2;
    }
    Table ids_, names_, loose_;
};

/// Labels for names that are all numbers: positions among `classes` names, from 0, or from 1 where the largest is N.
inline bool match_numbers(const std::vector<std::string>& names, Index classes, std::vector<Index>& labels,
                          std::vector<std::string>& notes) {
    std::vector<Index> numbers;
    for (const std::string& name : names) {
        const std::optional<Index> number = class_number(name);
        if (!number) return false;
        numbers.push_back(*number);
    }
    const Index least = *std::min_element(numbers.begin(), numbers.end());
    const Index most = *std::max_element(numbers.begin(), numbers.end());
    const Index first = least > 0 && most == classes ? 1 : 0;
    if (most - first >= classes) return false;
    if (std::set<Index>(numbers.begin(), numbers.end()).size() != numbers.size()) return false;
    for (std::size_t i = 0; i < names.size(); ++i) labels[i] = numbers[i] - first;
    if (first == 1) notes.emplace_back("the classes are counted from 1: number 1 is the first class name");
    if (first == 0 && least > 0)
        notes.emplace_back("no class has the number 0: the classes are counted from 0, 0 being the first class name");
    return true;
}

/// Labels for WordNet numbers: the k-th of them in sorted order is the k-th name, as in the usual lists of ImageNet.
inline bool match_sorted_ids(const std::vector<std::string>& names, const ClassNames& classes,
                             std::vector<Index>& labels, std::vector<std::string>& notes) {
    if (!classes.ids.empty() || names.size() != classes.names.size()) return false;
    if (!std::all_of(names.begin(), names.end(), &is_wordnet_id)) return false;
    std::vector<std::size_t> order(names.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return names[a] < names[b]; });
    for (std::size_t k = 0; k < order.size(); ++k) labels[order[k]] = static_cast<Index>(k);
    notes.push_back(concat("the WordNet numbers in sorted order are the class names in order: '", names[order[0]],
                           "' is '", classes.names[0], "'"));
    return true;
}

}  // namespace detail

/// Which class each name of a folder or a list stands for.
struct ClassMatch {
    std::vector<Index> labels;       ///< −1: no class, −2: several classes have this name
    std::vector<std::string> notes;  ///< how they were matched where that is not plain

    /// Whether no name is a class.
    bool none() const {
        return std::all_of(labels.begin(), labels.end(), [](Index label) { return label == -1; });
    }
};

/// Matches distinct `names` with `classes`: by id or name; where none fits and all are numbers, by position, and where
/// all are WordNet numbers, as many as there are classes, in sorted order.
inline ClassMatch match_classes(const std::vector<std::string>& names, const ClassNames& classes) {
    const detail::ClassFinder finder(classes);
    ClassMatch match;
    for (const std::string& name : names) match.labels.push_back(finder.find(name));
    if (names.empty() || !match.none()) return match;
    if (!detail::match_numbers(names, classes.size(), match.labels, match.notes))
        detail::match_sorted_ids(names, classes, match.labels, match.notes);
    return match;
}

/// The names with what tells equal ones apart: the first stays as it is, the others get their id behind, or their
/// number among the classes. `ids` may be empty.
inline std::vector<std::string> distinct_names(const std::vector<std::string>& names,
                                               const std::vector<std::string>& ids = {}) {
    std::set<std::string> seen;
    std::vector<std::string> result;
    for (std::size_t i = 0; i < names.size(); ++i) {
        std::string name = names[i];
        if (!seen.insert(readable_name(name)).second)
            name = ids.empty() ? concat(name, " (class ", i, ")") : concat(name, " (", ids[i], ")");
        result.push_back(std::move(name));
    }
    return result;
}

/// Names whose texts a tokenizer does not tell apart, each once: equal ones, or such that differ in case or spaces.
inline std::vector<std::string> names_of_one_text(const std::vector<std::string>& names) {
    std::map<std::u32string, std::string> first;
    std::set<std::string> reported;
    std::vector<std::string> same;
    for (const std::string& name : names) {
        const auto [known, fresh] = first.emplace(detail::clean_text(readable_name(name)), name);
        if (fresh) continue;
        if (reported.insert(known->second).second) same.push_back(known->second);
        if (reported.insert(name).second) same.push_back(name);
    }
    return same;
}

}  // namespace promptkd
