// SPDX-License-Identifier: Apache-2.0
// `promptkd train LEARNER`: a prompt learner on a few labelled images, tested on base and new classes.
#include "../cli/train_job.hpp"
#include "commands.hpp"

#include <cmath>
#include <optional>

namespace promptkd::cli {

namespace {

struct Train {
    Common common;
    TrainJob job;
    std::string learner, schedule = "cosine", warmup, augment = "rrc", optimizer = "sgd", seeds;
    std::optional<double> lr;
    std::optional<Index> epochs, batch, context, visual, depth;
    std::optional<double> gaussian_mean, gaussian_deviation;
    double warmup_lr = 1e-5, weight_decay = 5e-4, momentum = 0.9;
    Index warmup_epochs = 1;
    std::vector<Index> milestones;

    int run() {
        finish_options();
        const std::vector<std::uint64_t> list = seed_list();
        nlohmann::json runs = nlohmann::json::array();
        for (const std::uint64_t seed : list) {
            TrainJob one = job;
            one.loop.seed = seed;
            one.loop.identity["seed"] = seed;
            one.loop.out = list.size() > 1 ? concat(common.out, "/seed", seed) : common.out;
            make_directories(one.loop.out);
            nlohmann::json result;
            with_device(common, [&](auto& device) { result = train(device, one); });
            result["seed"] = seed;
            write_atomically(one.loop.out + "/result.json", result.dump(2) + "\n");
            common.output.text() << name_of(job.kind) << ", seed " << seed << ": " << evaluation_line(result)
                                 << std::endl;
            runs.push_back(std::move(result));
        }
        if (list.size() == 1) return common.output.write(runs[0]), 0;
        const nlohmann::json summary = {{"learner", name_of(job.kind)},
                                        {"runs", runs},
                                        {"base", spread(runs, "base")},
                                        {"new", spread(runs, "new")},
                                        {"harmonic_mean", spread(runs, "harmonic_mean")}};
        for (const char* key : {"base", "new", "harmonic_mean"})
            if (summary[key].contains("mean"))
                common.output.text() << key << ": " << summary[key]["mean"] << " ± "
                                     << summary[key]["standard_deviation"] << " over " << list.size() << " seeds"
                                     << std::endl;
        write_atomically(common.out + "/result.json", summary.dump(2) + "\n");
        common.output.write(summary);
        return 0;
    }

    template <class D>
    nlohmann::json train(D& device, const TrainJob& one) const {
        TrainSession<D> session(device, one);
        common.output.text() << name_of(one.kind) << ": " << session.training_data().size() << " images of "
                             << session.training_data().classes() << " classes, " << session.learner().params().size()
                             << " learnable values" << std::endl;
        const TrainingResult trained = session.train();
        session.write_prompts(one.loop.out + "/prompts.safetensors");
        nlohmann::json result = session.evaluate();
        result["learner"] = name_of(one.kind);
        result["protocol"] = "published";
        result["training"] = {{"steps", trained.progress.step},          {"epochs", trained.progress.epoch},
                              {"seconds", trained.progress.seconds},     {"first_loss", trained.progress.first_loss},
                              {"last_loss", trained.progress.last_loss}, {"images", session.training_data().size()}};
        result["config"] = one.loop.identity;
        return result;
    }

