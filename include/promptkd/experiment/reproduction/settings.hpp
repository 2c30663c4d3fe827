// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/recipes.hpp>
#include <promptkd/experiment/reproduction/spec.hpp>

#include <string>

namespace promptkd::detail {

/// A learner's settings on the data set `key`: those asked for, else the published ones.
inline Recipe learner_settings_of(const ReproductionSpec& spec, const std::string& key, Index shots) {
    const ReproducedLearner& asked = spec.learner;
    const LearnerRole role = spec.distils() ? LearnerRole::teacher : LearnerRole::alone;
    Recipe r = protocol_recipe(spec.protocol, parse_learner(asked.name), shots, key, role);
    set_if_given(r.lr, asked.lr);
    set_if_given(r.epochs, asked.epochs);
    set_if_given(r.batch, asked.batch);
    set_if_given(r.depth, asked.depth);
    if (r.text > 0) set_if_given(r.text, asked.prompts);
    if (r.visual > 0) set_if_given(r.visual, asked.prompts);
    return r;
}

/// The student's settings on the data set `key`: those asked for, else the published ones.
inline DistillationRecipe student_settings_of(const ReproductionSpec& spec, const std::string& key) {
    const ReproducedStudent& asked = spec.distillation;
    DistillationRecipe r = distillation_recipe(spec.protocol, key);
    set_if_given(r.lr, asked.lr);
    set_if_given(r.epochs, asked.epochs);
    set_if_given(r.batch, asked.batch);
    set_if_given(r.depth, asked.depth);
    set_if_given(r.prompts, asked.prompts);
    set_if_given(r.kd_weight, asked.kd_weight);
    set_if_given(r.temperature, asked.temperature);
    return r;
}

}  // namespace promptkd::detail
