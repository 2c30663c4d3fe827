// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/adapted_recipe.hpp>
#include <promptkd/experiment/recipes.hpp>
#include <promptkd/experiment/reproduction/spec.hpp>

#include <optional>
#include <string>

namespace promptkd {

/// Throws Error for settings that contradict each other.
inline void validate(const ReproductionSpec& spec) {
    const bool pair = !spec.teacher.empty() || !spec.student.empty();
    require(pair != !spec.weights.empty(),
            "reproduction: give a teacher and a student (PromptKD), or the weights of a learner alone");
    require(spec.teacher.empty() == spec.student.empty(), "reproduction: PromptKD needs both a teacher and a student");
    const bool none = spec.learner.name == "none";
    require(pair || !none, "reproduction: without a learner there must be a student");
    require(!pair || none || find_learner(spec.learner.name).fixed_prompts, "reproduction: the class vectors of ",
            spec.learner.name, " depend on the image and cannot be shared with a student");
    const ReproducedStudent& student = spec.distillation;
    require(pair || (student.is_published() && student.beside.empty() && !student.mix && !student.guard),
            "reproduction: another fit, a mixture and a guard belong to a student");
    require(student.is_published() || (!student.mix && !student.guard),
            "reproduction: a fit in closed form and the best fit have mixture and guard always");
    require(!spec.data.empty(), "reproduction: there is no data set");
    require(!spec.seeds.empty(), "reproduction: there is no seed");
    require(spec.shots.size() <= 1 || spec.protocol == Protocol::few_shot,
            "reproduction: only few-shot takes several numbers of shots");
    require(has_source(spec.protocol) || spec.source.empty(), "reproduction: ", name_of(spec.protocol),
            " has no source data set");
    require(!has_source(spec.protocol) || !spec.source.empty(), "reproduction: ", name_of(spec.protocol),
            " needs a source, the data set that prompts are learned on");
}

namespace detail {

/// A learner's settings on the data set `key`: those asked for, else the published ones.
inline Recipe learner_settings_of(const ReproductionSpec& spec, const std::string& key, Index shots) {
    const ReproducedLearner& asked = spec.learner;
    const LearnerRole role = spec.distils() ? LearnerRole::teacher : LearnerRole::alone;
    Recipe r = protocol_recipe(spec.protocol, asked.name, shots, key, role);
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

/// The steps of a learner whose recipe counts steps, not epochs.
inline std::optional<Index> fixed_steps(const std::string& learner, Index shots) {
    const LearnerInfo& info = find_learner(learner);
    TrainingLoopConfig loop;
    OptimizerConfig rule;
    if (info.complete) info.complete(loop, rule, shots);
    return loop.max_steps > 0 ? std::optional(loop.max_steps) : std::nullopt;
}

/// A best fit's rate, batch and epochs on so many images.
inline void use_adapted_recipe(DistillationRecipe& student, Index images) {
    const AdaptedRecipe recipe;
    student.lr = recipe.rate;
    student.batch = recipe.batch;
    student.epochs = adapted_epochs(images);
}

}  // namespace detail
}  // namespace promptkd
