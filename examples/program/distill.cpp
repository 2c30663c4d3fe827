// SPDX-License-Identifier: Apache-2.0
// `promptkd distill`: PromptKD's second stage on any folder of unlabelled images.
#include "commands.hpp"
#include "dense_distill.hpp"
#include "distill_options.hpp"
#include "results_json.hpp"
#include "seed_results.hpp"

#include <promptkd/experiment/distillation.hpp>
#include <promptkd/experiment/seeds.hpp>

namespace promptkd::cli {

namespace {

/// Also says what is about to be trained.
class DistillObserver final : public ProgramObserver {
public:
    DistillObserver(const Output& output, const DistillationSpec& spec) : ProgramObserver(output), spec_(spec) {}

    void on_start(const TrainingStart& start) override {
        say() << start.images << " images, " << start.classes << " classes, " << start.parameters
              << (spec_.in_closed_form() ? " values to fit" : " learnable values") << std::endl;
        if (spec_.micro_batches == 1) return;
        say() << "a batch of " << spec_.loop.batch << " in " << spec_.micro_batches << " parts: BatchNorm sees "
              << spec_.loop.batch / spec_.micro_batches << " images at a time" << std::endl;
    }

private:
    const DistillationSpec& spec_;
};

struct Distill : DistillOptions {
    bool resume = false;  ///< what it does anyway
    DenseDistillFlags dense;

    int run_command() {
        finish();
        common.out = spec.folder();
        const auto lock = lock_output(common);
        hold_signals();
        const std::vector<std::uint64_t> seeds = run.seed_list(common.seed);
        if (dense.is_used()) {
            run_dense(common, dense_specification(*this, dense), seeds);
            return 0;
        }
        require(!spec.scale.is_used() || seeds.size() == 1, "shards, sums and features belong to a run of one seed");
        SeedResults results(common, seeds);
        with_device<CpuPrecisions::all>(common, [&](auto& device) {
            with_ranks(device, [&](const auto& ranks) {
                DistillObserver observer(common.output, spec);
                const auto one = [&](const DistillationSpec& with) {
                    DistillationOutcome outcome = promptkd::run(device, with, observer, ranks);
                    if (outcome.training.interrupted) share_interruption();
                    return outcome;
                };
                run_over_seeds(spec, seeds, one, [&](const SeedRun<DistillationOutcome>& found) {
                    print(found.outcome);
                    results.add(spec.scale.shard.is_part() ? common.out : found.out, result(found, seeds.size() > 1));
                });
            });
        });
        stop_if_interrupted(common.out);
        results.finish(nlohmann::json::object());
        return 0;
    }

    nlohmann::json result(const SeedRun<DistillationOutcome>& found, bool several) const {
        const DistillationOutcome& outcome = found.outcome;
        nlohmann::json result = nlohmann::json::object();
        if (outcome.evaluation) result = evaluation_json(*outcome.evaluation);
        result["training"] = training_json(outcome);
        if (outcome.closed_form) result["closed_form"] = closed_form_json(*outcome.closed_form);
        if (outcome.mixture) result["mixture"] = mixture_json(*outcome.mixture);
        if (!outcome.sums.empty()) result["sums"] = outcome.sums;
        if (outcome.best) result["best_fit"] = best_fit_json(*outcome.best);
        if (outcome.check) result["check"] = check_json(*outcome.check);
        if (!spec.in_closed_form()) result["protocol"] = run.protocol;
        if (outcome.selection) result["selection"] = selection_json(*outcome.selection);
        if (spec.micro_batches > 1) result["micro_batch"] = spec.loop.batch / spec.micro_batches;
        result["config"] = spec.settings;
        if (several) result["seed"] = found.seed;
        return result;
    }

