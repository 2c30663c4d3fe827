// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "distill_job.hpp"
#include "run_options.hpp"

namespace promptkd::cli {

/// The options that `distill` and `teacher-logits` share.
struct DistillOptions {
    Common common;
    DistillJob job;
    RunOptions run;
    std::string order = "shuffled", kd = "logits", stay_close_to = "features", train = "prompts",
                text_features = "teacher", views = "epochs", bn = "global";
    double lr = 0.005;
    Index epochs = 20;
    std::optional<std::uint64_t> view_seed;

    void finish() {
        TrainingLoopConfig& r = job.run;
        r.schedule.lr = lr, r.schedule.max_epoch = epochs;
        run.apply(r, job.loss.optimizer);
        r.shuffle = order == "shuffled", r.fixed_views = views == "fixed", r.view_seed = view_seed;
        r.seed = common.seed, r.out = common.out;
        job.loss.kd = parse_kd_loss(kd), job.loss.stay_close_to = parse_stay_close(stay_close_to);
        job.local_batch_norm = bn == "local";
        job.shape.train_encoder = train == "full", job.own_text = text_features == "own";
        job.micro_batches = run.micro_batches, job.clean = run.protocol == "clean";
        job.teacher.activation = job.activation;
        job.vocab = common.vocab, job.data = common.data, job.output = &common.output;
        if (job.pattern.empty()) job.pattern = default_template(common.data);
        job.config["template"] = job.pattern;
        r.identity = job.config;
        for (const char* key : {"out", "threads", "resume", "fresh", "evaluate", "loader-threads", "seeds"})
            r.identity.erase(key);
    }

    /// The job of one of several seeds.
    DistillJob with_seed(std::uint64_t seed, const std::string& out) const {
        DistillJob one = job;
        one.run.seed = seed, one.run.out = out;
        one.run.identity["seed"] = std::to_string(seed);
        return one;
    }
};

inline CLI::Option* repeatable(CLI::Option* option) {
    return option->allow_extra_args(false)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

inline void add_teacher_options(CLI::App& c, DistillOptions& o) {
    repeatable(c.add_option("--teacher", o.job.teacher.weights,
                            "CLIP weights of the teacher; repeated: several teachers, whose logits are averaged"));
    repeatable(
        c.add_option("--teacher-prompts", o.job.teacher.prompts,
                     "learned prompts of the teacher: safetensors, or a checkpoint of CoOp, VPT, IVLP, MaPLe or "
                     "PromptSRC; repeated: one for each teacher, or several for one file of weights; none: none"));
    c.add_flag("--int8-teacher", o.job.teacher.int8,
               "the teacher's image encoder with weights and their inputs in 8 bits: faster, on the CPU only");
    c.add_option("--teacher-config", o.job.teacher.config,
                 "the teacher's JSON (Hugging Face, open_clip), where it is not beside its weights");
    c.add_option("--class-vectors", o.job.teacher.class_vectors,
                 "file with the tensor class_vectors (classes, e), instead of the teacher's text branch");
    c.add_option("--activation", o.job.activation, "of a model whose file does not tell: quick_gelu or gelu")
        ->check(CLI::IsMember({"quick_gelu", "gelu"}));
    add_vocabulary(c, o.common);
    c.add_option("--kd", o.kd, "what the student imitates: the teacher's logits (KL), or its features (l1, mse)")
        ->check(CLI::IsMember({"logits", "l1", "mse"}))
        ->capture_default_str();
}

inline void add_image_options(CLI::App& c, DistillOptions& o) {
    c.add_option("--data", o.common.data, "unlabelled images: folder:ROOT, list:FILE, fashion-mnist:ROOT")->required();
    c.add_option("--class-names", o.job.class_names, "file with one class name a line (default: those of --data)");
    c.add_option("--template", o.job.pattern,
                 "prompt text with {} for the class name (default: the published one of the data set)");
    c.add_option("--images", o.job.images, "only the first so many training images; 0: all")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--images-per-class", o.job.images_per_class,
                 "so many images of each class, drawn by the seed of the views (labelled images); 0: all")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--distil-classes", o.job.classes, "see images of base, new or all classes (labelled images)")
        ->check(CLI::IsMember({"base", "new", "all"}))
        ->capture_default_str();
    c.add_option("--validation", o.job.validation, "protocol clean: images of each class that are held out")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
}

/// What decides which views are seen, in which batches.
inline void add_view_options(CLI::App& c, DistillOptions& o) {
    c.add_option("--epochs", o.epochs, "passes over the images")->check(CLI::PositiveNumber)->capture_default_str();
    c.add_option("--batch", o.job.run.batch, "images a step")->check(CLI::PositiveNumber)->capture_default_str();
    c.add_option("--order", o.order, "shuffled or file")
        ->check(CLI::IsMember({"shuffled", "file"}))
        ->capture_default_str();
    c.add_option("--views", o.views,
                 "epochs: each epoch augments anew; fixed: each image has one view for the whole run")
        ->check(CLI::IsMember({"epochs", "fixed"}))
        ->capture_default_str();
    c.add_option("--view-seed", o.view_seed, "of the augmentation (default: --seed)");
    c.add_option("--loader-threads", o.job.run.loader_threads, "threads that decode and augment")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--seed", o.common.seed, "of initial values, order and augmentation")->capture_default_str();
}

}  // namespace promptkd::cli
