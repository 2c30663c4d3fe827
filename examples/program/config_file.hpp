// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/core/utf8.hpp>
#include <promptkd/format/file.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

// `--config FILE`: the keys of a JSON object become options, unless the command line gives them too.
namespace promptkd::cli {

/// Marks an option whose value may be empty ("": no text).
inline CLI::Option* may_be_empty(CLI::Option* option) { return option->type_name("TEXT (or \"\")"); }
inline bool is_allowed_empty(const CLI::Option& option) { return option.get_type_name() == "TEXT (or \"\")"; }

/// Marks an option whose one value is a list: "1,2,3".
inline CLI::Option* comma_list(CLI::Option* option) { return option->type_name("N,N,…"); }
inline bool is_comma_list(const CLI::Option& option) {
    return option.get_delimiter() != '\0' || option.get_type_name() == "N,N,…";
}

/// Whether an option may be given several times.
inline bool is_list(const CLI::Option& option) {
    return option.get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll;
}

/// A file of options.
class ConfigFile {
public:
    /// Reads `path` for `command`. Throws Error when it is not a JSON object.
    ConfigFile(std::string path, const CLI::App& command)
        : path_(std::move(path)), command_(command), text_(read_file(path_, std::size_t{64} << 20)) {
        try {
            config_ = nlohmann::json::parse(text_);
        } catch (const nlohmann::json::parse_error& error) {
            const std::string what = error.what();  // "[…] parse error at line 1, column 2: what is wrong"
            const std::size_t reason = what.find(": ", what.find("column"));
            fail(place(error.byte > 0 ? error.byte - 1 : 0), ": not JSON (",
                 reason == std::string::npos ? what : what.substr(reason + 2), ")");
        } catch (const nlohmann::json::out_of_range& error) {  // "… '1e400'"
            const std::string what = error.what();
            const std::size_t quote = what.find('\'');
            const std::string number = what.substr(quote + 1, what.rfind('\'') - quote - 1);
            fail(place(text_.find(number)), ": ", number, " is larger than any number");
        }
        require(config_.is_object(), path_, ": not a JSON object of options");
        find_keys();
    }

    /// The arguments that the file stands for, without those that are `given` already.
    std::vector<std::string> arguments(const std::vector<std::string>& given) const {
        std::vector<std::string> positional, options;
        for (const auto& [key, where] : keys_) {
            const nlohmann::json& value = config_.at(key);
            if (key == "command") {
                check_command(where, value);
                continue;
            }
            const CLI::Option* option = find(key);
            if (option == nullptr) refuse(where, key, "is not an option of promptkd " + command_.get_name());
            check(*option, where, key, value);
            if (option->get_lnames().empty()) {  // a positional argument: none is given by an option's name
                positional.push_back(text_of(value));
            } else if (!is_given(key, given)) {
                append(options, *option, key, value);
            }
        }
        if (!positional.empty() && given.size() > 1 && given[1].rfind('-', 0) != 0) positional.clear();
        positional.insert(positional.end(), options.begin(), options.end());
        return positional;
    }

private:
    /// "c.json, line 3, column 5".
    std::string place(std::size_t at) const {
        const std::string before = text_.substr(0, std::min(at, text_.size()));
        const auto lines = std::count(before.begin(), before.end(), '\n');
        return concat(path_, ", line ", lines + 1, ", column ", before.size() - (before.rfind('\n') + 1) + 1);
    }

    [[noreturn]] void refuse(std::size_t where, const std::string& key, const std::string& what) const {
        throw CLI::ValidationError(place(where), "'" + printable(key) + "' " + what);
    }

    /// Where the keys of the outermost object stand, in their order.
    void find_keys() {
        int depth = 0;
        for (std::size_t i = 0; i < text_.size(); ++i) {
            if (text_[i] == '{' || text_[i] == '[') ++depth;
            if (text_[i] == '}' || text_[i] == ']') --depth;
            if (text_[i] != '"') continue;
            const std::size_t begin = i;
            for (++i; text_[i] != '"'; ++i)
                if (text_[i] == '\\') ++i;
            const std::size_t next = text_.find_first_not_of(" \t\r\n", i + 1);
            if (depth == 1 && text_[next] == ':')
                add_key(nlohmann::json::parse(text_.substr(begin, i + 1 - begin)).get<std::string>(), begin);
        }
    }
    void add_key(const std::string& key, std::size_t where) {
        for (const auto& known : keys_)
            if (known.first == key) refuse(where, key, "stands there twice");
        keys_.emplace_back(key, where);
    }

