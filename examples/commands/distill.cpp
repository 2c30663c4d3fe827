// SPDX-License-Identifier: Apache-2.0
// `promptkd distill`: PromptKD's second stage on any folder of unlabelled images.
#include "../cli/distill_job.hpp"
#include "commands.hpp"

namespace promptkd::cli {

namespace {

struct Distill {
    Common common;
    DistillJob job;
    std::string schedule = "cosine", warmup, augment = "rrc", order = "shuffled", kd = "logits",
                stay_close_to = "features", bn = "global";
    double lr = 0.005;
    Index epochs = 20, warmup_epochs = 1;
    double warmup_lr = 1e-5, weight_decay = 5e-4;

    int run() {
        finish_options();
        make_directories(
            common.out);  // before the long part: an output folder that cannot be written is an early error
        with_device<CpuPrecisions::all>(
            common, [&](auto& device) { with_ranks(device, [&](const auto& ranks) { distill(device, ranks); }); });
        return 0;
    }

    void finish_options() {
        job.run.schedule.lr = lr, job.run.schedule.max_epoch = epochs;
        job.run.schedule.schedule = parse_schedule(schedule);
        job.run.schedule.warmup = parse_warmup(!warmup.empty() ? warmup : schedule == "constant" ? "none" : "constant");
        job.run.schedule.warmup_epoch = warmup_epochs,
        job.run.schedule.warmup_cons_lr = job.run.schedule.warmup_min_lr = warmup_lr;
        job.loss.kd = parse_kd_loss(kd), job.loss.stay_close_to = parse_stay_close(stay_close_to);
        job.loss.optimizer.sgd.weight_decay = job.loss.optimizer.adam.weight_decay = weight_decay;
        job.run.augmentation = parse_augmentation(augment);
        job.local_batch_norm = bn == "local";
        job.run.shuffle = order == "shuffled";
        job.run.seed = common.seed, job.run.out = common.out;
        job.vocab = common.vocab, job.data = common.data, job.output = &common.output;
        if (job.pattern.empty()) job.pattern = default_template(common.data);
        job.config["template"] = job.pattern;
        job.run.identity = job.config;
        for (const char* key : {"out", "threads", "resume", "fresh", "evaluate", "loader-threads"})
            job.run.identity.erase(key);
    }

