// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/evaluate/metrics.hpp>
#include <promptkd/format/file.hpp>
#include <promptkd/optim/schedule.hpp>

#include <nlohmann/json.hpp>
#include <support/golden.hpp>

#include <algorithm>
#include <string>
#include <vector>

namespace promptkd::test {

/// Relative tolerance: these are a few double-precision operations.
inline constexpr double numbers_tolerance = 1e-9;

inline void close_number(Report& report, const std::string& what, double got, double want) {
    report.close(what, &got, &want, 1, numbers_tolerance);
}

/// The configuration under the published trainers' names; a warm-up without a type is none.
inline ScheduleConfig schedule_config(const nlohmann::json& json) {
    ScheduleConfig config;
    config.lr = json.at("lr");
    config.max_epoch = json.at("max_epoch");
    config.schedule = parse_schedule(json.at("lr_scheduler"));
    config.warmup_epoch = json.value("warmup_epoch", Index{-1});
    config.warmup = parse_warmup(json.value("warmup_type", "none"));
    config.warmup_cons_lr = json.value("warmup_cons_lr", config.warmup_cons_lr);
    config.warmup_min_lr = json.value("warmup_min_lr", config.warmup_min_lr);
    config.gamma = json.value("gamma", config.gamma);
    if (json.contains("stepsize")) config.steps = json["stepsize"].get<std::vector<Index>>();
    return config;
}

inline void check_schedule(const nlohmann::json& json, const std::string& what, Report& report) {
    const ScheduleConfig config = schedule_config(json.at("config"));
    validate(config);
    const auto want = json.at("lr_by_epoch").get<std::vector<double>>();
    for (std::size_t epoch = 0; epoch < want.size(); ++epoch)
        close_number(report, concat(what, ".lr_by_epoch[", epoch, "]"),
                     learning_rate(config, static_cast<Index>(epoch)), want[epoch]);
}

inline void check_metrics(const nlohmann::json& json, const std::string& what, Report& report) {
    const auto truth = json.at("y_true").get<std::vector<Index>>();
    const auto predicted = json.at("y_pred").get<std::vector<Index>>();
    Index classes = 0;
    for (const auto* labels : {&truth, &predicted})
        for (const Index label : *labels) classes = std::max(classes, label + 1);
    const Metrics metrics = compute_metrics(truth, predicted, classes);
    if (json.contains("accuracy")) close_number(report, what + ".accuracy", metrics.accuracy, json["accuracy"]);
    if (json.contains("error_rate")) close_number(report, what + ".error_rate", metrics.error_rate, json["error_rate"]);
    if (json.contains("macro_f1")) close_number(report, what + ".macro_f1", metrics.macro_f1, json["macro_f1"]);
    if (json.contains("mean_per_class"))
        close_number(report, what + ".mean_per_class", metrics.mean_per_class, json["mean_per_class"]);
    if (!json.contains("per_class")) return;
    const auto present = std::count_if(metrics.support.begin(), metrics.support.end(), [](Index n) { return n > 0; });
    report.check(static_cast<std::size_t>(present) == json["per_class"].size(), what + ".per_class: number of classes");
    for (const auto& [label, accuracy] : json["per_class"].items()) {
        const auto index = static_cast<std::size_t>(std::stoul(label));
        const bool known = index < metrics.per_class.size() && metrics.support[index] > 0;
        report.check(known, what + ".per_class: class " + label + " is not in y_true");
        if (known) close_number(report, what + ".per_class[" + label + "]", metrics.per_class[index], accuracy);
    }
}

/// Checks the parts `schedules`, `metrics` and `harmonic` of a numbers.json; absent parts are no error.
inline void check_numbers(const std::string& json_path, Report& report) {
    try {
        const nlohmann::json json = nlohmann::json::parse(read_file(json_path));
        const auto each = [&](const char* part, auto&& check) {
            if (!json.contains(part)) return;
            for (std::size_t i = 0; i < json[part].size(); ++i) check(json[part][i], concat(part, "[", i, "]"), report);
        };
        each("schedules", check_schedule);
        each("metrics", check_metrics);
        each("harmonic", [](const nlohmann::json& entry, const std::string& what, Report& to) {
            close_number(to, what, harmonic_mean(entry.at("base"), entry.at("new")), entry.at("harmonic_mean"));
        });
    } catch (const std::exception& error) {
        report.check(false, json_path + ": " + error.what());
    }
}

}  // namespace promptkd::test