    const CLI::Option* find(const std::string& key) const {
        for (const CLI::Option* option : command_.get_options())
            if (key != "help" &&
                (option->check_lname(key) || (option->get_lnames().empty() && option->get_single_name() == key)))
                return option;
        return nullptr;
    }

    void check_command(std::size_t where, const nlohmann::json& value) const {
        if (value != command_.get_name())
            refuse(where, "command", "is " + value.dump() + ": these are options of another command");
    }

    static bool is_given(const std::string& key, const std::vector<std::string>& given) {
        const std::string flag = "--" + key;
        return std::any_of(given.begin(), given.end(),
                           [&](const std::string& a) { return a == flag || a.rfind(flag + "=", 0) == 0; });
    }

    static std::string text_of(const nlohmann::json& value) {
        return value.is_string() ? unescape_bytes(value.get<std::string>()) : value.dump();
    }

    void check(const CLI::Option& option, std::size_t where, const std::string& key,
               const nlohmann::json& value) const {
        if (value.is_null()) refuse(where, key, "is null; give it a value, or leave it out");
        if (value.is_object()) refuse(where, key, "is an object; options are texts, numbers, true, false and lists");
        if (option.get_expected_max() == 0) {
            const bool flag = value.is_boolean() || value == "true" || value == "false";
            if (!flag) refuse(where, key, "must be true or false, found " + value.dump());
            return;
        }
        if (value.is_array()) return check_list(option, where, key, value);
        check_part(option, where, key, value);
    }

    void check_list(const CLI::Option& option, std::size_t where, const std::string& key,
                    const nlohmann::json& list) const {
        if (list.empty()) refuse(where, key, "is an empty list; give it a value, or leave it out");
        const bool several = is_list(option) || is_comma_list(option);
        if (list.size() > 1 && !several) refuse(where, key, "takes one value, found a list");
        for (const nlohmann::json& part : list) check_part(option, where, key, part);
    }

    void check_part(const CLI::Option& option, std::size_t where, const std::string& key,
                    const nlohmann::json& value) const {
        if (value.is_structured() || value.is_null() || value.is_boolean())
            refuse(where, key, "takes a text or a number, found " + value.dump());
        if (value.is_string() && value.get<std::string>().find('\0') != std::string::npos)
            refuse(where, key, "holds a NUL character");
        if (value == "" && !is_allowed_empty(option)) refuse(where, key, "is empty; give it a value, or leave it out");
    }

    /// A list of texts repeats the option, one of numbers is joined by commas.
    static void append(std::vector<std::string>& options, const CLI::Option& option, const std::string& key,
                       const nlohmann::json& value) {
        const std::string flag = "--" + key;
        if (option.get_expected_max() == 0) {
            if (value == true || value == "true") options.push_back(flag);
            return;
        }
        if (!value.is_array()) {
            add_value(options, flag, text_of(value));
            return;
        }
        if (is_list(option) && !is_comma_list(option)) {
            for (const auto& part : value) add_value(options, flag, text_of(part));
            return;
        }
        std::string joined;
        for (const auto& part : value) joined += (joined.empty() ? "" : ",") + text_of(part);
        add_value(options, flag, joined);
    }

    /// Behind "=" a value may begin with "-"; an empty one stands alone.
    static void add_value(std::vector<std::string>& options, const std::string& flag, const std::string& value) {
        if (value.empty())
            options.insert(options.end(), {flag, value});
        else
            options.push_back(flag + "=" + value);
    }

    std::string path_;
    const CLI::App& command_;
    std::string text_;
    nlohmann::json config_;
    std::vector<std::pair<std::string, std::size_t>> keys_;  ///< of the outermost object, with their place in the text
};

/// The arguments with those that `--config FILE` among them stands for. `app` knows the commands.
inline std::vector<std::string> with_config(const std::vector<std::string>& given, const CLI::App& app) {
    std::vector<std::string> arguments, paths;
    for (std::size_t i = 0; i < given.size(); ++i) {
        if (given[i] == "--config" && i + 1 < given.size())
            paths.push_back(given[++i]);
        else if (given[i].rfind("--config=", 0) == 0)
            paths.push_back(given[i].substr(9));
        else
            arguments.push_back(given[i]);
    }
    if (paths.empty() || arguments.empty()) return arguments;
    if (paths.size() > 1) throw CLI::ValidationError("--config", "given twice; give it once");
    const std::string& name = arguments.front();
    const auto command = app.get_subcommands([&](const CLI::App* c) { return c->get_name() == name; });
    if (command.empty()) return arguments;
    const std::vector<std::string> read = ConfigFile(paths.front(), *command.front()).arguments(arguments);
    arguments.insert(arguments.begin() + 1, read.begin(), read.end());
    return arguments;
}

}  // namespace promptkd::cli
