// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/distill/adapted_recipe.hpp>
#include <promptkd/distill/closed_form/fit.hpp>
#include <promptkd/distill/objective.hpp>
#include <promptkd/distill/student.hpp>
#include <promptkd/experiment/closed_form/scale.hpp>
#include <promptkd/experiment/distillation_fit.hpp>
#include <promptkd/experiment/identity.hpp>
#include <promptkd/experiment/images.hpp>
#include <promptkd/experiment/models.hpp>
#include <promptkd/experiment/results.hpp>
#include <promptkd/experiment/teachers.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <iterator>
#include <optional>
#include <string>

namespace promptkd {

/// How a student is kept from losing what it knew: distill/closed_form/mixture.hpp. A fit in closed form has both
/// unless told otherwise, another one neither unless asked.
struct MixtureSpec {
    std::optional<bool>
        mix;  ///< weigh it against its zero-shot self; gradient descent then holds 10 % of the images out
    std::optional<bool> guard;  ///< fall back to the zero-shot student far from the images of the distillation
    MixtureFeatures features = MixtureFeatures::plain;  ///< what is read of a student with visual prompts
    std::string student_text;  ///< file of the student's own class vectors (tensor `class_vectors`) instead of its text
                               ///< branch
};

/// What belongs to the recipe for adapted students (distill/adapted_recipe.hpp), see use_adapted_recipe().
struct AdaptedSpec {
    bool recipe = false;        ///< whether it is followed
    Index hold_out = 0;         ///< images held out to choose the best check on; 0: min(500, max(⌊N/5⌋, 1))
    Index folds = 0;            ///< parts of so many that a best fit holds out in turn; 0: adapted_folds()
    Index checks = 10;          ///< looks at them, evenly over the steps
    double budget_seconds = 0;  ///< the number of steps is fixed to fit, after 20 timed ones; 0: as the recipe says
    bool one_pass = false;      ///< of a best fit the adapted student alone
    bool merge_lora = false;    ///< the bundle has the low-rank updates inside the weights
};

/// A whole distillation: files in; bundle, log, checkpoint and results out. See run() in experiment/distillation.hpp.
struct DistillationSpec {
    TeacherSpec teacher;         ///< who is imitated
    std::string stored_targets;  ///< file of write_teacher_targets() instead of a live teacher; a teacher beside it is
                                 ///< only compared
    ModelFile student;           ///< CLIP model whose image encoder the student is built on
    std::string init;            ///< initial prompts and projector (tensors, or a student's checkpoint); empty: random
    std::string vocabulary;      ///< see needs_vocabulary()
    std::string pattern;         ///< of the class texts, "{}" standing for the name; empty: the data set's own
    TextOptions text;            ///< what else the texts are
    DistillationData data;       ///< images and classes
    StudentConfig shape;         ///< how the student is built
    DistillationConfig loss;     ///< what is minimised
    /// Batch, epochs, schedule, views, seed, output folder. Callbacks, ranks, preprocessing and resume are the run's
    /// own.
    TrainingLoopConfig loop;
    Index micro_batches = 1;        ///< parts of a batch, whose gradients are added up
    Index evaluation_batch = 100;   ///< images at a time
    bool own_text = false;          ///< compare the student with its own text features, not with the teacher's
    bool fresh = false;             ///< start again, whatever the output folder holds
    bool graph = false;             ///< on a GPU: record a step and repeat it
    bool local_batch_norm = false;  ///< with several processes: BatchNorm's statistics of each one's images alone
    DistillationFit fit = DistillationFit::sgd;  ///< how the student is fitted
    ClosedFormSpec closed_form;  ///< of a fit in closed form; its seed is the loop's, mix and guard are `mixture`'s
    bool flip_rows = false;      ///< in closed form: the mirrored images too
    ScaleSpec scale;             ///< in closed form: more images than one run sees
    MixtureSpec mixture;         ///< what keeps the student from harm
    AdaptedSpec adapted;         ///< of the recipe for adapted students
    /// Written to config.json in the output folder; null: loop.identity.
    nlohmann::json settings;

