// SPDX-License-Identifier: Apache-2.0
// `promptkd train LEARNER`: a prompt learner on a few labelled images, tested on base and new classes.
#include "commands.hpp"
#include "run_options.hpp"
#include "train_job.hpp"

#include <optional>

namespace promptkd::cli {

namespace {

struct Train {
    Common common;
    TrainJob job;
    RunOptions options;
    std::string learner;
    std::optional<double> lr;
    std::optional<Index> epochs, batch, context, visual, depth;
    std::map<std::string, std::optional<double>> own;  ///< learners' own numbers

    int run() {
        finish_options();
        const std::vector<std::uint64_t> list = options.seed_list(common.seed);
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
            common.output.text() << job.learner << ", seed " << seed << ": " << evaluation_line(result)
                                 << "   protocol " << options.protocol << std::endl;
            runs.push_back(std::move(result));
        }
        if (list.size() == 1) return common.output.write(runs[0]), 0;
        nlohmann::json summary = summary_over_seeds(common.output, runs);
        summary["learner"] = job.learner;
        write_atomically(common.out + "/result.json", summary.dump(2) + "\n");
        common.output.write(summary);
        return 0;
    }

    template <class D>
    nlohmann::json train(D& device, const TrainJob& one) const {
        TrainSession<D> session(device, one);
        common.output.text() << one.learner << ": " << session.training_data().size() << " images of "
                             << session.training_data().classes() << " classes, " << session.learner().params().size()
                             << " learnable values" << std::endl;
        const TrainingResult trained = session.train();
        session.write_prompts(one.loop.out + "/prompts.safetensors");
        if (one.clean) common.output.text() << selection_line(session.selection()) << std::endl;
        nlohmann::json result = session.evaluate();
        result["learner"] = one.learner;
        result["protocol"] = options.protocol;
        if (one.clean) result["selection"] = session.selection();
        result["training"] = {{"steps", trained.progress.step},          {"epochs", trained.progress.epoch},
                              {"seconds", trained.progress.seconds},     {"first_loss", trained.progress.first_loss},
                              {"last_loss", trained.progress.last_loss}, {"images", session.training_data().size()}};
        result["config"] = one.loop.identity;
        return result;
    }

    void finish_options() {
        job.learner = learner;
        job.recipe = published_recipe(learner, job.shots);
        Recipe& r = job.recipe;
        if (lr) r.lr = *lr;
        if (epochs) r.epochs = *epochs;
        if (batch) r.batch = *batch;
        if (context && r.text > 0) r.text = *context;
        if (visual && r.visual > 0) r.visual = *visual;
        if (find_learner(learner).ties_branches) r.visual = r.text;
        if (depth) r.depth = *depth;
        for (auto& [name, value] : r.options)
            if (own.at(name)) value = *own.at(name);
        job.loop.batch = r.batch;
        ScheduleConfig& s = job.loop.schedule;
        s.lr = r.lr, s.max_epoch = r.epochs;
        options.apply(job.loop, job.optimizer);
        job.micro_batches = options.micro_batches, job.clean = options.protocol == "clean";
        job.weights = common.weights, job.weights_options = common.weights_options, job.vocab = vocabulary_path(common),
        job.data = common.data, job.output = &common.output;
        job.config["lr"] = r.lr, job.config["epochs"] = r.epochs, job.config["batch"] = r.batch,
        job.config["context"] = r.text;
        job.config["visual-prompts"] = r.visual, job.config["depth"] = r.depth;
        job.loop.identity = job.config;
        for (const char* key : {"out", "threads", "fresh", "evaluate", "loader-threads", "seeds", "seed"})
            job.loop.identity.erase(key);
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
    for (const LearnerInfo& info : learners())
        for (const LearnerOption& option : info.options) {
            char published[32];
            std::snprintf(published, sizeof published, "%g", option.published);
            CLI::Option* added = c.add_option("--" + option.name, o.own[option.name],
                                              concat(info.title, ": ", option.help, " (default: ", published, ")"));
            if (option.recorded) added->default_str(*option.recorded);
            if (option.positive) added->check(CLI::PositiveNumber);
        }
    c.add_option("--class-chunk", o.job.class_chunk, "classes whose activations are in memory at once; 0: all")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
}

void add_optimizer_options(CLI::App& c, Train& o) {
    c.add_option("--epochs", o.epochs, "(default: published)")->check(CLI::PositiveNumber);
    c.add_option("--batch", o.batch, "images a step (default: published)")->check(CLI::PositiveNumber);
    c.add_option("--lr", o.lr, "learning rate (default: published)")->check(CLI::PositiveNumber);
    add_run_options(c, o.options);
    c.add_option("--loader-threads", o.job.loop.loader_threads, "threads that decode and augment")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--seed", o.common.seed, "of the draw, initial values, order and augmentation")->capture_default_str();
}

}  // namespace

void add_train(CLI::App& app, Action& action) {
    auto o = std::make_shared<Train>();
    CLI::App& c = *app.add_subcommand("train", "train a prompt learner on a few labelled images: " + learner_names());
    std::vector<std::string> names;
    for (const LearnerInfo& info : learners()) names.push_back(info.name);
    c.add_option("learner", o->learner, learner_names())->required()->check(CLI::IsMember(names));
    c.add_option("--weights", o->common.weights, "CLIP weights")->required();
    add_weights_options(c, o->common.weights_options);
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
        for (const LearnerInfo& info : learners())
            for (const LearnerOption& option : info.options)
                if (!option.recorded && !o->own[option.name]) o->job.config.erase(option.name);
        if (!o->common.classes.empty()) o->job.classes = o->common.classes;
        action = [o] { return o->run(); };
    });
}

}  // namespace promptkd::cli