    void finish_options() {
        job.kind = parse_learner(learner);
        Recipe& r = job.recipe = published_recipe(job.kind, job.shots);
        if (lr) r.lr = *lr;
        if (epochs) r.epochs = *epochs;
        if (batch) r.batch = *batch;
        if (context && r.text > 0) r.text = *context;
        if (visual && r.visual > 0) r.visual = *visual;
        if (job.kind == LearnerKind::maple) r.visual = r.text;
        if (depth) r.depth = *depth;
        if (gaussian_mean && r.gaussian_deviation > 0) r.gaussian_mean = *gaussian_mean;
        if (gaussian_deviation && r.gaussian_deviation > 0) r.gaussian_deviation = *gaussian_deviation;
        job.loop.batch = r.batch;
        ScheduleConfig& s = job.loop.schedule;
        s.lr = r.lr, s.max_epoch = r.epochs, s.schedule = parse_schedule(schedule == "step" ? "single_step" : schedule),
        s.steps = milestones;
        s.warmup = parse_warmup(!warmup.empty() ? warmup : schedule == "constant" ? "none" : "constant");
        s.warmup_epoch = warmup_epochs, s.warmup_cons_lr = s.warmup_min_lr = warmup_lr;
        job.loop.augmentation = parse_augmentation(augment);
        job.optimizer.kind = parse_optimizer(optimizer);
        job.optimizer.sgd.momentum = momentum,
        job.optimizer.sgd.weight_decay = job.optimizer.adam.weight_decay = weight_decay;
        job.weights = common.weights, job.settle = common.settle, job.vocab = vocabulary_path(common),
        job.data = common.data, job.output = &common.output;
        job.config["lr"] = r.lr, job.config["epochs"] = r.epochs, job.config["batch"] = r.batch,
        job.config["context"] = r.text;
        job.config["visual-prompts"] = r.visual, job.config["depth"] = r.depth;
        job.loop.identity = job.config;
        for (const char* key : {"out", "threads", "fresh", "evaluate", "loader-threads", "seeds", "seed"})
            job.loop.identity.erase(key);
    }

    std::vector<std::uint64_t> seed_list() const {
        if (seeds.empty()) return {common.seed};
        std::vector<std::uint64_t> list;
        std::istringstream in(seeds);
        for (std::string part; std::getline(in, part, ',');) {
            require(!part.empty() && part.find_first_not_of("0123456789") == std::string::npos && part.size() < 19,
                    "--seeds '", seeds, "': '", part, "' is not a number");
            list.push_back(std::stoull(part));
        }
        require(!list.empty(), "--seeds is empty");
        return list;
    }