    /// Whether class texts are encoded, and so `vocabulary` is read.
    bool needs_vocabulary() const {
        const bool own = own_text || (is_best() && mixture.student_text.empty()) ||
                         (loss.stay_close > 0 && loss.stay_close_to == StayCloseTo::logits) ||
                         (is_mixed() && mixture.student_text.empty());
        return own || (teacher.count() > 0 && teacher.class_vectors.empty());
    }
    /// Whether the student is fitted in closed form.
    bool in_closed_form() const { return fit == DistillationFit::closed_form; }
    /// Whether three students of the pair are fitted and mixed.
    bool is_best() const { return fit == DistillationFit::best; }
    /// Whether it is weighed against its zero-shot self.
    bool mixes() const { return mixture.mix.value_or(in_closed_form()); }
    /// Whether it falls back to that on unknown ground.
    bool guards() const { return mixture.guard.value_or(in_closed_form()); }
    /// Whether the bundle gets a Mixture: in closed form always, for the scale of its logits.
    bool is_mixed() const { return in_closed_form() || mixes() || guards(); }

    /// The folder of this run, of a shard one inside the output folder.
    std::string folder() const {
        return scale.shard.is_part() && !loop.out.empty() ? loop.out + "/" + scale.shard.name() : loop.out;
    }

    /// Throws Error for settings that do not go together.
    void check() const {
        scale.check();
        if (is_best() || adapted.recipe) check_adapted();
        if (in_closed_form()) return check_closed_form();
        require(!scale.is_used(), "features, shards and sums belong to a fit in closed form");
        require(!is_mixed() || shape.training != EncoderTraining::full,
                "a mixture or a guard needs the frozen encoder, which full fine-tuning replaces; fit the best student, "
                "which keeps both");
    }

    /// The class names of its images as texts.
    ClassTexts texts(const std::vector<std::string>& names) const {
        return {names, pattern.empty() ? default_template(data.source) : pattern, vocabulary, text};
    }

    /// Whether a best fit can hold parts of the images out in turn: the teacher has been asked about every view.
    bool crosses() const { return loop.augmentation != Augmentation::random_resized_crop; }

private:
    void check_closed_form() const {
        require(loss.kd == KdLoss::logits,
                "a fit in closed form imitates the teacher's probabilities; other losses "
                "belong to gradient descent");
        require(!own_text, "a fit in closed form compares the student with the teacher's class vectors, not its own");
        require(shape.training == EncoderTraining::frozen && init.empty() && loss.stay_close == 0,
                "a fit in closed form trains no encoder, starts from nothing and needs no loss to stay close");
        require(data.validation == 0, "a fit in closed form has no epochs to choose from, so nothing is held out");
        require(stored_targets.empty() || !flip_rows,
                "rows of flipped images need a live teacher: stored targets have "
                "none of them");
    }