    template <class D>
    void distill(D& device, const Ranks<D>& ranks) const {
        DistillSession<D> session(device, job, ranks);
        common.output.text() << session.training_data().size() << " images, " << session.class_names().size()
                             << " classes, " << session.student().params().size() << " learnable values" << std::endl;
        const TrainingResult trained = session.train();
        session.write_student(common.out + "/bundle.safetensors");
        nlohmann::json result = nlohmann::json::object();
        if (const auto& data = session.evaluation_data()) {
            result = evaluation_json(device, session.features(*data, "evaluate"), session.class_vectors(),
                                     session.class_names(), "");
            common.output.text() << evaluation_line(result) << std::endl;
        }
        result["training"] = training_json(trained, session.training_data());
        result["protocol"] = "published";
        result["config"] = job.config;
        if (ranks.leads()) write_atomically(common.out + "/result.json", result.dump(2) + "\n");
        common.output.write(result);
        common.output.text() << "loss " << trained.progress.first_loss << " -> " << trained.progress.last_loss << " in "
                             << trained.progress.step << " steps; student: " << common.out << "/bundle.safetensors"
                             << std::endl;
    }
};

void add_run_options(CLI::App& c, Distill& o) {
    c.add_option("--epochs", o.epochs, "passes over the images")->check(CLI::PositiveNumber)->capture_default_str();
    c.add_option("--steps", o.job.run.max_steps, "stop after so many steps; 0: after the epochs")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--batch", o.job.run.batch, "images a step")->check(CLI::PositiveNumber)->capture_default_str();
    c.add_option("--images", o.job.images, "only the first so many training images; 0: all")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--lr", o.lr, "learning rate")->check(CLI::PositiveNumber)->capture_default_str();
    c.add_option("--schedule", o.schedule, "cosine or constant")
        ->check(CLI::IsMember({"cosine", "constant"}))
        ->capture_default_str();
    c.add_option("--warmup", o.warmup, "none, constant or linear (default: constant with cosine, none with constant)")
        ->check(CLI::IsMember({"none", "constant", "linear"}));
    c.add_option("--warmup-epochs", o.warmup_epochs, "epochs of warm-up")->capture_default_str();
    c.add_option("--warmup-lr", o.warmup_lr, "learning rate of a constant warm-up, first of a linear one")
        ->capture_default_str();
    c.add_option("--momentum", o.job.loss.optimizer.sgd.momentum, "SGD momentum")->capture_default_str();
    c.add_option("--weight-decay", o.weight_decay, "of every learnable tensor")->capture_default_str();
    c.add_option("--augment", o.augment, "rrc (random resized crop and flip), flip or none")
        ->check(CLI::IsMember({"rrc", "flip", "none"}))
        ->capture_default_str();
    c.add_option("--order", o.order, "shuffled or file")
        ->check(CLI::IsMember({"shuffled", "file"}))
        ->capture_default_str();
    c.add_option("--bn", o.bn,
                 "under mpirun: BatchNorm over the images of all processes (global) or of each one (local)")
        ->check(CLI::IsMember({"global", "local"}))
        ->capture_default_str();
    c.add_flag("--graph", o.job.graph, "on the GPU: record a step and repeat it with one call (SGD only)");
    c.add_option("--loader-threads", o.job.run.loader_threads, "threads that decode and augment")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--seed", o.common.seed, "of initial values, order and augmentation")->capture_default_str();
}

void add_model_options(CLI::App& c, Distill& o) {
    c.add_option("--teacher", o.job.teacher, "CLIP weights of the teacher")->required();
    c.add_option("--teacher-prompts", o.job.teacher_prompts,
                 "learned prompts of the teacher: safetensors, or a checkpoint of CoOp, VPT, IVLP, MaPLe or PromptSRC");
    c.add_option("--teacher-config", o.job.teacher_config,
                 "the teacher's JSON (Hugging Face, open_clip), where it is not beside its weights");
    c.add_option("--class-vectors", o.job.class_vectors,
                 "file with the tensor class_vectors (classes, e), instead of the teacher's text branch");
    c.add_option("--student", o.job.student, "CLIP weights of the student's image encoder")->required();
    c.add_option("--student-config", o.job.student_config, "the student's JSON, where it is not beside its weights");
    c.add_option("--activation", o.job.activation, "of a model whose file does not tell: quick_gelu or gelu")
        ->check(CLI::IsMember({"quick_gelu", "gelu"}));
    c.add_option("--init", o.job.init,
                 "initial prompts and projector instead of random ones: tensors, or a PromptKD student's checkpoint");
    add_vocabulary(c, o.common);
    c.add_option("--data", o.common.data, "unlabelled images: folder:ROOT, list:FILE, fashion-mnist:ROOT")->required();
    c.add_option("--evaluate", o.job.evaluation, "labelled images to evaluate on (default: the test part of --data)");
    c.add_option("--class-names", o.job.class_names, "file with one class name a line (default: those of --data)");
    c.add_option("--template", o.job.pattern,
                 "prompt text with {} for the class name (default: the published one of the data set)");
    c.add_option("--prompts", o.job.shape.prompts, "visual prompts; 0: projector only")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--depth", o.job.shape.depth, "blocks with prompts, the input counted")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--projector-layers", o.job.shape.projector_layers, "1, 2 or 3")
        ->check(CLI::Range(1, 3))
        ->capture_default_str();
    c.add_option("--temperature", o.job.loss.temperature, "of both distributions")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    c.add_option("--kd", o.kd, "what the student imitates: the teacher's logits (KL), or its features (l1, mse)")
        ->check(CLI::IsMember({"logits", "l1", "mse"}))
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

}  // namespace

void add_distill(CLI::App& app, Action& action) {
    auto o = std::make_shared<Distill>();
    CLI::App& c =
        *app.add_subcommand("distill", "teach a small student from unlabelled images with an adapted CLIP teacher");
    add_model_options(c, *o);
    add_run_options(c, *o);
    c.add_option("--out", o->common.out, "folder for log.jsonl, bundle.safetensors, checkpoint/ and result.json")
        ->required();
    CLI::Option* resume = c.add_flag("--resume", o->job.run.resume,
                                     "continue the run that --out holds with the same settings (the default)");
    c.add_flag("--fresh", o->job.fresh, "start again, whatever --out holds")->excludes(resume);
    add_device(c, o->common);
    add_json(c, o->common);
    c.callback([o, &c, &action] { o->job.config = resolved(c), action = [o] { return o->run(); }; });
}

}  // namespace promptkd::cli
