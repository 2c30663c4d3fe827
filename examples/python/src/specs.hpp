// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "settings.hpp"

#include <promptkd/experiment/distillation_spec.hpp>
#include <promptkd/experiment/reproduction/spec.hpp>
#include <promptkd/experiment/training_spec.hpp>

#include <string>

// What promptkd/specs.py describes, as the library takes it. The names are those of the program's options.
namespace promptkd::python {

namespace detail {

inline const SettingNames& setting_names(const char* config) {
    static std::map<std::string, SettingNames> all;
    return all.emplace(config, SettingNames{"activation", config}).first->second;
}

inline void take_class_names(Settings& given, ClassNames& to) {
    std::vector<std::string> names;
    if (given.take("class_names", names)) to = ClassNames(names);
}

inline void take_loop(Settings& given, TrainingLoopConfig& loop, OptimizerConfig& rule) {
    given.take_positive("lr", loop.schedule.lr);
    given.take_from<Index>("epochs", loop.schedule.max_epoch, 1);
    given.take_from<Index>("batch", loop.batch, 1);
    given.take_from<Index>("steps", loop.max_steps, 0);
    given.take_parsed("schedule", loop.schedule.schedule, parse_schedule);
    given.take_parsed("warmup", loop.schedule.warmup, parse_warmup);
    given.take_parsed("augment", loop.augmentation, parse_augmentation);
    given.take_parsed("optimizer", rule.kind, parse_optimizer);
    double decay = 0;
    if (given.take_from("weight_decay", decay, 0.0)) rule.sgd.weight_decay = rule.adam.weight_decay = decay;
}

/// What is as it is whatever the recipe says.
inline void take_run(Settings& given, TrainingLoopConfig& loop) {
    given.take("seed", loop.seed);
    given.take("loader_threads", loop.loader_threads);
    given.take("out", loop.out);
}

inline void take_models(Settings& given, DistillationSpec& spec) {
    given.take("teacher", spec.teacher.weights);
    given.take("teacher_prompts", spec.teacher.prompts);
    given.take("teacher_config", spec.teacher.config);
    given.take("class_vectors", spec.teacher.class_vectors);
    given.take("teacher_logits", spec.stored_targets);
    given.take("student", spec.student.path);
    given.take("student_config", spec.student.config);
    given.take("activation", spec.student.activation);
    spec.teacher.activation = spec.student.activation;
    spec.student.names = setting_names("student_config");
    spec.teacher.names = setting_names("teacher_config");
    given.take("init", spec.init);
    given.take("vocabulary", spec.vocabulary);
    given.take("template", spec.pattern);
    given.take("templates", spec.text.templates);
    given.take("descriptions", spec.text.descriptions);
}

inline void take_images(Settings& given, DistillationData& data) {
    given.take("data", data.source);
    take_class_names(given, data.class_names);
    given.take_from<Index>("images", data.images, 0);
    given.take_from("holdout", data.holdout, 0.0);
    given.take("evaluate", data.evaluation);
    given.take_parsed("distil_classes", data.classes, parse_class_subset);
}

inline void take_adapted(Settings& given, DistillationSpec& spec) {
    given.take_from<Index>("hold_out", spec.adapted.hold_out, 1);
    given.take_from<Index>("folds", spec.adapted.folds, 1);
    given.take_positive("budget_seconds", spec.adapted.budget_seconds);
    given.take("one_pass", spec.adapted.one_pass);
    given.take("merge_lora", spec.adapted.merge_lora);
    given.take_from<Index>("rank", spec.shape.lora.rank, 1);
}

/// How the student is fitted; the recipe for adapted students where more than prompts is trained, or asked for.
inline void take_fit(Settings& given, DistillationSpec& spec) {
    std::string recipe = "published";
    AdaptedRecipe adapted;
    given.take_parsed("fit", spec.fit, parse_fit);
    if (!given.take_parsed("adapt", spec.shape.training, parse_encoder_training) && spec.is_best())
        spec.shape.training = EncoderTraining::lora;
    const bool more = spec.is_best() || spec.shape.training != EncoderTraining::frozen;
    if (!given.take("recipe", recipe) && more) recipe = "adapted";
    require(recipe == "published" || recipe == "adapted", "distill: recipe must be published or adapted, found ",
            recipe);
    given.take_positive("body_rate", adapted.body_rate);
    given.take_from("clip", adapted.clip, 0.0);
    given.take_from<Index>("checks", adapted.checks, 1);
    if (recipe == "adapted") use_adapted_recipe(spec, adapted);
    take_adapted(given, spec);
    given.take_from<Index>("width", spec.in_closed_form() ? spec.closed_form.width : spec.shape.hidden, 0);
    given.take("mix", spec.mixture.mix);
    given.take("guard", spec.mixture.guard);
}

}  // namespace detail

/// Of DistillationSpec in promptkd/specs.py. Throws Error for what is missing, unknown or of another kind.
inline DistillationSpec distillation_spec(const std::string& json) {
    Settings given(json, "distill");
    DistillationSpec spec;
    for (const char* name : {"student", "data", "out"}) given.need(name);
    require(given.has("teacher") || given.has("teacher_logits"), "distill: teacher is needed");
    detail::take_models(given, spec);
    detail::take_images(given, spec.data);
    detail::take_fit(given, spec);
    given.take_from<Index>("prompts", spec.shape.prompts, 0);
    given.take_from<Index>("depth", spec.shape.depth, 1);
    given.take_from<Index>("projector_layers", spec.shape.projector_layers, 1);
    given.take("recompute", spec.shape.recompute);
    given.take_parsed("kd", spec.loss.kd, parse_kd_loss);
    given.take_positive("temperature", spec.loss.temperature);
    given.take_positive("kd_weight", spec.loss.kd_weight);
    detail::take_loop(given, spec.loop, spec.loss.optimizer);
    detail::take_run(given, spec.loop);
    given.take("fresh", spec.fresh);
    given.finish();
    return spec;
}

namespace detail {

/// The published recipe of the learner with what was given instead.
inline void take_recipe(Settings& given, TrainingSpec& spec) {
    Recipe& recipe = spec.recipe;
    recipe = published_recipe(spec.learner, spec.data.shots);
    given.take_from<Index>("context", recipe.text, 1);
    given.take_from<Index>("visual_prompts", recipe.visual, 1);
    given.take_from<Index>("depth", recipe.depth, 1);
    std::map<std::string, double> own;
    given.take("options", own);
    for (const auto& [name, value] : own) {
        const auto found = recipe.options.find(name);
        require(found != recipe.options.end(), "train: ", spec.learner, " has no option '", name, "'");
        found->second = value;
    }
    if (find_learner(spec.learner).ties_branches) recipe.visual = recipe.text;
}

inline void take_training_loop(Settings& given, TrainingSpec& spec) {
    TrainingLoopConfig& loop = spec.loop;
    use_recipe(spec, Recipe(spec.recipe));
    if (given.has("epochs")) loop.max_steps = 0;
    take_loop(given, loop, spec.optimizer);
    spec.recipe.lr = loop.schedule.lr;
    spec.recipe.epochs = loop.schedule.max_epoch;
    spec.recipe.batch = loop.batch;
}

inline void take_few_shot(Settings& given, FewShotData& data) {
    given.take("data", data.source);
    take_class_names(given, data.class_names);
    ClassSubset classes = ClassSubset::base;
    if (given.take_parsed("classes", classes, parse_class_subset)) data.classes = classes;
    given.take_from<Index>("shots", data.shots, 0);
    given.take_from<Index>("images", data.images, 0);
    given.take("allow_fewer", data.allow_fewer);
    given.take_from("holdout", data.holdout, 0.0);
    given.take("evaluate", data.evaluation);
}

}  // namespace detail

/// Of TrainingSpec in promptkd/specs.py.
inline TrainingSpec training_spec(const std::string& json) {
    Settings given(json, "train");
    TrainingSpec spec;
    for (const char* name : {"weights", "data", "out"}) given.need(name);
    given.take("learner", spec.learner);
    given.take("weights", spec.model.path);
    given.take("model_config", spec.model.config);
    given.take("activation", spec.model.activation);
    spec.model.names = detail::setting_names("model_config");
    given.take("vocabulary", spec.vocabulary);
    detail::take_few_shot(given, spec.data);
    detail::take_recipe(given, spec);
    detail::take_training_loop(given, spec);
    detail::take_run(given, spec.loop);
    given.take("context_words", spec.context.words);
    given.take_parsed("position", spec.context.position, parse_context_position);
    given.take("class_specific", spec.context.class_specific);
    given.take_from<Index>("class_chunk", spec.class_chunk, 0);
    given.take("teacher", spec.knowledge.teacher.weights);
    given.take("teacher_prompts", spec.knowledge.teacher.prompts);
    spec.knowledge.teacher.activation = spec.model.activation;
    spec.data.labels_needed = !spec.knowledge.is_used();
    given.take("fresh", spec.fresh);
    given.finish();
    return spec;
}

namespace detail {

inline void take_reproduced_models(Settings& given, ReproductionSpec& spec) {
    given.take("teacher", spec.teacher);
    given.take("student", spec.student);
    given.take("weights", spec.weights);
    given.take("teacher_prompts", spec.teacher_prompts);
    given.take("teacher_config", spec.teacher_config);
    given.take("student_config", spec.student_config);
    given.take("activation", spec.activation);
    given.take("vocabulary", spec.vocabulary);
    spec.teacher_names = setting_names("teacher_config");
    spec.student_names = setting_names("student_config");
    const bool pair = !spec.teacher.empty() || !spec.student.empty();
    require(pair == spec.weights.empty() && spec.teacher.empty() == spec.student.empty(),
            "reproduce: give teacher and student (PromptKD), or weights (a learner alone)");
}

inline void take_reproduced_learner(Settings& given, ReproducedLearner& learner) {
    given.take("learner", learner.name);
    given.take("learner_lr", learner.lr);
    given.take("learner_epochs", learner.epochs);
    given.take("learner_batch", learner.batch);
    given.take("learner_depth", learner.depth);
    given.take("learner_prompts", learner.prompts);
    given.take_parsed("learner_augment", learner.augmentation, parse_augmentation);
}

inline void take_reproduced_student(Settings& given, ReproducedStudent& student) {
    given.take("lr", student.lr);
    given.take("epochs", student.epochs);
    given.take("batch", student.batch);
    given.take("depth", student.depth);
    given.take("prompts", student.prompts);
    given.take("kd_weight", student.kd_weight);
    given.take("temperature", student.temperature);
    given.take_parsed("fit", student.fit, parse_fit);
    given.take_parsed("augment", student.augmentation, parse_augmentation);
}

}  // namespace detail

/// Of ReproductionSpec in promptkd/specs.py.
inline ReproductionSpec reproduction_spec(const std::string& json) {
    Settings given(json, "reproduce");
    ReproductionSpec spec;
    for (const char* name : {"protocol", "data", "out"}) given.need(name);
    given.take_parsed("protocol", spec.protocol, parse_protocol);
    given.take("data", spec.data);
    given.take("source", spec.source);
    detail::take_reproduced_models(given, spec);
    detail::take_reproduced_learner(given, spec.learner);
    detail::take_reproduced_student(given, spec.distillation);
    given.take("seeds", spec.seeds);
    given.take("shots", spec.shots);
    given.take_from<Index>("images", spec.images, 0);
    given.take_from<Index>("test_images", spec.test_images, 0);
    given.take("loader_threads", spec.loader_threads);
    given.take("allow_incomplete", spec.allow_incomplete);
    given.take("out", spec.out);
    given.take("fresh", spec.fresh);
    given.finish();
    return spec;
}

}  // namespace promptkd::python
