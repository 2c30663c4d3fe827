// SPDX-License-Identifier: Apache-2.0
// `promptkd distill`: PromptKD's second stage on any folder of unlabelled images.
#include "commands.hpp"
#include "distill_options.hpp"
#include "distill_session.hpp"

namespace promptkd::cli {

namespace {

struct Distill : DistillOptions {
    int run_command() {
        finish();
        make_directories(common.out);  // before the long part: a folder that cannot be written is an early error
        const std::vector<std::uint64_t> seeds = run.seed_list(common.seed);
        nlohmann::json runs = nlohmann::json::array();
        for (const std::uint64_t seed : seeds) {
            const DistillJob one = with_seed(seed, seeds.size() > 1 ? concat(common.out, "/seed", seed) : common.out);
            make_directories(one.run.out);
            nlohmann::json result;
            with_device<CpuPrecisions::all>(common, [&](auto& device) {
                with_ranks(device, [&](const auto& ranks) { result = distill(device, one, ranks); });
            });
            if (seeds.size() > 1) result["seed"] = seed;
            if (launch().is_root()) write_atomically(one.run.out + "/result.json", result.dump(2) + "\n");
            runs.push_back(std::move(result));
        }
        if (seeds.size() == 1) return common.output.write(runs[0]), 0;
        const nlohmann::json summary = summary_over_seeds(common.output, runs);
        if (launch().is_root()) write_atomically(common.out + "/result.json", summary.dump(2) + "\n");
        common.output.write(summary);
        return 0;
    }

    template <class D>
    nlohmann::json distill(D& device, const DistillJob& one, const Ranks<D>& ranks) const {
        DistillSession<D> session(device, one, ranks);
        std::ostream& say = common.output.text();
        say << session.training_data().size() << " images, " << session.class_names().size() << " classes, "
            << session.student().params().size() << " learnable values" << std::endl;
        const Index part = one.run.batch / one.micro_batches;
        if (one.micro_batches > 1)
            say << "a batch of " << one.run.batch << " in " << one.micro_batches << " parts: BatchNorm sees " << part
                << " images at a time" << std::endl;
        const TrainingResult trained = session.train();
        session.write_student(one.run.out + "/bundle.safetensors");
        nlohmann::json result = nlohmann::json::object();
        if (one.clean) say << selection_line(session.selection()) << std::endl;
        if (const auto& data = session.evaluation_data()) {
            result = evaluation_json(device, session.features(*data, "evaluate"), session.class_vectors(),
                                     session.class_names(), "");
            say << evaluation_line(result) << "   protocol " << run.protocol << std::endl;
        }
        result["training"] = training_json(trained, session.training_data());
        result["protocol"] = run.protocol;
        if (one.clean) result["selection"] = session.selection();
        if (one.micro_batches > 1) result["micro_batch"] = part;
        result["config"] = one.config;
        say << "loss " << trained.progress.first_loss << " -> " << trained.progress.last_loss << " in "
            << trained.progress.step << " steps; student: " << one.run.out << "/bundle.safetensors" << std::endl;
        return result;
    }
};

void add_loss_options(CLI::App& c, Distill& o) {
    c.add_option("--temperature", o.job.loss.temperature, "of both distributions")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    c.add_option("--kd-weight", o.job.loss.kd_weight, "factor of the loss (200: FGVCAircraft, OxfordFlowers, DTD)")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    c.add_option("--stay-close", o.job.loss.stay_close,
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
    c.add_flag("--graph", o.job.graph, "on the GPU: record a step and repeat it with one call (SGD only)");
}

void add_student_options(CLI::App& c, Distill& o) {
    c.add_option(
        "--teacher-logits", o.job.stored,
        "targets from promptkd teacher-logits instead of a live teacher; a --teacher beside it is only compared");
    c.add_option("--student", o.job.student, "CLIP weights of the student's image encoder")->required();
    c.add_option("--student-config", o.job.student_config, "the student's JSON, where it is not beside its weights");
    c.add_option("--init", o.job.init,
                 "initial prompts and projector instead of random ones: tensors, or a PromptKD student's checkpoint");
    c.add_option("--prompts", o.job.shape.prompts, "visual prompts; 0: projector only")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--depth", o.job.shape.depth, "blocks with prompts, the input counted")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--projector-layers", o.job.shape.projector_layers, "1, 2 or 3")
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
    c.add_option("--evaluate", o->job.evaluation, "labelled images to evaluate on (default: the test part of --data)");
    add_loss_options(c, *o);
    add_view_options(c, *o);
    c.add_option("--steps", o->job.run.max_steps, "stop after so many steps; 0: after the epochs")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--lr", o->lr, "learning rate")->check(CLI::PositiveNumber)->capture_default_str();
    add_run_options(c, o->run);
    c.add_option("--out", o->common.out,
                 "folder for log.jsonl, log.csv, bundle.safetensors, checkpoint/ and result.json")
        ->required();
    CLI::Option* resume = c.add_flag("--resume", o->job.run.resume,
                                     "continue the run that --out holds with the same settings (the default)");
    c.add_flag("--fresh", o->job.fresh, "start again, whatever --out holds")->excludes(resume);
    add_machine_options(c, *o);
    add_device(c, o->common);
    add_json(c, o->common);
    c.callback([o, &c, &action] {
        if (o->job.teacher.weights.empty() && o->job.stored.empty()) throw CLI::RequiredError("--teacher");
        o->job.config = resolved(c), action = [o] { return o->run_command(); };
    });
}

}  // namespace promptkd::cli
