// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/class_names.hpp>
#include <promptkd/data/table_json.hpp>
#include <promptkd/format/text_file.hpp>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

namespace detail {

inline std::vector<std::string> sentences_of(const nlohmann::ordered_json& value, const std::string& where) {
    const nlohmann::ordered_json list = value.is_string() ? nlohmann::ordered_json::array({value}) : value;
    require(list.is_array(), where, "has neither a sentence nor a list of them");
    std::vector<std::string> sentences;
    for (const auto& sentence : list) {
        require(sentence.is_string() && !sentence.get<std::string>().empty(), where,
                "has an entry that is no sentence");
        sentences.push_back(sentence.get<std::string>());
    }
    return sentences;
}

}  // namespace detail

/// Sentences about each of `classes` from a JSON file {"class": ["a sentence", …]} (or one sentence), as CuPL and
/// CoPrompt publish them. Names are the same whatever their case, _, - and spaces; further ones in the file are left
/// out. Throws Error naming the classes that have none.
inline std::vector<std::vector<std::string>> read_descriptions(const std::string& path,
                                                               const std::vector<std::string>& classes) {
    const std::string text = read_text_file(path);
    const nlohmann::ordered_json json = detail::parse_json(detail::without_mark(text), path + ": ");
    require(json.is_object(), path, ": expected an object {\"class\": [\"a sentence\", …]}");
    std::map<std::string, std::vector<std::string>> of_name;
    for (const auto& [name, value] : json.items()) {
        const std::vector<std::string> found = detail::sentences_of(value, concat(path, ": '", name, "' "));
        std::vector<std::string>& all = of_name[detail::loose_name(name)];
        all.insert(all.end(), found.begin(), found.end());
    }
    std::vector<std::vector<std::string>> sentences;
    std::vector<std::string> missing;
    for (const std::string& name : classes) {
        sentences.push_back(of_name[detail::loose_name(name)]);
        if (sentences.back().empty()) missing.push_back(name);
    }
    require(missing.empty(), path, ": has no sentence for ", missing.size(), " of ", classes.size(),
            " classes: ", detail::joined(missing, 3));
    return sentences;
}

}  // namespace promptkd
