// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>

#include <functional>

namespace promptkd::cli {

/// What a command does once its options are parsed; returns the exit status.
using Action = std::function<int()>;

// Each adds its subcommand to `app`; the chosen one's work is put into `action` while the options are parsed.
void add_demo(CLI::App& app, Action& action);
void add_distill(CLI::App& app, Action& action);
void add_teacher_logits(CLI::App& app, Action& action);
void add_train(CLI::App& app, Action& action);
void add_zero_shot(CLI::App& app, Action& action);
void add_evaluate(CLI::App& app, Action& action);
void add_classify(CLI::App& app, Action& action);
void add_segment(CLI::App& app, Action& action);
void add_detect(CLI::App& app, Action& action);
void add_bundle(CLI::App& app, Action& action);
void add_encode(CLI::App& app, Action& action);
void add_tokenize(CLI::App& app, Action& action);
void add_inspect(CLI::App& app, Action& action);
void add_reproduce(CLI::App& app, Action& action);
void add_convert(CLI::App& app, Action& action);
void add_export(CLI::App& app, Action& action);

}  // namespace promptkd::cli
