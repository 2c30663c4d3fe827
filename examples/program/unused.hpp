// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <string>
#include <vector>

// Options that a run would not look at are bad usage: its result would seem to be one of them.
namespace promptkd::cli {

/// Options of which a run makes no use.
struct Unused {
    bool here;                         ///< whether this is such a run
    std::string why;                   ///< what is said of the first one that was given
    std::vector<const char*> options;  ///< names, with dashes
};

/// Whether an option of the command stands on the command line, or in the file of --config.
inline bool is_given(const CLI::App& command, const std::string& name) {
    const CLI::Option* option = command.get_option_no_throw(name);
    return option != nullptr && option->count() > 0;
}

/// Throws for an option that was given although the run makes no use of it. `resolved`, the values of all options,
/// loses those of others.
inline void refuse_unused(const CLI::App& command, const std::vector<Unused>& all, nlohmann::json& resolved) {
    for (const Unused& one : all)
        for (const char* name : one.options) {
            if (!one.here) continue;
            if (is_given(command, name)) throw CLI::ValidationError(name, one.why);
            resolved.erase(name + 2);
        }
}

/// The same where nobody asks for the values.
inline void refuse_unused(const CLI::App& command, const std::vector<Unused>& all) {
    nlohmann::json nothing = nlohmann::json::object();
    refuse_unused(command, all, nothing);
}

/// The same for every option but `used`, named without dashes.
inline void refuse_all_but(const CLI::App& command, const std::vector<std::string>& used, const std::string& why,
                           nlohmann::json& resolved) {
    for (const CLI::Option* option : command.get_options()) {
        const std::string name = option->get_single_name();
        if (name == "help" || std::find(used.begin(), used.end(), name) != used.end()) continue;
        if (option->count() > 0) throw CLI::ValidationError(option->get_name(), why);
        resolved.erase(name);
    }
}

/// Throws for a value that `parse` throws for, with its message.
template <class Parse>
CLI::Validator parsed_by(const Parse& parse) {
    return CLI::Validator(
        [parse](const std::string& text) {
            try {
                (void)parse(text);
            } catch (const std::exception& error) {
                return std::string(error.what());
            }
            return std::string();
        },
        "");
}

}  // namespace promptkd::cli
