// SPDX-License-Identifier: Apache-2.0
// The program `promptkd`: one subcommand for each thing the library does. Exit status 2: bad usage, 1: a failed run.
#include "commands.hpp"
#include "launch.hpp"

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>
#include <promptkd/format/exif.hpp>
#include <promptkd/format/file.hpp>

#if defined(PROMPTKD_PROGRAM_JPEG_TURBO)
#include <promptkd/format/jpeg_turbo.hpp>
#endif

#include <nlohmann/json.hpp>

#include <algorithm>
#include <csignal>
#include <iostream>

namespace {

/// `--config FILE`: the file's keys become options in front of those of the command line, which therefore win.
std::vector<std::string> with_config(const std::vector<std::string>& given) {
    std::vector<std::string> before, after;
    std::string path;
    for (std::size_t i = 0; i < given.size(); ++i) {
        if (given[i] == "--config" && i + 1 < given.size())
            path = given[++i];
        else if (given[i].rfind("--config=", 0) == 0)
            path = given[i].substr(9);
        else
            after.push_back(given[i]);
    }
    if (path.empty()) return after;
    const nlohmann::json config = nlohmann::json::parse(promptkd::read_file(path), nullptr, false);
    promptkd::require(config.is_object(), path, ": not a JSON object of options");
    const auto text = [](const nlohmann::json& v) { return v.is_string() ? v.get<std::string>() : v.dump(); };
    for (const auto& [key, value] : config.items()) {
        if (key == "command" || (value.is_string() && value.get<std::string>().empty())) continue;
        const std::string flag = "--" + key;
        if (std::any_of(after.begin(), after.end(),
                        [&](const std::string& a) { return a == flag || a.rfind(flag + "=", 0) == 0; }))
            continue;  // the command line wins, also where an option may be repeated
        if (value.is_boolean()) {
            if (value.get<bool>()) before.push_back("--" + key);
            continue;
        }
        if (value.is_array() && !value.empty() && value.front().is_string()) {  // a list of texts repeats the option
            for (const auto& part : value) before.push_back("--" + key + "=" + text(part));
            continue;
        }
        std::string joined;
        if (value.is_array())
            for (const auto& part : value) joined += (joined.empty() ? "" : ",") + text(part);
        else
            joined = text(value);
        before.push_back("--" + key + "=" + joined);
    }
    if (!after.empty()) {  // the command
        before.insert(before.begin(), after.front());
        after.erase(after.begin());
    }
    before.insert(before.end(), after.begin(), after.end());
    return before;
}

/// A message without line breaks: those of a hostile file name, or of a library.
std::string one_line(std::string what) {
    while (!what.empty() && what.back() == '\n') what.pop_back();
    for (char& c : what)
        if (static_cast<unsigned char>(c) < 32) c = ' ';
    return what;
}

/// One line on standard error. Of several processes the first speaks for all that meet the same error.
void complain(const std::string& what) {
    using promptkd::cli::launch;
    if (!launch().alone()) promptkd::cli::let_rank_0_speak();
    if (launch().is_root())
        std::cerr << "promptkd: " << what << std::endl;
    else
        std::cerr << "promptkd: process " << launch().rank << ": " << what << std::endl;
}

/// Once a run: photos that a viewer turns and the published loaders do not.
void warn_of_rotation() {
    const promptkd::ExifRotation& rotation = promptkd::exif_rotation();
    if (const std::size_t n = rotation.count_left())
        std::cerr << "warning: " << n << (n == 1 ? " image carries" : " images carry")
                  << " an EXIF rotation, which is not applied, as in the published loaders (" << rotation.first_left()
                  << (n == 1 ? "" : ", …") << "); --exif-rotate applies it" << std::endl;
}

int usage_error(const CLI::App& app, const CLI::ParseError& error) {
    const auto chosen = app.get_subcommands();
    const std::string name = "promptkd" + (chosen.empty() ? "" : " " + chosen.front()->get_name());
    if (promptkd::cli::launch().is_root())
        std::cerr << name << ": " << one_line(error.what()) << "; see " << name << " --help" << std::endl;
    return 2;
}

int run(const std::vector<std::string>& arguments) {
    CLI::App app{"Prompt learning and prompt-driven distillation for CLIP.", "promptkd"};
    app.set_version_flag("--version", std::string("promptkd ") + promptkd::version);
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    const std::string configuration =
        "--config FILE reads options from a JSON object; options given on the command line win.";
    app.footer("Every command: " + configuration + "\nExit status: 0 done, 1 failed, 2 bad usage.");
    app.require_subcommand(1);
    promptkd::cli::Action action;
    for (const auto add : {&promptkd::cli::add_demo, &promptkd::cli::add_zero_shot, &promptkd::cli::add_train,
                           &promptkd::cli::add_distill, &promptkd::cli::add_teacher_logits,
                           &promptkd::cli::add_reproduce, &promptkd::cli::add_evaluate, &promptkd::cli::add_classify,
                           &promptkd::cli::add_bundle, &promptkd::cli::add_encode, &promptkd::cli::add_tokenize,
                           &promptkd::cli::add_inspect, &promptkd::cli::add_convert})
        add(app, action);
    for (CLI::App* command : app.get_subcommands({})) command->footer(configuration);
    try {
        std::vector<std::string> reversed = with_config(arguments);
        const auto known = [&](const std::string& name) {
            const auto commands = app.get_subcommands({});
            return std::any_of(commands.begin(), commands.end(),
                               [&](const CLI::App* command) { return command->get_name() == name; });
        };
        if (!reversed.empty() && reversed.front().rfind('-', 0) != 0 && !known(reversed.front()))
            throw CLI::ExtrasError("promptkd", {reversed.front()});
        std::reverse(reversed.begin(), reversed.end());
        app.parse(reversed);
    } catch (const CLI::Success& success) {
        return app.exit(success);
    } catch (const CLI::ParseError& error) {
        return usage_error(app, error);
    }
    const std::string command = app.get_subcommands().front()->get_name();
    promptkd::require(promptkd::cli::launch().alone() || command == "distill" || command == "evaluate", "promptkd ",
                      command, " runs in one process; start it without mpirun (distill and evaluate use several)");
    const int status = action();
    warn_of_rotation();
    return status;
}

}  // namespace

int main(int argc, char** argv) {
#if defined(PROMPTKD_PROGRAM_JPEG_TURBO)
    promptkd::use_jpeg_turbo();
#endif
    std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit is then an error of the write, with a message
    try {
        return run({argv + 1, argv + argc});
    } catch (const std::bad_alloc&) {
        complain("out of memory");
    } catch (const std::exception& error) {
        complain(one_line(error.what()));
    }
    promptkd::cli::end_ranks(1);  // the others may be waiting for this one
    return 1;
}