    void check_adapted() const {
        require(adapted.recipe || !is_best(), "a best fit follows the recipe for adapted students");
        require(loss.kd == KdLoss::logits,
                "the recipe for adapted students compares probabilities with the teacher's; other losses belong to the "
                "published recipe");
        require(data.validation == 0,
                "the recipe for adapted students chooses its model without labels; a choice by labelled images belongs "
                "to the published recipe");
        require(!is_best() || (!own_text && !is_mixed()),
                "a best fit weighs its students and has a guard anyway, and shares the teacher's class vectors");
        require(adapted.checks >= 1, "the best of ", adapted.checks, " checks: there must be one");
        require(adapted.folds <= 1 || is_best(), "parts held out in turn belong to a best fit");
        require(adapted.folds <= 1 || (adapted.budget_seconds == 0 && crosses()),
                "parts held out in turn need views that the teacher is asked about once, and no budget");
        require(!adapted.merge_lora || shape.training == EncoderTraining::lora,
                "there are no low-rank updates to be merged without LoRA");
        require(!adapted.merge_lora || !(is_mixed() || (is_best() && !adapted.one_pass)),
                "a mixture reads the encoder with and without its low-rank updates: they stay apart");
    }
};

/// Sets everything that the recipe for adapted students sets: AdamW, rates by group with `body_rate` for the encoder's
/// own parameters (0: 0.3 of the others' for all weights, 1 for LoRA), warm-up times cosine by step, clipping, flips.
/// Epochs, the weight of the loss (a mean over the batch alone) and the depth of the prompts follow from data and
/// student, see complete_adapted().
inline void use_adapted_recipe(DistillationSpec& spec, const AdaptedRecipe& recipe = {}) {
    const double usual = spec.shape.training == EncoderTraining::full ? 0.3 : 1;
    spec.adapted.recipe = true;
    spec.adapted.checks = recipe.checks;
    spec.loss.optimizer.kind = OptimizerKind::adamw;
    spec.loss.optimizer.adam.weight_decay = recipe.weight_decay;
    spec.loss.optimizer.rate_factors = body_rates(recipe.body_rate > 0 ? recipe.body_rate : usual);
    spec.loss.optimizer.clip = recipe.clip;
    spec.loss.kd_weight = 0;
    spec.loop.schedule.lr = recipe.rate;
    spec.loop.schedule.schedule = Schedule::cosine_by_step;
    spec.loop.schedule.warmup = Warmup::none;
    spec.loop.schedule.warmup_steps = recipe.warmup_steps;
    spec.loop.schedule.max_epoch = 0;
    spec.loop.batch = recipe.batch;
    spec.loop.augmentation = spec.stored_targets.empty() ? Augmentation::flip : Augmentation::none;
    spec.shape.depth = 0;
}

/// Decides how many parts of spec.adapted.hold_out images are held out in turn: one where their number was given, or a
/// budget. Throws Error for more parts than there are.
inline void complete_folds(DistillationSpec& spec, Index images, bool given) {
    AdaptedSpec& adapted = spec.adapted;
    const bool one = given || adapted.budget_seconds > 0 || !spec.is_best() || !spec.crosses();
    if (adapted.folds == 0) adapted.folds = one ? 1 : adapted_folds(images, adapted.hold_out);
    require(adapted.hold_out <= images / adapted.folds, images, " images are too few to hold ", adapted.folds,
            " parts of ", adapted.hold_out, " out in turn; hold fewer or smaller parts out, or give more images");
}

/// What use_adapted_recipe() has left open, for so many images and classes and an encoder of so many blocks. Throws
/// Error for too few images to hold any out.
inline void complete_adapted(DistillationSpec& spec, Index images, Index classes, Index blocks) {
    const bool given = spec.adapted.hold_out > 0;
    const Index out = given ? spec.adapted.hold_out : adapted_held_out(images, AdaptedRecipe().most_held_out);
    const char* what_to_do = images < 2            ? "give more images"
                             : given && images > 2 ? "hold fewer out, or give more images"
                                                   : "give more images, or fit in closed form";
    require(images >= out + 2, images, " image", images == 1 ? " is" : "s are", " too few to hold ", out,
            " out of the training and learn from at least 2; ", what_to_do);
    spec.adapted.hold_out = out;
    complete_folds(spec, images, given);
    if (spec.loss.kd_weight == 0) spec.loss.kd_weight = static_cast<double>(classes);
    if (spec.loop.schedule.max_epoch == 0) spec.loop.schedule.max_epoch = adapted_epochs(images);
    if (spec.shape.depth == 0) spec.shape.depth = std::min<Index>(9, blocks);
}

/// What a distillation has left in its output folder, and found.
struct DistillationOutcome : TrainingOutcome {
    std::string bundle;  ///< file of the student; empty: of a shard there is none
    std::string sums;    ///< file of a shard's sums, or of merged ones that need another round
    std::optional<ClosedFormSummary> closed_form;  ///< where it was fitted so
    std::optional<MixtureSummary> mixture;         ///< where it is mixed with its zero-shot self
    std::optional<BestFitSummary> best;            ///< of a best fit
    std::optional<EvaluationResult> evaluation;    ///< where there are labelled images to test on
};

/// What the results of a training with the recipe for adapted students depend on besides.
inline void add_adapted(nlohmann::json& id, const DistillationSpec& spec) {
    id["recipe"] = "adapted";
    id["train"] = name_of(spec.shape.training);
    id["rank"] = spec.shape.lora.rank;
    id["clip"] = spec.loss.optimizer.clip;
    id["hold-out"] = spec.adapted.hold_out;
    if (spec.adapted.folds > 0) id["folds"] = spec.adapted.folds;
    id["checks"] = spec.adapted.checks;
    id["budget"] = spec.adapted.budget_seconds;
    for (const RateFactor& f : spec.loss.optimizer.rate_factors) id["rate of " + f.prefix] = f.factor;
}

/// What the results of a distillation depend on, for a specification whose loop.identity is empty. The names of files
/// stand for their content.
inline nlohmann::json derived_identity(const DistillationSpec& spec) {
    constexpr const char* losses[] = {"logits", "l1", "mse"};
    nlohmann::json id = identity_of(spec.loop, spec.loss.optimizer);
    id["command"] = "distill";
    id["teacher"] = spec.teacher.weights;
    id["teacher-prompts"] = spec.teacher.prompts;
    id["teacher-config"] = spec.teacher.config;
    id["teacher-logits"] = spec.stored_targets;
    id["class-vectors"] = spec.teacher.class_vectors;
    id["int8-teacher"] = spec.teacher.int8;
    id["student"] = spec.student.path;
    id["student-config"] = spec.student.config;
    id["activation"] = spec.student.activation;
    add_images(id, "student-images", spec.student.images);
    add_images(id, "teacher-images", spec.teacher.images);
    id["init"] = spec.init;
    id["vocab"] = spec.vocabulary;
    id["template"] = spec.pattern;
    if (!spec.text.templates.empty()) id["templates"] = spec.text.templates;
    if (!spec.text.descriptions.empty()) id["descriptions"] = spec.text.descriptions;
    if (spec.text.truncate) id["truncate"] = true;
    id["data"] = spec.data.source;
    id["part"] = spec.data.part == Split::train ? "train" : "test";
    id["class-names"] = spec.data.class_names.names;
    id["images"] = spec.data.images;
    id["images-per-class"] = spec.data.images_per_class;
    id["classes"] = name_of(spec.data.classes);
    id["validation"] = spec.data.validation;
    if (spec.data.holdout > 0) id["holdout"] = spec.data.holdout;
    id["prompts"] = spec.shape.prompts;
    id["depth"] = spec.shape.depth;
    id["projector-layers"] = spec.shape.projector_layers;
    id["train-encoder"] = spec.shape.training == EncoderTraining::full;
    id["kd"] = losses[static_cast<int>(spec.loss.kd)];
    id["temperature"] = spec.loss.temperature;
    id["kd-weight"] = spec.loss.kd_weight;
    id["stay-close"] = spec.loss.stay_close;
    id["stay-close-to"] = spec.loss.stay_close_to == StayCloseTo::logits ? "logits" : "features";
    id["micro-batches"] = spec.micro_batches;
    id["own-text"] = spec.own_text;
    id["local-batch-norm"] = spec.local_batch_norm;
    if (spec.teacher.combined == TeacherWeights::confidence) id["teacher-weights"] = "confidence";
    if (spec.mixes() && !spec.in_closed_form()) id["mix"] = true;  // holds images out of the training
    if (spec.adapted.recipe) add_adapted(id, spec);
    return id;
}

/// The identity without the files that the targets came through: they do not change a student. It stands in the
/// student's bundle.
inline nlohmann::json student_recipe(nlohmann::json identity) {
    for (const char* key : {"class-vectors", "int8-teacher", "vocab"}) identity.erase(key);
    for (auto it = identity.begin(); it != identity.end();)
        it = it.key().rfind("teacher", 0) == 0 ? identity.erase(it) : std::next(it);
    return identity;
}

}  // namespace promptkd