    /// Mean and (sample) standard deviation of one result over the runs.
    static nlohmann::json spread(const nlohmann::json& runs, const char* key) {
        double sum = 0, square = 0;
        nlohmann::json values = nlohmann::json::array();
        for (const auto& run : runs) {
            if (!run.contains(key)) return nlohmann::json::object();
            const double x = run.at(key).get<double>();
            values.push_back(x);
            sum += x;
        }
        const double n = static_cast<double>(runs.size()), mean = sum / n;
        for (const auto& v : values) square += (v.get<double>() - mean) * (v.get<double>() - mean);
        return {{"mean", mean}, {"standard_deviation", n > 1 ? std::sqrt(square / (n - 1)) : 0.0}, {"values", values}};
    }
};

void add_recipe_options(CLI::App& c, Train& o) {
    c.add_option("--shots", o.job.shots, "labelled images of each class; 0: all")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_flag("--allow-fewer", o.job.allow_fewer, "take what there is where a class has fewer images than --shots");
    c.add_option("--images", o.job.images, "draw from the first so many training images only; 0: all")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--classes", o.common.classes, "train on base, new or all classes (default: base)")
        ->check(CLI::IsMember({"base", "new", "all"}));
    c.add_option("--context", o.context, "context vectors of the text branch (default: the learner's published number)")
        ->check(CLI::PositiveNumber);
    c.add_option("--context-words", o.job.context_words, "words the context starts from; \"\": random")
        ->capture_default_str();
    c.add_option("--position", o.job.position, "CoOp: class name at the end, in the middle or in front")
        ->check(CLI::IsMember({"end", "middle", "front"}))
        ->capture_default_str();
    c.add_flag("--class-specific", o.job.class_specific, "CoOp: contexts of their own for each class");
    c.add_option("--visual-prompts", o.visual, "visual prompt vectors (default: published)")
        ->check(CLI::PositiveNumber);
    c.add_option("--depth", o.depth, "prompted blocks, the input counted (default: published)")
        ->check(CLI::PositiveNumber);
    c.add_option("--text-weight", o.job.text_weight, "PromptSRC: weight of the text feature loss")
        ->capture_default_str();
    c.add_option("--image-weight", o.job.image_weight, "PromptSRC: weight of the image feature loss")
        ->capture_default_str();
    c.add_option("--gaussian-mean", o.gaussian_mean, "PromptSRC: epoch with the largest weight (default: 15)");
    c.add_option("--gaussian-deviation", o.gaussian_deviation,
                 "PromptSRC: its standard deviation in epochs (default: 1)")
        ->check(CLI::PositiveNumber);
    c.add_option("--class-chunk", o.job.class_chunk, "classes whose activations are in memory at once; 0: all")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
}

void add_optimizer_options(CLI::App& c, Train& o) {
    c.add_option("--epochs", o.epochs, "(default: published)")->check(CLI::PositiveNumber);
    c.add_option("--batch", o.batch, "images a step (default: published)")->check(CLI::PositiveNumber);
    c.add_option("--accumulate", o.job.micro_batches, "work a batch through in so many parts")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    c.add_option("--lr", o.lr, "learning rate (default: published)")->check(CLI::PositiveNumber);
    c.add_option("--optimizer", o.optimizer, "sgd, adam or adamw")
        ->check(CLI::IsMember({"sgd", "adam", "adamw"}))
        ->capture_default_str();
    c.add_option("--momentum", o.momentum, "of SGD")->capture_default_str();
    c.add_option("--weight-decay", o.weight_decay, "of every learnable tensor")->capture_default_str();
    c.add_option("--schedule", o.schedule, "cosine, step, multi_step or constant")
        ->check(CLI::IsMember({"cosine", "step", "multi_step", "constant"}))
        ->capture_default_str();
    c.add_option("--milestones", o.milestones, "step length or milestones in epochs")
        ->delimiter(',')
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    c.add_option("--gamma", o.job.loop.schedule.gamma, "factor of step and multi_step")->capture_default_str();
    c.add_option("--warmup", o.warmup, "none, constant or linear (default: constant; none with a constant schedule)")
        ->check(CLI::IsMember({"none", "constant", "linear"}));
    c.add_option("--warmup-epochs", o.warmup_epochs, "epochs of warm-up")->capture_default_str();
    c.add_option("--warmup-lr", o.warmup_lr, "its learning rate")->capture_default_str();
    c.add_option("--augment", o.augment, "rrc (random resized crop and flip), flip or none")
        ->check(CLI::IsMember({"rrc", "flip", "none"}))
        ->capture_default_str();
    c.add_option("--loader-threads", o.job.loop.loader_threads, "threads that decode and augment")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--seed", o.common.seed, "of the draw, initial values, order and augmentation")->capture_default_str();
    c.add_option("--seeds", o.seeds, "several seeds, e.g. 1,2,3: all are run; mean and standard deviation printed");
}

}  // namespace

void add_train(CLI::App& app, Action& action) {
    auto o = std::make_shared<Train>();
    CLI::App& c = *app.add_subcommand(
        "train", "train a prompt learner on a few labelled images: coop, cocoop, vpt, ivlp, maple or promptsrc");
    c.add_option("learner", o->learner, "coop, cocoop, vpt, ivlp, maple or promptsrc")
        ->required()
        ->check(CLI::IsMember({"coop", "cocoop", "vpt", "ivlp", "maple", "promptsrc"}));
    c.add_option("--weights", o->common.weights, "CLIP weights")->required();
    add_settling(c, o->common.settle);
    add_vocabulary(c, o->common);
    c.add_option("--data", o->common.data, "labelled images: folder:ROOT, list:FILE, fashion-mnist:ROOT")->required();
    c.add_option("--evaluate", o->job.evaluation, "labelled images to test on (default: the test part of --data)");
    c.add_option("--class-names", o->job.class_names, "file with one class name a line (default: those of --data)");
    add_recipe_options(c, *o);
    add_optimizer_options(c, *o);
    c.add_option("--out", o->common.out, "folder for prompts.safetensors, log.jsonl, checkpoint/ and result.json")
        ->required();
    c.add_flag("--fresh", o->job.fresh, "start again, whatever --out holds");
    add_device(c, o->common);
    add_json(c, o->common);
    c.callback([o, &c, &action] {
        o->job.config = resolved(c);
        if (!o->common.classes.empty()) o->job.classes = o->common.classes;
        action = [o] { return o->run(); };
    });
}

}  // namespace promptkd::cli
