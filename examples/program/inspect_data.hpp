// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "options.hpp"

#include <promptkd/data/describe.hpp>

namespace promptkd::cli {

inline nlohmann::json counts_json(const std::vector<std::pair<std::string, Index>>& counts) {
    nlohmann::json json = nlohmann::json::object();
    for (const auto& [name, images] : counts) json[name] = images;
    return json;
}

/// What a data set holds, as JSON; of a benchmark also the published numbers and what is missing ("problems").
inline nlohmann::json data_json(const DataDescription& data) {
    nlohmann::json info = {{"data", data.source}};
    if (data.benchmark) {
        const BenchmarkInfo& published = data.benchmark->published;
        const BenchmarkReport& found = data.benchmark->found;
        info.update({{"classes", found.classes},
                     {"train", found.train},
                     {"test_base", found.base},
                     {"test_new", found.novel},
                     {"published", {{"classes", published.classes}}},
                     {"template", published.pattern},
                     {"complete", found.problems.empty()},
                     {"problems", found.problems}});
        if (published.train > 0)
            info["published"].update(
                {{"train", published.train}, {"test_base", published.base}, {"test_new", published.novel}});
        return info;
    }
    info.update({{"classes", data.classes},
                 {"train", data.train},
                 {"test", data.test},
                 {"labelled", data.labelled},
                 {"test_per_class", counts_json(data.test_per_class)},
                 {"class_names", data.class_names},
                 {"tested_on", data.tested_on}});
    for (const PartDescription& part : data.parts)
        info["parts"][part.part] = {{"place", part.place},
                                    {"images", part.images},
                                    {"labelled", part.labelled},
                                    {"per_class", counts_json(part.per_class)},
                                    {"first", part.first}};
    for (const auto& [what, why] : data.left_out) info["left_out"].push_back({{"what", what}, {"why", why}});
    if (!data.notes.empty()) info["notes"] = data.notes;
    if (!data.warnings.empty()) info["warnings"] = data.warnings;
    return info;
}

/// Prints and writes what a data set holds. Throws Error when a benchmark's root is not complete.
inline void inspect_data(const std::string& source, const ClassNames& class_names, const Output& output) {
    const DataDescription data = describe_data(source, class_names);
    const nlohmann::json info = data_json(data);
    for (const auto& [key, value] : info.items())
        if (key != "problems" && key != "warnings" && key != "notes")
            output.text() << key << ": " << (value.is_string() ? value.get<std::string>() : json_text(value)) << "\n";
    const std::vector<std::string>& problems = data.problems();
    for (const std::string& text : data.notes) output.text() << "note: " << text << "\n";
    for (const std::string& text : data.warnings) output.text() << "warning: " << text << "\n";
    for (const std::string& problem : problems) output.text() << "problem: " << problem << "\n";
    output.write(info);
    require(problems.empty(), source, ": not the published data set: ", problems.size(),
            " problem(s), the first: ", problems.empty() ? "" : problems.front());
}

}  // namespace promptkd::cli
