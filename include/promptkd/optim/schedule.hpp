// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

namespace promptkd {

/// Shape of the learning rate after warm-up.
enum class Schedule { constant, cosine, single_step, multi_step, cosine_by_step };
/// Shape of the learning rate during warm-up.
enum class Warmup { none, constant, linear };

/// "cosine", "single_step", "multi_step", "cosine_by_step" or "constant". Throws Error listing the names for any other.
inline Schedule parse_schedule(const std::string& name) {
    if (name == "constant") return Schedule::constant;
    if (name == "cosine") return Schedule::cosine;
    if (name == "single_step") return Schedule::single_step;
    if (name == "multi_step") return Schedule::multi_step;
    if (name == "cosine_by_step") return Schedule::cosine_by_step;
    fail("unknown learning-rate schedule '", name,
         "'; known: cosine, single_step, multi_step, cosine_by_step, constant");
}

/// "none", "constant" or "linear". Throws Error listing the names for any other.
inline Warmup parse_warmup(const std::string& name) {
    if (name == "none") return Warmup::none;
    if (name == "constant") return Warmup::constant;
    if (name == "linear") return Warmup::linear;
    fail("unknown warm-up '", name, "'; known: none, constant, linear");
}

/// As parse_schedule() reads it.
inline const char* name_of(Schedule schedule) {
    constexpr const char* names[] = {"constant", "cosine", "single_step", "multi_step", "cosine_by_step"};
    return names[static_cast<int>(schedule)];
}

/// As parse_warmup() reads it.
inline const char* name_of(Warmup warmup) {
    constexpr const char* names[] = {"none", "constant", "linear"};
    return names[static_cast<int>(warmup)];
}

/// A learning-rate schedule by epochs. The defaults are PromptKD's.
struct ScheduleConfig {
    double lr = 0.005;                     ///< base learning rate
    Index max_epoch = 20;                  ///< number of epochs
    Schedule schedule = Schedule::cosine;  ///< after the warm-up
    std::vector<Index> steps;  ///< single_step: the step length (none or ≤ 0: max_epoch); multi_step: the milestones
    double gamma = 0.1;        ///< factor of single_step and multi_step
    Warmup warmup = Warmup::constant;  ///< of the first epochs
    Index warmup_epoch = 1;            ///< ≤ 0: no warm-up
    double warmup_cons_lr = 1e-5;      ///< rate during a constant warm-up
    double warmup_min_lr = 1e-5;       ///< rate of epoch 0 of a linear warm-up
    Index warmup_steps = 0;            ///< cosine_by_step: steps of a linear warm-up that multiplies the cosine
    double last_lr = 0;                ///< cosine_by_step: where the cosine ends
};

/// Throws Error naming the value that makes no sense.
inline void validate(const ScheduleConfig& config) {
    require(std::isfinite(config.lr) && config.lr > 0, "learning rate must be positive, found ", config.lr);
    require(config.max_epoch >= 1, "number of epochs must be at least 1, found ", config.max_epoch);
    require(std::isfinite(config.gamma) && config.gamma > 0, "gamma must be positive, found ", config.gamma);
    require(config.schedule != Schedule::multi_step || !config.steps.empty(),
            "schedule multi_step needs milestones, none given");
    require(config.schedule != Schedule::single_step || config.steps.size() <= 1,
            "schedule single_step needs one step length, found ", config.steps.size());
    const auto good = [](double rate) { return std::isfinite(rate) && rate >= 0; };
    require(good(config.warmup_cons_lr) && good(config.warmup_min_lr), "warm-up rates must not be negative");
    require(good(config.last_lr) && config.warmup_steps >= 0,
            "the last rate and the steps of warm-up must not be "
            "negative");
}

/// Learning rate of `epoch` (from 0), with w = warmup_epoch and t = epoch − w (w = 0 without warm-up):
///   epoch < w   constant: warmup_cons_lr; linear: warmup_min_lr at epoch 0, then lr·epoch/w
///   otherwise   constant: lr; cosine: lr·½(1 + cos(πt/max_epoch)); single_step: lr·γ^⌊t/step⌋;
///               multi_step: lr·γ^(number of milestones ≤ t)
/// The cosine is over max_epoch, not max_epoch − w, as in the published trainers: its end is not 0.
inline double learning_rate(const ScheduleConfig& config, Index epoch) {
    const Index warm = config.warmup == Warmup::none ? 0 : std::max<Index>(config.warmup_epoch, 0);
    if (epoch < warm) {
        if (config.warmup == Warmup::constant) return config.warmup_cons_lr;
        return epoch == 0 ? config.warmup_min_lr : config.lr * static_cast<double>(epoch) / static_cast<double>(warm);
    }
    const Index t = epoch - warm;
    switch (config.schedule) {
        case Schedule::cosine: {
            constexpr double pi = 3.14159265358979323846;
            return config.lr * 0.5 *
                   (1 + std::cos(pi * static_cast<double>(t) / static_cast<double>(config.max_epoch)));
        }
        case Schedule::single_step: {
            const Index step = config.steps.empty() || config.steps[0] <= 0 ? config.max_epoch : config.steps[0];
            return config.lr * std::pow(config.gamma, static_cast<double>(t / step));
        }
        case Schedule::multi_step: {
            const auto passed =
                std::count_if(config.steps.begin(), config.steps.end(), [t](Index m) { return m <= t; });
            return config.lr * std::pow(config.gamma, static_cast<double>(passed));
        }
        default:
            return config.lr;
    }
}

/// Learning rate of step k (from 0) of `steps`, in `epoch`:
///   cosine_by_step: (last_lr + (lr − last_lr)·½(1 + cos(πk/steps)))·min(1, (k+1)/warmup_steps); others by the epoch.
inline double learning_rate(const ScheduleConfig& config, Index epoch, Index step, Index steps) {
    if (config.schedule != Schedule::cosine_by_step) return learning_rate(config, epoch);
    constexpr double pi = 3.14159265358979323846;
    const double at = static_cast<double>(step) / static_cast<double>(std::max<Index>(1, steps));
    const double warm = static_cast<double>(step + 1) / static_cast<double>(std::max<Index>(1, config.warmup_steps));
    const double cosine = config.last_lr + (config.lr - config.last_lr) * 0.5 * (1 + std::cos(pi * at));
    return cosine * std::min(1.0, warm);
}

}  // namespace promptkd
