// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/utf8.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

// Arguments that no option takes: what they may have been meant for.
namespace promptkd::cli {

namespace unknown {

/// Letters that have to be put in, taken out, replaced or exchanged with their neighbour to make `b` of `a`
/// (restricted Damerau-Levenshtein distance).
inline std::size_t distance(const std::string& a, const std::string& b) {
    std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
    for (std::size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
    for (std::size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i)
        for (std::size_t j = 1; j <= b.size(); ++j) {
            const std::size_t other = a[i - 1] == b[j - 1] ? 0 : 1;
            d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + other});
            const bool exchanged = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (exchanged) d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
        }
    return d[a.size()][b.size()];
}

/// The option of `command` whose name is most like `name` ("--weigths"); empty where none is alike.
inline std::string most_alike(const CLI::App& command, const std::string& name) {
    std::string best;
    std::size_t least = name.size() > 6 ? 3 : 2;
    for (const CLI::Option* option : command.get_options())
        for (const std::string& known : option->get_lnames()) {
            const std::size_t found = distance(name, "--" + known);
            if (found >= least) continue;
            least = found;
            best = "--" + known;
        }
    return best;
}

}  // namespace unknown

/// What to say of arguments that `command` does not take: the first option among them, or all.
inline std::string describe_unknown(const CLI::App& command, const std::vector<std::string>& arguments) {
    const auto option = std::find_if(arguments.begin(), arguments.end(),
                                     [](const std::string& argument) { return argument.rfind("-", 0) == 0; });
    if (option != arguments.end()) {
        const std::string given = option->substr(0, option->find('='));
        const std::string alike = unknown::most_alike(command, given);
        return given + " is not an option" + (alike.empty() ? "" : " (did you mean " + alike + "?)");
    }
    std::string all;
    for (const std::string& argument : arguments) all += (all.empty() ? "'" : ", '") + argument + "'";
    return "not expected: " + all + " (an option takes one value; a value with spaces needs quotes)";
}

}  // namespace promptkd::cli
