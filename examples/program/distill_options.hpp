// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "numbers.hpp"
#include "progress.hpp"
#include "run_options.hpp"
#include "text_options.hpp"

#include <promptkd/experiment/distillation_spec.hpp>

#include <algorithm>
#include <optional>

namespace promptkd::cli {

/// The options that `distill` and `teacher-logits` share.
struct DistillOptions {
    Common common;
    DistillationSpec spec;
    RunOptions run;
    TextFlags texts;
    std::string adapt, recipe, budget;  ///< empty: not given
    std::string order = "shuffled", kd = "logits", stay_close_to = "features", train = "prompts",
                text_features = "teacher", views = "epochs", bn = "global", classes = "all", class_names, fit = "sgd",
                teacher_weights = "mean", mixture_features = "plain";
    bool mix = false, no_mix = false, guard = false, no_guard = false, no_kl_step = false;
    double lr = 0.005;
    double body_rate = 0, clip = 1;
    Index epochs = 20, validation = 16, width = 0, hold_out = 0, folds = 0, checks = 10;
    std::vector<std::string> given;  ///< options that were given, without dashes
    std::optional<std::uint64_t> view_seed;
    std::string shard;
    nlohmann::json config;  ///< the resolved options

    /// Completes the specification.
    void finish() {
        finish_loop();
        finish_fit();
        spec.teacher.combined = parse_teacher_weights(teacher_weights);
        if (spec.teacher.combined == TeacherWeights::mean) config.erase("teacher-weights");
        finish_recipe();
        spec.loss.kd = parse_kd_loss(kd);
        spec.loss.stay_close_to = parse_stay_close(stay_close_to);
        spec.local_batch_norm = bn == "local";
        spec.own_text = text_features == "own";
        spec.micro_batches = run.micro_batches;
        spec.student.names = {"--activation", "--student-config FILE"};
        spec.teacher.names = {"--activation", "--teacher-config FILE"};
        spec.teacher.activation = spec.student.activation;
        for (std::string& file : spec.teacher.prompts)
            if (file == "none") file.clear();
        if (!class_names.empty()) spec.data.class_names = names_of_option("--class-names", class_names);
        if (!shard.empty()) spec.scale.shard = parse_shard(shard);
        spec.data.source = common.data;
        spec.data.classes = parse_class_subset(classes);
        spec.data.validation = run.protocol == "clean" ? validation : 0;
        spec.vocabulary = spec.needs_vocabulary() ? vocabulary_path(common, first_model()) : common.vocab;
        texts.apply(common.data, spec.pattern, spec.text, config);
        if (!spec.needs_vocabulary()) warn_of_unused_texts();
        spec.settings = config;
        spec.loop.identity = config;
        for (const char* key :
             {"out", "threads", "resume", "fresh", "evaluate", "loader-threads", "seeds", "verify-data", "recompute",
              "shard", "merge-shards", "moments", "save-sums", "features-cache"})
            spec.loop.identity.erase(key);
    }

    /// Whether an option was given.
    bool is_given(const std::string& name) const { return std::find(given.begin(), given.end(), name) != given.end(); }

    /// Whether the recipe for adapted students is followed: where more than prompts is adapted, in a best fit, and
    /// where it is asked for.
    bool is_adapted() const {
        if (!recipe.empty()) return recipe == "adapted";
        return fit == "best" || (!adapt.empty() && adapt != "prompts") || train == "lora";
    }

private:
    /// Class vectors from a file have the texts that they were made with.
    void warn_of_unused_texts() const {
        const bool usual = texts.descriptions.empty() && spec.pattern == default_template(common.data);
        if (!texts.given() || usual) return;
        std::cerr << "warning: the class vectors come from a file, with the texts that it was made with: --template, "
                     "--templates and --descriptions are not used"
                  << std::endl;
    }

    /// The recipe for adapted students, but for what was given.
    void finish_recipe() {
        const std::string what = !adapt.empty() ? adapt : fit == "best" && !is_given("train") ? "lora" : train;
        spec.shape.training = parse_encoder_training(what);
        if (!is_adapted()) return;
        const DistillationSpec asked = spec;
        AdaptedRecipe settings;
        settings.body_rate = body_rate;
        settings.clip = clip;
        settings.checks = checks;
        use_adapted_recipe(spec, settings);
        spec.adapted.hold_out = hold_out;
        spec.adapted.folds = folds;
        spec.adapted.budget_seconds = budget.empty() ? 0 : seconds_of(budget);
        keep_given(asked);
        show_recipe();
    }

