// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/class_names.hpp>
#include <promptkd/data/class_subset.hpp>
#include <promptkd/experiment/identity.hpp>
#include <promptkd/experiment/models.hpp>
#include <promptkd/experiment/results.hpp>
#include <promptkd/experiment/teachers.hpp>
#include <promptkd/learner/registry.hpp>

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <vector>

namespace promptkd {

/// Whose labelled images a prompt learner learns from, and is tested on.
struct FewShotData {
    std::string source;      ///< "NAME:ROOT", see open_dataset()
    ClassNames class_names;  ///< in label order; empty: those of the data set
    /// That it learns; empty: the base half, or all where that would leave a half with one class.
    std::optional<ClassSubset> classes;
    Index shots = 16;           ///< images of each class; 0: all
    Index images = 0;           ///< drawn from so many training images, see limited(); 0: all
    bool allow_fewer = false;   ///< a class with fewer images than `shots` gives what it has
    Index validation = 0;       ///< images of each class (at most `shots`) held out to choose the best
                                ///< epoch on; 0: none, the prompts are those after the last epoch
    std::string evaluation;     ///< labelled images to test on; empty: the test part of `source`
    double holdout = 0;         ///< images of each class (below 1: that share) that are tested on instead; 0: none
    bool verify = false;        ///< the identity of a run counts the bytes of the images too
    bool labels_needed = true;  ///< false: images without labels will do, where nothing is drawn by class
};

/// Whom a prompt learner imitates in the place of labels (KDPL, Mistretta et al., ECCV 2024).
struct KnowledgeSpec {
    TeacherSpec teacher;             ///< without weights: labels are learned from
    std::vector<std::string> names;  ///< class-agnostic: a vocabulary in the place of the class names; empty: those
    Index top = 0;                   ///< of it the names that a batch's images most probably are; 0: all

    /// Whether a teacher is imitated.
    bool is_used() const { return teacher.count() > 0; }
};

/// A whole training of a prompt learner: files in; prompts, log, checkpoint and results out. See run() in
/// experiment/training.hpp.
struct TrainingSpec {
    std::string learner = "promptsrc";  ///< one of learners()
    ModelFile model;                    ///< the CLIP model that prompts are learned for
    std::string vocabulary;             ///< the tokenizer's file; empty: the one beside the weights
    bool truncate = false;              ///< class texts longer than the model's context are cut, not refused
    FewShotData data;                   ///< images and classes
    KnowledgeSpec knowledge;            ///< a teacher in the place of labels
    Recipe recipe;           ///< see published_recipe(); learning rate, epochs and batch of `loop` count, not of this
    ContextOptions context;  ///< how the texts begin; without a hand-written text that of the data set
    Index class_chunk = 0;   ///< classes whose activations are in memory at once; 0: all
    OptimizerConfig optimizer;  ///< update rule
    /// Batch, epochs, schedule, views, seed, output folder. Callbacks, preprocessing and resume are the run's own.
    TrainingLoopConfig loop;
    Index micro_batches = 1;      ///< parts of a batch, whose gradients are added up
    Index evaluation_batch = 50;  ///< images at a time
    bool fresh = false;           ///< start again, whatever the output folder holds
};

/// Trains by `recipe`: its batch, learning rate and epochs are those of the loop, and a learner that has an optimizer
/// and a schedule of its own (LearnerInfo::complete) gets them. spec.learner and spec.data.shots are set before.
inline void use_recipe(TrainingSpec& spec, const Recipe& recipe) {
    spec.recipe = recipe;
    spec.loop.batch = recipe.batch;
    spec.loop.schedule.lr = recipe.lr;
    spec.loop.schedule.max_epoch = recipe.epochs;
    const LearnerInfo& info = find_learner(spec.learner);
    if (info.complete) info.complete(spec.loop, spec.optimizer, spec.data.shots);
}

/// What a training has left in its output folder, and found.
struct LearnerOutcome : TrainingOutcome {
    std::string prompts;                         ///< file of the learned prompts
    std::optional<EvaluationResult> evaluation;  ///< of the trained prompts, where there are images to test on
};

/// What the results of a training depend on, for a specification whose loop.identity is empty. The names of files stand
/// for their content.
inline nlohmann::json derived_identity(const TrainingSpec& spec) {
    nlohmann::json id = identity_of(spec.loop, spec.optimizer);
    id["command"] = "train";
    id["learner"] = spec.learner;
    id["weights"] = spec.model.path;
    id["model-config"] = spec.model.config;
    id["activation"] = spec.model.activation;
    add_images(id, "images-of-the-model", spec.model.images);
    id["vocab"] = spec.vocabulary;
    if (spec.truncate) id["truncate"] = true;
    id["data"] = spec.data.source;
    id["class-names"] = spec.data.class_names.names;
    id["classes"] = name_of(spec.data.classes.value_or(ClassSubset::base));
    id["shots"] = spec.data.shots;
    id["images"] = spec.data.images;
    id["allow-fewer"] = spec.data.allow_fewer;
    id["validation"] = spec.data.validation;
    if (spec.data.holdout > 0) id["holdout"] = spec.data.holdout;
    constexpr const char* positions[] = {"end", "middle", "front"};
    id["context"] = spec.recipe.text;
    id["context-words"] = spec.context.words;
    id["position"] = positions[static_cast<int>(spec.context.position)];
    id["class-specific"] = spec.context.class_specific;
    id["hand-written"] = spec.context.hand_written;
    id["visual-prompts"] = spec.recipe.visual;
    id["depth"] = spec.recipe.depth;
    id["learner-options"] = spec.recipe.options;
    id["micro-batches"] = spec.micro_batches;
    if (!spec.knowledge.is_used()) return id;
    id["loss"] = "kdpl";
    id["teacher"] = spec.knowledge.teacher.weights;
    id["teacher-prompts"] = spec.knowledge.teacher.prompts;
    id["names"] = spec.knowledge.names;
    id["top-names"] = spec.knowledge.top;
    return id;
}

}  // namespace promptkd
