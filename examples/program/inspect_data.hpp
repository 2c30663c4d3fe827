// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "options.hpp"

#include <promptkd/data/open.hpp>

namespace promptkd::cli {

/// What a data set holds, as JSON; of a benchmark also the published numbers and what is missing ("problems").
inline nlohmann::json describe_data(const std::string& spec_text) {
    const DataSpec spec = parse_data_spec(spec_text);
    nlohmann::json info = {{"data", spec_text}};
    if (const BenchmarkInfo* benchmark = find_benchmark(spec.name)) {
        const BenchmarkReport r = check_benchmark(*benchmark, spec.root);
        info["classes"] = r.classes, info["train"] = r.train, info["test_base"] = r.base, info["test_new"] = r.novel;
        info["published"] = {{"classes", benchmark->classes}};
        if (benchmark->train > 0)
            info["published"].update(
                {{"train", benchmark->train}, {"test_base", benchmark->base}, {"test_new", benchmark->novel}});
        info["template"] = benchmark->pattern;
        info["complete"] = r.problems.empty();
        info["problems"] = r.problems;
        return info;
    }
    const Dataset train = open_dataset(spec_text, Split::train), test = open_dataset(spec_text, Split::test);
    info["classes"] = test.classes(), info["train"] = train.size(), info["test"] = test.size();
    info["labelled"] = test.labelled();
    nlohmann::json per_class = nlohmann::json::object();
    for (const std::string& name : test.class_names) per_class[name] = 0;
    for (const Item& item : test.items)
        if (item.label >= 0)
            per_class[test.class_names[static_cast<std::size_t>(item.label)]] =
                per_class[test.class_names[static_cast<std::size_t>(item.label)]].get<Index>() + 1;
    info["test_per_class"] = per_class;
    return info;
}

/// Prints and writes what a data set holds. Throws Error when a benchmark's root is not complete.
inline void inspect_data(const std::string& spec, const Output& output) {
    const nlohmann::json info = describe_data(spec);
    for (const auto& [key, value] : info.items()) {
        if (key == "problems")
            for (const auto& problem : value) output.text() << "problem: " << problem.get<std::string>() << "\n";
        else
            output.text() << key << ": " << (value.is_string() ? value.get<std::string>() : value.dump()) << "\n";
    }
    output.write(info);
    const std::size_t problems = info.contains("problems") ? info.at("problems").size() : 0;
    require(problems == 0, spec, ": not the published data set: ", problems,
            " problem(s), the first: ", problems ? info.at("problems")[0].get<std::string>() : "");
}

}  // namespace promptkd::cli