    /// What was given stands.
    void keep_given(const DistillationSpec& asked) {
        const auto keep = [this](const char* name, auto& value, const auto& was) {
            if (is_given(name)) value = was;
        };
        keep("lr", spec.loop.schedule.lr, asked.loop.schedule.lr);
        keep("epochs", spec.loop.schedule.max_epoch, asked.loop.schedule.max_epoch);
        keep("schedule", spec.loop.schedule.schedule, asked.loop.schedule.schedule);
        keep("warmup", spec.loop.schedule.warmup, asked.loop.schedule.warmup);
        keep("batch", spec.loop.batch, asked.loop.batch);
        keep("augment", spec.loop.augmentation, asked.loop.augmentation);
        keep("optimizer", spec.loss.optimizer.kind, asked.loss.optimizer.kind);
        keep("weight-decay", spec.loss.optimizer.adam.weight_decay, asked.loss.optimizer.adam.weight_decay);
        keep("kd-weight", spec.loss.kd_weight, asked.loss.kd_weight);
        keep("depth", spec.shape.depth, asked.shape.depth);
    }

    /// The resolved options say what the recipe is.
    void show_recipe() {
        constexpr const char* optimizers[] = {"sgd", "adam", "adamw"};
        config["recipe"] = "adapted";
        config["train"] = name_of(spec.shape.training);
        config.erase("adapt");
        const auto set = [this](const char* name, const std::string& value) {
            if (!is_given(name)) config[name] = value;
        };
        set("lr", number_text(spec.loop.schedule.lr));
        set("batch", std::to_string(spec.loop.batch));
        set("optimizer", optimizers[static_cast<int>(spec.loss.optimizer.kind)]);
        set("weight-decay", number_text(spec.loss.optimizer.adam.weight_decay));
        set("schedule", name_of(spec.loop.schedule.schedule));
        set("augment", to_string(spec.loop.augmentation));
        for (const char* name : {"epochs", "kd-weight", "depth"})  // follow from the data and the student
            if (!is_given(name)) config.erase(name);
        for (const char* name : {"momentum", "warmup", "warmup-epochs", "warmup-lr", "gamma"})
            if (!is_given(name)) config.erase(name);
        if (spec.shape.training == EncoderTraining::lora) config["rank"] = std::to_string(spec.shape.lora.rank);
        if (hold_out > 0) config["hold-out"] = std::to_string(hold_out);
        if (folds > 0) config["folds"] = std::to_string(folds);
        config["checks"] = std::to_string(checks);
    }

    void finish_fit() {
        spec.fit = parse_fit(fit);
        if (spec.in_closed_form())
            spec.closed_form.width = width;
        else
            spec.shape.hidden = width;
        spec.closed_form.kl_step = !no_kl_step;
        if (mix || no_mix) spec.mixture.mix = mix;
        if (guard || no_guard) spec.mixture.guard = guard;
        spec.mixture.features = mixture_features == "plain" ? MixtureFeatures::plain : MixtureFeatures::prompted;
    }

    /// The model whose texts are made.
    std::string first_model() const {
        return spec.teacher.weights.empty() ? spec.student.path : spec.teacher.weights.front();
    }

