// SPDX-License-Identifier: Apache-2.0
// The program `promptkd`: one subcommand for each thing the library does. Exit status 2: bad usage, 1: a failed run.
#include "commands.hpp"
#include "config_file.hpp"
#include "launch.hpp"
#include "progress.hpp"
#include "signals.hpp"
#include "streams.hpp"
#include "unknown.hpp"

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>
#include <promptkd/core/heap.hpp>
#include <promptkd/core/utf8.hpp>
#include <promptkd/format/exif.hpp>

#if defined(PROMPTKD_PROGRAM_JPEG_TURBO)
#include <promptkd/format/jpeg_turbo.hpp>
#endif

#include <algorithm>
#include <csignal>
#include <iostream>
#include <new>
#include <stdexcept>

namespace {

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

/// The command that was chosen, or the program itself.
const CLI::App& chosen_command(const CLI::App& app) {
    const auto chosen = app.get_subcommands();
    return chosen.empty() ? app : *chosen.front();
}

std::string name_of_command(const CLI::App& app) {
    const CLI::App& command = chosen_command(app);
    return &command == &app ? "promptkd" : "promptkd " + command.get_name();
}

int usage_error(const CLI::App& app, const std::string& what) {
    const std::string name = name_of_command(app);
    if (promptkd::cli::launch().is_root())
        std::cerr << name << ": " << promptkd::printable(what) << "; see " << name << " --help" << std::endl;
    return 2;
}

/// What is wrong with the usage: an argument that is not known comes before what is missing, it may be meant for it.
std::string what_is_wrong(const CLI::App& app, const CLI::ParseError& error) {
    const std::vector<std::string> unknown = app.remaining(true);
    const bool extra = dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr;
    const bool missing = dynamic_cast<const CLI::RequiredError*>(&error) != nullptr;
    if (unknown.empty() || !(extra || missing)) return error.what();
    return promptkd::cli::describe_unknown(chosen_command(app), unknown);
}

/// Options that were given twice although they take one value, and empty values, are bad usage.
void check_given(const CLI::App& command) {
    for (const CLI::Option* option : command.get_options()) {
        const auto given = option->results();
        if (given.size() > 1 && !promptkd::cli::is_list(*option) && !promptkd::cli::is_comma_list(*option))
            throw CLI::ValidationError(option->get_name(),
                                       "given " + std::to_string(given.size()) + " times; give it once");
        if (std::count(given.begin(), given.end(), "") > 0 && !promptkd::cli::is_allowed_empty(*option))
            throw CLI::ValidationError(option->get_name(), "is empty; give it a value, or leave it out");
    }
}

/// Where --json sends the results of a command; empty: nowhere.
std::string json_option(const CLI::App& command) {
    const CLI::Option* option = command.get_option_no_throw("--json");
    return option == nullptr || option->count() == 0 ? "" : option->as<std::string>();
}

void add_commands(CLI::App& app, promptkd::cli::Action& action) {
    for (const auto add : {&promptkd::cli::add_demo, &promptkd::cli::add_zero_shot, &promptkd::cli::add_train,
                           &promptkd::cli::add_distill, &promptkd::cli::add_teacher_logits,
                           &promptkd::cli::add_reproduce, &promptkd::cli::add_evaluate, &promptkd::cli::add_classify,
                           &promptkd::cli::add_segment, &promptkd::cli::add_detect, &promptkd::cli::add_bundle,
                           &promptkd::cli::add_encode, &promptkd::cli::add_tokenize, &promptkd::cli::add_inspect,
                           &promptkd::cli::add_convert, &promptkd::cli::add_export})
        add(app, action);
}

void parse(CLI::App& app, const std::vector<std::string>& arguments) {
    std::vector<std::string> reversed = promptkd::cli::with_config(arguments, app);
    const auto known = [&](const std::string& name) {
        const auto commands = app.get_subcommands({});
        return std::any_of(commands.begin(), commands.end(),
                           [&](const CLI::App* command) { return command->get_name() == name; });
    };
    if (!reversed.empty() && reversed.front().rfind('-', 0) != 0 && !known(reversed.front()))
        throw CLI::ExtrasError("promptkd", {reversed.front()});
    std::reverse(reversed.begin(), reversed.end());
    app.parse(reversed);
    check_given(*app.get_subcommands().front());
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
    add_commands(app, action);
    for (CLI::App* command : app.get_subcommands({})) command->footer(configuration);
    try {
        parse(app, arguments);
        const std::string command = app.get_subcommands().front()->get_name();
        promptkd::require(promptkd::cli::launch().alone() || command == "distill" || command == "evaluate", "promptkd ",
                          command, " runs in one process; start it without mpirun (distill and evaluate use several)");
        const promptkd::cli::Output output{json_option(*app.get_subcommands().front())};
        output.check();
        const int status = action();
        warn_of_rotation();
        promptkd::cli::print_skipped(output.text());
        return status;
    } catch (const CLI::Success& success) {
        return app.exit(success);
    } catch (const CLI::ParseError& error) {
        return usage_error(app, what_is_wrong(app, error));
    }
}

}  // namespace

int main(int argc, char** argv) {
    promptkd::return_large_blocks();
    auto& output = promptkd::cli::prepare_streams();
#if defined(PROMPTKD_PROGRAM_JPEG_TURBO)
    promptkd::use_jpeg_turbo();
#endif
    std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit is then an error of the write, with a message
    try {
        const int status = run({argv + 1, argv + argc});
        promptkd::cli::finish_output(output);
        return status;
    } catch (const promptkd::cli::Interruption& end) {
        if (promptkd::cli::launch().is_root()) complain(promptkd::printable(end.what()));
        return end.status();
    } catch (const std::bad_alloc&) {
        complain("out of memory; a smaller batch, smaller images or fewer threads take less");
    } catch (const std::length_error&) {
        complain("out of memory: a size is larger than any memory");
    } catch (const std::exception& error) {
        complain(promptkd::printable(error.what()));
    }
    promptkd::cli::end_ranks(1);  // the others may be waiting for this one
    return 1;
}
