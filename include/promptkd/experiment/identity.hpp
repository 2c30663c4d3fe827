// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/checkpoint/image_input.hpp>
#include <promptkd/format/exif.hpp>
#include <promptkd/optim/optimizer.hpp>
#include <promptkd/train/loop.hpp>

#include <nlohmann/json.hpp>

namespace promptkd {

/// Adds what the user says about images under `key`; nothing where nothing is said.
inline void add_images(nlohmann::json& identity, const char* key, const ImageInputOptions& o) {
    if (o == ImageInputOptions()) return;
    identity[key] = {{"file", o.file},
                     {"mean", o.mean},
                     {"std", o.std},
                     {"interpolation", o.interpolation},
                     {"resize-mode", o.resize_mode},
                     {"resize-to", o.resize_to},
                     {"fill", o.fill.value_or(-1)},
                     {"resolution", o.resolution}};
    if (!o.convert_rgb.empty()) identity[key]["convert-rgb"] = o.convert_rgb;
}

/// What of loop and optimizer the results of a training depend on.
inline nlohmann::json identity_of(const TrainingLoopConfig& loop, const OptimizerConfig& rule) {
    const ScheduleConfig& s = loop.schedule;
    nlohmann::json id = {{"batch", loop.batch},
                         {"steps", loop.max_steps},
                         {"epochs", s.max_epoch},
                         {"lr", s.lr},
                         {"schedule", name_of(s.schedule)},
                         {"milestones", s.steps},
                         {"gamma", s.gamma},
                         {"warmup", name_of(s.warmup)},
                         {"warmup-epochs", s.warmup_epoch},
                         {"warmup-lr", s.warmup == Warmup::linear ? s.warmup_min_lr : s.warmup_cons_lr},
                         {"augment", to_string(loop.augmentation)},
                         {"shuffle", loop.shuffle},
                         {"seed", loop.seed},
                         {"fixed-views", loop.fixed_views}};
    if (exif_rotation().applied()) id["exif-rotate"] = true;
    if (loop.view_seed) id["view-seed"] = *loop.view_seed;
    constexpr const char* optimizers[] = {"sgd", "adam", "adamw"};
    id["optimizer"] = optimizers[static_cast<int>(rule.kind)];
    if (rule.kind == OptimizerKind::sgd) {
        id["momentum"] = rule.sgd.momentum;
        id["dampening"] = rule.sgd.dampening;
        id["nesterov"] = rule.sgd.nesterov;
        id["weight-decay"] = rule.sgd.weight_decay;
    } else {
        id["betas"] = {rule.adam.beta_1, rule.adam.beta_2};
        id["epsilon"] = rule.adam.epsilon;
        id["weight-decay"] = rule.adam.weight_decay;
    }
    return id;
}

}  // namespace promptkd
