// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/format/file.hpp>
#include <promptkd/format/json_text.hpp>
#include <promptkd/train/loop.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <optional>
#include <string>

namespace promptkd {

/// Steps that are timed before a budget is divided.
inline constexpr Index timed_steps = 20;

namespace detail {

inline std::string budget_path(const std::string& out) { return out + "/checkpoint/budget.json"; }

/// The number of steps that an interrupted run in `out` has chosen; empty where there is none.
inline std::optional<Index> chosen_steps(const std::string& out) {
    if (out.empty() || !has_checkpoint(out) || !std::filesystem::exists(budget_path(out))) return std::nullopt;
    const auto json = nlohmann::json::parse(read_file(budget_path(out)), nullptr, false);
    const bool good = json.is_object() && json.contains("steps") && json.at("steps").is_number_unsigned();
    require(good, budget_path(out), ": damaged; start again");
    return json.at("steps").get<Index>();
}

/// Remembers it for a run that is continued.
inline void keep_steps(const std::string& out, Index steps) {
    if (out.empty()) return;
    make_directories(out + "/checkpoint");
    write_atomically(budget_path(out), json_text(nlohmann::json{{"steps", steps}}) + "\n");
}

/// Seconds of a step of `trained` over `data`, whose state is the same afterwards.
inline double seconds_of_step(Trainable& trained, const Dataset& data, TrainingLoopConfig loop) {
    TensorMap before;
    trained.save(before);
    loop.out.clear();
    loop.max_steps = timed_steps;
    loop.resume = false;
    loop.on_step = {};
    loop.on_epoch = {};
    loop.should_stop = {};
    loop.interrupted = {};
    loop.meet = {};
    const auto start = std::chrono::steady_clock::now();
    const TrainingResult result = TrainingLoop(trained, data, loop).run();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    trained.load(before);
    return seconds / static_cast<double>(std::max<Index>(1, result.progress.step));
}

}  // namespace detail

/// Steps of `each` seconds that fit `left` seconds of a budget, a tenth of which is kept for checks and evaluation; not
/// more than `most`. Throws Error for a budget that 20 steps do not fit.
inline Index steps_within(double budget, double left, double each, Index most) {
    const double fit = std::floor(0.9 * left / each);
    require(fit >= static_cast<double>(timed_steps) || most < timed_steps, "a budget of ", budget,
            " s is too short: ", std::max(0.0, fit), " steps of ", each, " s fit into the ", std::max(0.0, left),
            " s that are left of it after the preparations, at least ", timed_steps, " are needed");
    return fit < static_cast<double>(most) ? static_cast<Index>(fit) : most;
}

}  // namespace promptkd