    void print(const DistillationOutcome& outcome) const {
        std::ostream& say = common.output.text();
        if (outcome.selection) say << selection_line(*outcome.selection) << std::endl;
        if (outcome.evaluation)
            say << evaluation_line(*outcome.evaluation) << (outcome.closed_form ? "" : "   protocol " + run.protocol)
                << std::endl;
        if (!outcome.sums.empty()) {
            say << "sums: " << outcome.sums << std::endl;
            return;
        }
        if (outcome.closed_form) {
            say << "student: " << outcome.bundle << std::endl;
            return;
        }
        const Progress& at = outcome.training.progress;
        say << "loss " << at.first_loss << " -> " << at.last_loss << " in " << at.step
            << " steps; student: " << outcome.bundle << std::endl;
    }
};

void add_loss_options(CLI::App& c, Distill& o) {
    c.add_option("--temperature", o.spec.loss.temperature, "of both distributions")
        ->check(positive())
        ->capture_default_str();
    c.add_option("--kd-weight", o.spec.loss.kd_weight, "factor of the loss (200: FGVCAircraft, OxfordFlowers, DTD)")
        ->check(positive())
        ->capture_default_str();
    c.add_option("--stay-close", o.spec.loss.stay_close,
                 "weight of a loss that keeps the student close to its frozen self; 0: none (published)")
        ->check(not_negative())
        ->capture_default_str();
    c.add_option("--stay-close-to", o.stay_close_to,
                 "the frozen student's encoder features (mean absolute difference) or its zero-shot logits (KL)")
        ->check(CLI::IsMember({"features", "logits"}))
        ->capture_default_str();
}

/// Options of gradient descent, which a fit in closed form would not look at.
constexpr const char* descent_options[] = {
    "--lr",         "--epochs",        "--batch",      "--steps",           "--order",
    "--views",      "--view-seed",     "--accumulate", "--optimizer",       "--momentum",
    "--schedule",   "--weight-decay",  "--milestones", "--gamma",           "--warmup",
    "--augment",    "--warmup-epochs", "--warmup-lr",  "--temperature",     "--kd-weight",
    "--stay-close", "--stay-close-to", "--bn",         "--graph",           "--prompts",
    "--depth",      "--init",          "--train",      "--recompute",       "--text-features",
    "--kd",         "--protocol",      "--validation", "--projector-layers"};
/// Options of the recipe for adapted students alone.
constexpr const char* adapted_options[] = {"--rank",  "--body-rate", "--clip",   "--hold-out",
                                           "--folds", "--checks",    "--budget", "--merge-lora"};
/// Options of a fit in closed form alone.
constexpr const char* closed_form_options[] = {"--no-mix",         "--no-guard", "--no-kl-step",   "--flip-rows",
                                               "--features-cache", "--shard",    "--merge-shards", "--moments",
                                               "--add-to",         "--save-sums"};
/// What came after the recipe: of the resolved options only what is not as it always was.
constexpr const char* later_options[] = {
    "fit",          "width",   "mix", "guard", "no-mix", "no-guard", "no-kl-step", "flip-rows", "mixture-features",
    "student-text", "one-pass"};

/// Throws for options that the chosen fit would not look at; keeps them out of the resolved ones.
void check_fit_options(const CLI::App& c, Distill& o) {
    const bool closed = o.fit == "closed-form";
    const auto given = [&c](const char* name) { return c.get_option(name)->count() > 0; };
    for (const char* name : descent_options) {
        if (!closed) break;
        if (given(name)) throw CLI::ValidationError(name, "a fit in closed form has no use for it");
        o.config.erase(name + 2);
    }
    if (closed) {
        for (const char* name : {"resume", "fresh"}) o.config.erase(name);
    }
    for (const char* name : closed_form_options)
        if (!closed && given(name)) throw CLI::ValidationError(name, "belongs to --fit closed-form");
    for (const char* name : adapted_options)
        if (!o.is_adapted() && !o.dense.is_used() && given(name))
            throw CLI::ValidationError(name,
                                       "belongs to --recipe adapted, which --adapt lora, --adapt full and --fit "
                                       "best follow");
    for (const char* name : {"--one-pass", "--folds"})
        if (o.fit != "best" && given(name)) throw CLI::ValidationError(name, "belongs to --fit best");
    if (closed && (given("--adapt") || given("--recipe")))
        throw CLI::ValidationError("--fit", "a fit in closed form adapts nothing and follows no recipe");
    for (const char* name : later_options)
        if (c.get_option(std::string("--") + name)->count() == 0) o.config.erase(name);
}

void add_fit_options(CLI::App& c, Distill& o) {
    c.add_option("--fit", o.fit,
                 "sgd: gradient descent, prompts and projector (published); closed-form: a wide projector by ridge "
                 "regression in seconds, mixed with the zero-shot student; best: the zero-shot student, one in closed "
                 "form and one adapted by gradient descent, mixed as images held out show it (for one's own data)")
        ->check(CLI::IsMember({"sgd", "closed-form", "best"}))
        ->capture_default_str();
    c.add_option("--width", o.width,
                 "of the projector's hidden layer; 0: sgd the size of the class vectors (published), closed-form "
                 "min(4096, max(2048, 8 times the size of the student's features))")
        ->check(whole_from(0))
        ->capture_default_str();
    CLI::Option* mix = c.add_flag("--mix", o.mix,
                                  "weigh the student against its zero-shot self, as far as it is significantly closer "
                                  "to the teacher on images held out (closed-form: always, without holding any out)");
    CLI::Option* guard = c.add_flag("--guard", o.guard,
                                    "fall back to the zero-shot student on images far from those of the distillation "
                                    "(closed-form: always)");
    c.add_flag("--no-mix", o.no_mix, "closed-form: trust the fitted student wholly")->excludes(mix);
    c.add_flag("--no-guard", o.no_guard, "closed-form: trust it everywhere alike")->excludes(guard);
    c.add_flag("--no-kl-step", o.no_kl_step, "closed-form: ridge regression alone");
    c.add_flag("--flip-rows", o.spec.flip_rows, "closed-form: learn from the mirrored images too");
    c.add_option("--mixture-features", o.mixture_features,
                 "of a student with prompts, what mixture and guard read: plain (two passes of the encoder for each "
                 "image) or prompted (one, which knows unseen classes worse)")
        ->check(CLI::IsMember({"plain", "prompted"}))
        ->capture_default_str();
    c.add_option("--student-text", o.spec.mixture.student_text,
                 "file with the student's own class vectors (tensor class_vectors) instead of its text branch");
}

/// More images than one run sees.
void add_scale_options(CLI::App& c, Distill& o) {
    ScaleSpec& scale = o.spec.scale;
    c.add_option("--features-cache", scale.features_cache,
                 "closed-form: folder that keeps the features of the images in 16 bits, for this run and later ones")
        ->configurable(false);
    CLI::Option* shard = add_shard(c, o);
    c.get_option("--merge-shards")->description("closed-form: the fit of all shards in --out");
    c.add_option("--moments", scale.moments,
                 "closed-form: with --shard the moments of all shards, for the second round; with --merge-shards the "
                 "sums of all shards, added by another program")
        ->configurable(false);
    c.add_option("--add-to", scale.add_to,
                 "closed-form: sums of an earlier fit (--save-sums), to which the images are added")
        ->configurable(false)
        ->excludes(shard);
    c.add_option("--save-sums", scale.save_sums, "closed-form: file for the sums of the fit, for --add-to")
        ->configurable(false)
        ->excludes(shard);
}

void add_adapted_options(CLI::App& c, Distill& o) {
    CLI::Option* adapt =
        c.add_option("--adapt", o.adapt,
                     "beside the projector: prompts, lora (also low-rank updates of the image encoder) or full (also "
                     "every weight of it); lora and full follow --recipe adapted (default: prompts; with --fit best "
                     "lora)")
            ->check(CLI::IsMember({"prompts", "lora", "full"}))
            ->configurable(false);
    adapt->excludes(c.get_option("--train"));
    c.add_option("--recipe", o.recipe,
                 "published, or adapted: AdamW, rates by group, warm-up and cosine by step, clipping, epochs from the "
                 "number of images, the best check on images held out (no label is read)")
        ->check(CLI::IsMember({"published", "adapted"}))
        ->configurable(false);
    c.add_option("--rank", o.spec.shape.lora.rank, "of LoRA's updates (default: 32)")
        ->check(whole_from(1))
        ->configurable(false);
    c.add_option("--body-rate", o.body_rate,
                 "factor of the learning rate for the image encoder (default: full 0.3, lora 1)")
        ->check(positive())
        ->configurable(false);
    c.add_option("--clip", o.clip, "largest norm of the gradient, all parameters together; 0: any (default: 1)")
        ->check(not_negative())
        ->configurable(false);
    c.add_option("--hold-out", o.hold_out,
                 "images held out of the training to choose on (default: a fifth, at most 500)")
        ->check(whole_from(1))
        ->configurable(false);
    CLI::Option* folds =
        c.add_option("--folds", o.folds,
                     "best: so many parts of the images are held out in turn, each of a training of its own; 1: one "
                     "part, of the only training (default: as many as hold 200 images out, at most 5; 1 with "
                     "--hold-out or --budget)")
            ->check(whole_from(1))
            ->configurable(false);
    c.add_option("--checks", o.checks, "looks at the images held out, the best of which is kept (default: 10)")
        ->check(whole_from(1))
        ->configurable(false);
    c.add_option("--budget", o.budget, "as many steps as fit this time, e.g. 90s, 10m or 2h")
        ->check(duration())
        ->configurable(false)
        ->excludes(folds);
    c.add_flag("--merge-lora", o.spec.adapted.merge_lora, "the bundle has LoRA's updates inside the encoder's weights")
        ->configurable(false);
    c.add_flag("--one-pass", o.spec.adapted.one_pass,
               "best: write the adapted student alone, which needs one pass of the encoder")
        ->configurable(false);
}

void add_machine_options(CLI::App& c, Distill& o) {
    c.add_flag("--recompute", o.spec.shape.recompute,
               "compute the image encoder's activations again in the backward pass instead of keeping them: less "
               "memory, more time, the same student")
        ->configurable(false);
    c.add_option("--bn", o.bn,
                 "under mpirun: BatchNorm over the images of all processes (global) or of each one (local)")
        ->check(CLI::IsMember({"global", "local"}))
        ->capture_default_str();
    c.add_flag("--graph", o.spec.graph, "on the GPU: record a step and repeat it with one call (SGD only)");
}

void add_student_options(CLI::App& c, Distill& o) {
    c.add_option(
        "--teacher-logits", o.spec.stored_targets,
        "targets from promptkd teacher-logits instead of a live teacher; a --teacher beside it is only compared");
    c.add_option("--student", o.spec.student.path, "CLIP weights of the student's image encoder")->required();
    add_image_input(c, o.spec.student.images, "", "the student's");
    c.add_option("--student-config", o.spec.student.config, "the student's JSON, where it is not beside its weights");
    c.add_option("--init", o.spec.init,
                 "initial prompts and projector instead of random ones: tensors, or a PromptKD student's checkpoint");
    c.add_option("--prompts", o.spec.shape.prompts, "visual prompts; 0: projector only")
        ->check(whole_from(0))
        ->capture_default_str();
    c.add_option("--depth", o.spec.shape.depth, "blocks with prompts, the input counted")
        ->check(whole_from(0))
        ->capture_default_str();
    c.add_option("--projector-layers", o.spec.shape.projector_layers, "1, 2 or 3")
        ->check(whole_from(1, 3))
        ->capture_default_str();
    c.add_option("--train", o.train,
                 "--adapt with the published recipe: prompts (and projector), or full: also every weight of the image "
                 "encoder")
        ->check(CLI::IsMember({"prompts", "lora", "full"}))
        ->capture_default_str();
    c.add_option("--text-features", o.text_features,
                 "class vectors of the student: the teacher's (shared, published), or own: its own text features")
        ->check(CLI::IsMember({"teacher", "own"}))
        ->capture_default_str();
}

}  // namespace

void add_distill(CLI::App& app, Action& action) {
    auto o = std::make_shared<Distill>();
    CLI::App& c =
        *app.add_subcommand("distill", "teach a small student from unlabelled images with an adapted CLIP teacher");
    add_teacher_options(c, *o);
    add_student_options(c, *o);
    add_image_options(c, *o);
    c.add_option("--evaluate", o->spec.data.evaluation,
                 "labelled images to evaluate on (default: the test part of --data)");
    add_fit_options(c, *o);
    add_scale_options(c, *o);
    add_adapted_options(c, *o);
    add_dense_distill_options(c, o->dense);
    add_loss_options(c, *o);
    add_view_options(c, *o);
    c.add_option("--steps", o->spec.loop.max_steps, "stop after so many steps; 0: after the epochs")
        ->check(whole_from(0))
        ->capture_default_str();
    c.add_option("--lr", o->lr, "learning rate")->check(positive())->capture_default_str();
    add_run_options(c, o->run);
    c.add_option("--out", o->common.out,
                 "folder for log.jsonl, log.csv, bundle.safetensors, checkpoint/ and result.json")
        ->required();
    CLI::Option* resume =
        c.add_flag("--resume", o->resume, "continue the run that --out holds with the same settings (the default)");
    c.add_flag("--fresh", o->spec.fresh, "start again, whatever --out holds")->excludes(resume);
    add_wait(c, o->common);
    add_machine_options(c, *o);
    add_device(c, o->common);
    add_json(c, o->common);
    c.callback([o, &c, &action] {
        if (o->spec.teacher.weights.empty() && o->spec.stored_targets.empty()) throw CLI::RequiredError("--teacher");
        o->config = resolved(c);
        for (const CLI::Option* option : c.get_options())
            if (option->count() > 0) o->given.push_back(option->get_single_name());
        refuse_unused(c, unused_distill_options(c, o->dense, o->adapt), o->config);
        if (o->dense.is_used()) o->recipe = "published";
        check_fit_options(c, *o);
        o->run.check();
        action = [o] { return o->run_command(); };
    });
}

}  // namespace promptkd::cli
