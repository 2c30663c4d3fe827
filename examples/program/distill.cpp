// SPDX-License-Identifier: Apache-2.0
// `promptkd distill`: PromptKD's second stage on any folder of unlabelled images.
#include "commands.hpp"
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
        say() << start.images << " images, " << start.classes << " classes, " << start.parameters << " learnable values"
              << std::endl;
        if (spec_.micro_batches == 1) return;
        say() << "a batch of " << spec_.loop.batch << " in " << spec_.micro_batches << " parts: BatchNorm sees "
              << spec_.loop.batch / spec_.micro_batches << " images at a time" << std::endl;
    }

private:
    const DistillationSpec& spec_;
};

struct Distill : DistillOptions {
    bool resume = false;  ///< what it does anyway

    int run_command() {
        finish();
        const std::vector<std::uint64_t> seeds = run.seed_list(common.seed);
        SeedResults results(common, seeds);
        with_device<CpuPrecisions::all>(common, [&](auto& device) {
            with_ranks(device, [&](const auto& ranks) {
                DistillObserver observer(common.output, spec);
                const auto one = [&](const DistillationSpec& with) {
                    return promptkd::run(device, with, observer, ranks);
                };
                run_over_seeds(spec, seeds, one, [&](const SeedRun<DistillationOutcome>& found) {
                    print(found.outcome);
                    results.add(found.out, result(found, seeds.size() > 1));
                });
            });
        });
        results.finish(nlohmann::json::object());
        return 0;
    }

    nlohmann::json result(const SeedRun<DistillationOutcome>& found, bool several) const {
        const DistillationOutcome& outcome = found.outcome;
        nlohmann::json result = nlohmann::json::object();
        if (outcome.evaluation) result = evaluation_json(*outcome.evaluation);
        result["training"] = training_json(outcome);
        result["protocol"] = run.protocol;
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
            say << evaluation_line(*outcome.evaluation) << "   protocol " << run.protocol << std::endl;
        const Progress& at = outcome.training.progress;
        say << "loss " << at.first_loss << " -> " << at.last_loss << " in " << at.step
            << " steps; student: " << outcome.bundle << std::endl;
    }
};

void add_loss_options(CLI::App& c, Distill& o) {
    c.add_option("--temperature", o.spec.loss.temperature, "of both distributions")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    c.add_option("--kd-weight", o.spec.loss.kd_weight, "factor of the loss (200: FGVCAircraft, OxfordFlowers, DTD)")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    c.add_option("--stay-close", o.spec.loss.stay_close,
                 "weight of a loss that keeps the student close to its frozen self; 0: none (published)")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--stay-close-to", o.stay_close_to,
                 "the frozen student's encoder features (mean absolute difference) or its zero-shot logits (KL)")
        ->check(CLI::IsMember({"features", "logits"}))
        ->capture_default_str();
}

void add_machine_options(CLI::App& c, Distill& o) {
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
    c.add_option("--student-config", o.spec.student.config, "the student's JSON, where it is not beside its weights");
    c.add_option("--init", o.spec.init,
                 "initial prompts and projector instead of random ones: tensors, or a PromptKD student's checkpoint");
    c.add_option("--prompts", o.spec.shape.prompts, "visual prompts; 0: projector only")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--depth", o.spec.shape.depth, "blocks with prompts, the input counted")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--projector-layers", o.spec.shape.projector_layers, "1, 2 or 3")
        ->check(CLI::Range(1, 3))
        ->capture_default_str();
    c.add_option("--train", o.train, "prompts (and projector), or full: also every weight of the image encoder")
        ->check(CLI::IsMember({"prompts", "full"}))
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
    add_loss_options(c, *o);
    add_view_options(c, *o);
    c.add_option("--steps", o->spec.loop.max_steps, "stop after so many steps; 0: after the epochs")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--lr", o->lr, "learning rate")->check(CLI::PositiveNumber)->capture_default_str();
    add_run_options(c, o->run);
    c.add_option("--out", o->common.out,
                 "folder for log.jsonl, log.csv, bundle.safetensors, checkpoint/ and result.json")
        ->required();
    CLI::Option* resume =
        c.add_flag("--resume", o->resume, "continue the run that --out holds with the same settings (the default)");
    c.add_flag("--fresh", o->spec.fresh, "start again, whatever --out holds")->excludes(resume);
    add_machine_options(c, *o);
    add_device(c, o->common);
    add_json(c, o->common);
    c.callback([o, &c, &action] {
        if (o->spec.teacher.weights.empty() && o->spec.stored_targets.empty()) throw CLI::RequiredError("--teacher");
        o->config = resolved(c);
        action = [o] { return o->run_command(); };
    });
}

}  // namespace promptkd::cli