    void finish_loop() {
        TrainingLoopConfig& loop = spec.loop;
        loop.schedule.lr = lr;
        loop.schedule.max_epoch = epochs;
        run.apply(loop, spec.loss.optimizer);
        loop.loader_threads = sane_threads(loop.loader_threads, "--loader-threads");
        loop.shuffle = order == "shuffled";
        loop.fixed_views = views == "fixed";
        loop.view_seed = view_seed;
        loop.seed = common.seed;
        loop.out = common.out;
    }
};

inline void add_teacher_options(CLI::App& c, DistillOptions& o) {
    repeatable(c.add_option("--teacher", o.spec.teacher.weights,
                            "CLIP weights of the teacher; repeated: several teachers, whose logits are averaged"));
    repeatable(c.add_option("--teacher-prompts", o.spec.teacher.prompts,
                            "learned prompts of the teacher: " + prompt_files() +
                                "; repeated: one for each teacher, or several for one file of weights; none: none"));
    c.add_option(
         "--teacher-weights", o.teacher_weights,
         "of several teachers: mean of their logits, or of their probabilities by confidence, the largest of them")
        ->check(CLI::IsMember({"mean", "confidence"}))
        ->capture_default_str();
    c.add_flag("--int8-teacher", o.spec.teacher.int8,
               "the teacher's image encoder with weights and their inputs in 8 bits: faster, on the CPU only");
    c.add_option("--teacher-config", o.spec.teacher.config,
                 "the teacher's JSON (Hugging Face, open_clip), where it is not beside its weights");
    c.add_option("--class-vectors", o.spec.teacher.class_vectors,
                 "file with the tensor class_vectors (classes, e), instead of the teacher's text branch");
    c.add_option("--activation", o.spec.student.activation, "of a model whose file does not tell: quick_gelu or gelu")
        ->check(CLI::IsMember({"quick_gelu", "gelu"}));
    add_image_input(c, o.spec.teacher.images, "teacher-", "the teacher's");
    add_exif_rotate(c);
    add_vocabulary(c, o.common);
    c.add_option("--kd", o.kd, "what the student imitates: the teacher's logits (KL), or its features (l1, mse)")
        ->check(CLI::IsMember({"logits", "l1", "mse"}))
        ->capture_default_str();
}

inline void add_image_options(CLI::App& c, DistillOptions& o) {
    c.add_flag("--verify-data", o.spec.data.verify,
               "an interrupted run goes on only with images of the same bytes, whatever their modification times");
    c.add_option("--data", o.common.data, "unlabelled images: folder:ROOT, list:FILE, fashion-mnist:ROOT")->required();
    c.add_option("--class-names", o.class_names, class_names_files);
    add_text_options(c, o.texts);
    c.add_option("--images", o.spec.data.images, std::string("so many training images alone: ") + images_drawn)
        ->check(whole_from(0))
        ->capture_default_str();
    c.add_option("--holdout", o.spec.data.holdout, std::string("test images: ") + holdout_meaning)
        ->check(share_or_count())
        ->configurable(false);
    c.add_option("--images-per-class", o.spec.data.images_per_class,
                 "so many images of each class, drawn by the seed of the views (labelled images); 0: all")
        ->check(whole_from(0))
        ->capture_default_str();
    c.add_option("--distil-classes", o.classes, "see images of base, new or all classes (labelled images)")
        ->check(CLI::IsMember({"base", "new", "all"}))
        ->capture_default_str();
    c.add_option("--validation", o.validation, "protocol clean: images of each class that are held out")
        ->check(whole_from(1))
        ->capture_default_str();
}

/// Shards of a computation over the images.
inline CLI::Option* add_shard(CLI::App& c, DistillOptions& o) {
    const auto is_shard = [](const std::string& text) {
        try {
            parse_shard(text);
        } catch (const Error& error) {
            return std::string(error.what());
        }
        return std::string();
    };
    CLI::Option* shard = c.add_option("--shard", o.shard, "i/n: the i-th of n parts of the images alone (1/n … n/n)")
                             ->configurable(false)
                             ->check(CLI::Validator(is_shard, "I/N"));
    c.add_flag("--merge-shards", o.spec.scale.merge, "put the shards beside --out together")
        ->configurable(false)
        ->excludes(shard);
    return shard;
}

/// What decides which views are seen, in which batches.
inline void add_view_options(CLI::App& c, DistillOptions& o) {
    c.add_option("--epochs", o.epochs, "passes over the images")->check(whole_from(1))->capture_default_str();
    c.add_option("--batch", o.spec.loop.batch, "images a step")->check(whole_from(1))->capture_default_str();
    c.add_option("--order", o.order, "shuffled or file")
        ->check(CLI::IsMember({"shuffled", "file"}))
        ->capture_default_str();
    c.add_option("--views", o.views,
                 "epochs: each epoch augments anew; fixed: each image has one view for the whole run")
        ->check(CLI::IsMember({"epochs", "fixed"}))
        ->capture_default_str();
    c.add_option("--view-seed", o.view_seed, "of the augmentation (default: --seed)")->check(seed_number());
    c.add_option("--loader-threads", o.spec.loop.loader_threads, "threads that decode and augment")
        ->check(thread_count())
        ->capture_default_str();
    c.add_option("--seed", o.common.seed, "of initial values, order and augmentation")
        ->check(seed_number())
        ->capture_default_str();
}

}  // namespace promptkd::cli
