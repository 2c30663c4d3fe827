// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "options.hpp"

#include <promptkd/optim/optimizer.hpp>
#include <promptkd/train/loop.hpp>

#include <algorithm>
#include <functional>
#include <limits>

namespace promptkd::cli {

/// Optimizer, schedule, views and protocol of a training, as users give them: the same for every command that trains.
struct RunOptions {
    std::string schedule = "cosine", warmup, augment = "rrc", optimizer = "sgd", seeds, protocol = "published";
    double warmup_lr = 1e-5, weight_decay = 5e-4, momentum = 0.9, gamma = 0.1;
    Index warmup_epochs = 1, micro_batches = 1;
    std::vector<Index> milestones;

    void apply(TrainingLoopConfig& loop, OptimizerConfig& rule) const {
        ScheduleConfig& s = loop.schedule;
        s.schedule = parse_schedule(schedule == "step" ? "single_step" : schedule);
        s.steps = milestones;
        s.gamma = gamma;
        s.warmup = parse_warmup(!warmup.empty() ? warmup : schedule == "constant" ? "none" : "constant");
        s.warmup_epoch = warmup_epochs;
        s.warmup_cons_lr = warmup_lr;
        s.warmup_min_lr = warmup_lr;
        loop.augmentation = parse_augmentation(augment);
        rule.kind = parse_optimizer(optimizer);
        rule.sgd.momentum = momentum;
        rule.sgd.weight_decay = weight_decay;
        rule.adam.weight_decay = weight_decay;
    }

    /// The seeds of --seeds, or `seed` alone.
    std::vector<std::uint64_t> seed_list(std::uint64_t seed) const {
        if (seeds.empty()) return {seed};
        return number_list<std::uint64_t>(seeds, "--seeds", 0, std::numeric_limits<std::uint64_t>::max());
    }

    /// What does not fit together is bad usage.
    void check() const {
        (void)seed_list(0);
        const auto refuse = [](bool wrong, const char* what) {
            if (wrong) throw CLI::ValidationError("--milestones", what);
        };
        refuse(schedule == "step" && milestones.size() > 1, "--schedule step takes one step length");
        refuse(schedule == "multi_step" && milestones.empty(), "--schedule multi_step needs them: epochs, e.g. 5,10");
        refuse(std::adjacent_find(milestones.begin(), milestones.end(), std::greater_equal<>()) != milestones.end(),
               "must be epochs in ascending order, each once");
    }
};

inline void add_protocol(CLI::App& c, RunOptions& o) {
    c.add_option(
         "--protocol", o.protocol,
         "published (the model after the last epoch) or clean (the best epoch on labelled images held out of the "
         "training part; the test images are looked at once)")
        ->check(CLI::IsMember({"published", "clean"}))
        ->capture_default_str();
}

inline void add_run_options(CLI::App& c, RunOptions& o) {
    c.add_option("--accumulate", o.micro_batches,
                 "work a batch through in so many parts (a BatchNorm then sees one part at a time)")
        ->check(whole_from(1))
        ->capture_default_str();
    c.add_option("--optimizer", o.optimizer, "sgd, adam or adamw")
        ->check(CLI::IsMember({"sgd", "adam", "adamw"}))
        ->capture_default_str();
    c.add_option("--momentum", o.momentum, "of SGD")->check(not_negative())->capture_default_str();
    c.add_option("--weight-decay", o.weight_decay, "of every learnable tensor")
        ->check(not_negative())
        ->capture_default_str();
    c.add_option("--schedule", o.schedule, "cosine, step, multi_step or constant by epoch; cosine_by_step")
        ->check(CLI::IsMember({"cosine", "step", "multi_step", "constant", "cosine_by_step"}))
        ->capture_default_str();
    c.add_option("--milestones", o.milestones, "step length or milestones in epochs")
        ->check(whole_from(1))
        ->delimiter(',')
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    c.add_option("--gamma", o.gamma, "factor of step and multi_step")->check(positive())->capture_default_str();
    c.add_option("--warmup", o.warmup, "none, constant or linear (default: constant; none with a constant schedule)")
        ->check(CLI::IsMember({"none", "constant", "linear"}));
    c.add_option("--warmup-epochs", o.warmup_epochs, "epochs of warm-up")->check(whole_from(0))->capture_default_str();
    c.add_option("--warmup-lr", o.warmup_lr, "learning rate of a constant warm-up, first of a linear one")
        ->check(not_negative())
        ->capture_default_str();
    c.add_option("--augment", o.augment, "rrc (random resized crop and flip), flip or none")
        ->check(CLI::IsMember({"rrc", "flip", "none"}))
        ->capture_default_str();
    comma_list(c.add_option("--seeds", o.seeds,
                            "several seeds, e.g. 1,2,3: all are run; mean and standard deviation printed"));
    add_protocol(c, o);
}

}  // namespace promptkd::cli
