// SPDX-License-Identifier: Apache-2.0
// `promptkd train LEARNER`: a prompt learner on a few labelled images, tested on base and new classes.
#include "commands.hpp"
#include "progress.hpp"
#include "results_json.hpp"
#include "run_options.hpp"
#include "seed_results.hpp"

#include <promptkd/experiment/seeds.hpp>
#include <promptkd/experiment/training.hpp>

#include <algorithm>
#include <map>
#include <optional>

namespace promptkd::cli {

namespace {

/// Also says what is about to be trained.
class TrainObserver final : public ProgramObserver {
public:
    TrainObserver(const Output& output, std::string learner) : ProgramObserver(output), learner_(std::move(learner)) {}

    void on_start(const TrainingStart& start) override {
        say() << learner_ << ": " << start.images << " images of " << start.classes << " classes, " << start.parameters
              << " learnable values" << std::endl;
    }

private:
    std::string learner_;
};

struct Train {
    Common common;
    TrainingSpec spec;
    RunOptions options;
    std::string class_names, position = "end", loss = "ce", names;
    std::optional<double> lr;
    std::optional<Index> epochs, batch, context, visual, depth;
    std::map<std::string, std::optional<double>> own;  ///< learners' own numbers
    std::vector<std::string> given;                    ///< options that were given, without dashes
    nlohmann::json config;                             ///< the resolved options

    int run() {
        finish();
        const auto lock = lock_output(common);
        hold_signals();
        const std::vector<std::uint64_t> seeds = options.seed_list(common.seed);
        SeedResults results(common, seeds);
        with_device(common, [&](auto& device) {
            TrainObserver observer(common.output, spec.learner);
            const auto one = [&](const TrainingSpec& with) { return promptkd::run(device, with, observer); };
            run_over_seeds(spec, seeds, one, [&](const SeedRun<LearnerOutcome>& found) {
                print(found);
                results.add(found.out, result(found));
            });
        });
        stop_if_interrupted(common.out);
        results.finish({{"learner", spec.learner}});
        return 0;
    }

    void print(const SeedRun<LearnerOutcome>& found) const {
        const LearnerOutcome& outcome = found.outcome;
        if (outcome.selection) common.output.text() << selection_line(*outcome.selection) << std::endl;
        common.output.text() << spec.learner << ", seed " << found.seed << ": "
                             << (outcome.evaluation ? evaluation_line(*outcome.evaluation) : "not evaluated")
                             << "   protocol " << options.protocol << std::endl;
    }

    nlohmann::json result(const SeedRun<LearnerOutcome>& found) const {
        const LearnerOutcome& outcome = found.outcome;
        nlohmann::json result = nlohmann::json::object();
        if (outcome.evaluation) result = evaluation_json(*outcome.evaluation);
        result["learner"] = spec.learner;
        result["protocol"] = options.protocol;
        if (outcome.selection) result["selection"] = selection_json(*outcome.selection);
        result["training"] = training_json(outcome);
        result["config"] = with_seed(spec, found.seed).loop.identity;
        result["seed"] = found.seed;
        return result;
    }

    void finish() {
        finish_recipe();
        finish_loop();
        spec.model = model_file(common);
        spec.vocabulary = vocabulary_path(common, common.weights);
        spec.context.position = parse_context_position(position);
        spec.data.source = common.data;
        if (!class_names.empty()) spec.data.class_names = names_of_option("--class-names", class_names);
        if (!common.classes.empty()) spec.data.classes = parse_class_subset(common.classes);
        spec.data.validation = options.protocol == "clean" ? 4 : 0;
        finish_loss();
        spec.loop.out = common.out;
        spec.loop.identity = identity();
    }

private:
    /// Labels, or a teacher in their place.
    void finish_loss() {
        spec.data.labels_needed = loss == "ce";
        if (!names.empty()) spec.knowledge.names = names_of_option("--names", names).names;
        spec.knowledge.teacher.names = {"--activation", "--teacher-config FILE"};
        spec.knowledge.teacher.activation = spec.model.activation;
    }

    /// The published recipe with what was given instead.
    void finish_recipe() {
        Recipe& r = spec.recipe;
        r = published_recipe(spec.learner, spec.data.shots);
        if (lr) r.lr = *lr;
        if (epochs) r.epochs = *epochs;
        if (batch) r.batch = *batch;
        set_prompts(context, r.text, "--context");
        set_prompts(visual, r.visual, "--visual-prompts");
        if (find_learner(spec.learner).ties_branches) r.visual = r.text;
        if (depth) r.depth = *depth;
        for (auto& [name, value] : r.options)
            if (own.at(name)) value = *own.at(name);
    }

    /// A branch that has prompts keeps some. For one without, as stored settings say it, 0 or any number is no choice.
    static void set_prompts(const std::optional<Index>& given, Index& prompts, const char* option) {
        if (!given || prompts == 0) return;
        if (*given == 0) throw CLI::ValidationError(option, "must be at least 1 for this learner, found 0");
        prompts = *given;
    }

    void finish_loop() {
        spec.loop.batch = spec.recipe.batch;
        spec.loop.schedule.lr = spec.recipe.lr;
        spec.loop.schedule.max_epoch = spec.recipe.epochs;
        options.apply(spec.loop, spec.optimizer);
        complete_loop();
        spec.loop.loader_threads = sane_threads(spec.loop.loader_threads, "--loader-threads");
        spec.micro_batches = options.micro_batches;
    }

    /// Optimizer and schedule of a learner that has its own, but for what was given.
    void complete_loop() {
        const LearnerInfo& info = find_learner(spec.learner);
        if (!info.complete) return;
        const TrainingLoopConfig loop = spec.loop;
        const OptimizerConfig rule = spec.optimizer;
        info.complete(spec.loop, spec.optimizer, spec.data.shots);
        const auto is_given = [this](const char* name) {
            return std::find(given.begin(), given.end(), name) != given.end();
        };
        if (is_given("optimizer")) spec.optimizer.kind = rule.kind;
        if (is_given("weight-decay")) spec.optimizer.adam.weight_decay = rule.adam.weight_decay;
        if (is_given("schedule")) spec.loop.schedule = loop.schedule;
        if (epochs) spec.loop.max_steps = 0;
        constexpr const char* optimizers[] = {"sgd", "adam", "adamw"};
        config["optimizer"] = optimizers[static_cast<int>(spec.optimizer.kind)];
        config["weight-decay"] = concat(spec.optimizer.adam.weight_decay);
        config["schedule"] = name_of(spec.loop.schedule.schedule);
        if (!epochs) config["steps"] = spec.loop.max_steps;
    }

    /// Every option that the result depends on, with the recipe's values.
    nlohmann::json identity() const {
        nlohmann::json id = config;
        id["lr"] = spec.recipe.lr;
        id["epochs"] = spec.recipe.epochs;
        id["batch"] = spec.recipe.batch;
        id["context"] = spec.recipe.text;
        id["visual-prompts"] = spec.recipe.visual;
        id["depth"] = spec.recipe.depth;
        for (const char* key : {"out", "threads", "fresh", "evaluate", "loader-threads", "seeds", "verify-data"})
            id.erase(key);
        id["seed"] = common.seed;
        for (const LearnerInfo& info : learners())
            for (const LearnerOption& option : info.options)
                if (!option.recorded && !own.at(option.name)) id.erase(option.name);
        return id;
    }
};

/// A number that one learner alone has.
void add_learner_option(CLI::App& c, Train& o, const std::string& title, const LearnerOption& option) {
    CLI::Option* added =
        c.add_option("--" + option.name, o.own[option.name],
                     concat(title, ": ", option.help, " (default: ", number_text(option.published), ")"));
    if (option.recorded) added->default_str(*option.recorded);
    added->check(option.positive ? positive() : finite());
}

void add_recipe_options(CLI::App& c, Train& o) {
    const std::string positioned = learner_titles([](const LearnerInfo& info) { return info.takes_position; });
    const std::string specific = learner_titles([](const LearnerInfo& info) { return info.takes_class_specific; });
    c.add_option("--shots", o.spec.data.shots, "labelled images of each class; 0: all")
        ->check(whole_from(0))
        ->capture_default_str();
    c.add_flag("--verify-data", o.spec.data.verify,
               "an interrupted run goes on only with images of the same bytes, whatever their modification times");
    c.add_flag("--allow-fewer", o.spec.data.allow_fewer,
               "take what there is where a class has fewer images than --shots");
    c.add_option("--images", o.spec.data.images,
                 std::string("draw from so many training images alone: ") + images_drawn)
        ->check(whole_from(0))
        ->capture_default_str();
    c.add_option("--holdout", o.spec.data.holdout, std::string("test images: ") + holdout_meaning)
        ->check(share_or_count())
        ->configurable(false);
    c.add_option("--classes", o.common.classes,
                 "train on base, new or all classes (default: base; all where a half would hold one class)")
        ->check(CLI::IsMember({"base", "new", "all"}));
    c.add_option("--context", o.context, "context vectors of the text branch (default: the learner's published number)")
        ->check(whole_from(0));
    may_be_empty(c.add_option("--context-words", o.spec.context.words, "words the context starts from; \"\": random"))
        ->capture_default_str();
    c.add_option("--position", o.position, positioned + ": class name at the end, in the middle or in front")
        ->check(CLI::IsMember({"end", "middle", "front"}))
        ->capture_default_str();
    c.add_flag("--class-specific", o.spec.context.class_specific, specific + ": contexts of their own for each class");
    c.add_option("--visual-prompts", o.visual, "visual prompt vectors (default: published)")->check(whole_from(0));
    c.add_option("--depth", o.depth, "prompted blocks, the input counted (default: published)")->check(whole_from(1));
    for (const LearnerInfo& info : learners())
        for (const LearnerOption& option : info.options) add_learner_option(c, o, info.title, option);
    c.add_option("--class-chunk", o.spec.class_chunk, "classes whose activations are in memory at once; 0: all")
        ->check(whole_from(0))
        ->capture_default_str();
}

/// What is learned from.
void add_loss_options(CLI::App& c, Train& o) {
    TeacherSpec& teacher = o.spec.knowledge.teacher;
    c.add_option("--loss", o.loss,
                 "ce: cross-entropy with the labels (published); kdpl: half the KL from a teacher's probabilities and "
                 "half the KL to them, no label is read")
        ->check(CLI::IsMember({"ce", "kdpl"}))
        ->configurable(false);
    c.add_option("--teacher", teacher.weights, "kdpl: CLIP weights of the teacher")->expected(1)->configurable(false);
    c.add_option("--teacher-prompts", teacher.prompts, "kdpl: learned prompts of the teacher, " + prompt_files())
        ->expected(1)
        ->configurable(false);
    c.add_option("--teacher-config", teacher.config, "kdpl: the teacher's JSON, where it is not beside its weights")
        ->configurable(false);
    c.add_option("--names", o.names,
                 "kdpl without class names: file with a vocabulary, a name a line, to learn from in their place")
        ->configurable(false);
    c.add_option("--top-names", o.spec.knowledge.top,
                 "kdpl: of --names so many count in each batch, those most probable to the teacher; 0: all")
        ->check(whole_from(0))
        ->configurable(false);
}

/// Throws for options that the chosen loss would not look at.
void check_loss_options(const CLI::App& c, const Train& o) {
    if (o.loss == "kdpl") {
        if (o.spec.knowledge.teacher.weights.empty()) throw CLI::RequiredError("--teacher");
        if (o.spec.knowledge.top > 0 && o.names.empty()) throw CLI::RequiredError("--names");
        return;
    }
    for (const char* name : {"--teacher", "--teacher-prompts", "--teacher-config", "--names", "--top-names"})
        if (c.get_option(name)->count() > 0) throw CLI::ValidationError(name, "belongs to --loss kdpl");
}

void add_optimizer_options(CLI::App& c, Train& o) {
    c.add_option("--epochs", o.epochs, "(default: published)")->check(whole_from(1));
    c.add_option("--batch", o.batch, "images a step (default: published)")->check(whole_from(1));
    c.add_option("--lr", o.lr, "learning rate (default: published)")->check(positive());
    add_run_options(c, o.options);
    c.add_option("--loader-threads", o.spec.loop.loader_threads, "threads that decode and augment")
        ->check(thread_count())
        ->capture_default_str();
    c.add_option("--seed", o.common.seed, "of the draw, initial values, order and augmentation")
        ->check(seed_number())
        ->capture_default_str();
}

}  // namespace

void add_train(CLI::App& app, Action& action) {
    auto o = std::make_shared<Train>();
    CLI::App& c = *app.add_subcommand("train", "train a prompt learner on a few labelled images: " + learner_names());
    std::vector<std::string> names;
    for (const LearnerInfo& info : learners()) names.push_back(info.name);
    c.add_option("learner", o->spec.learner, learner_names())->required()->check(CLI::IsMember(names));
    c.add_option("--weights", o->common.weights, "CLIP weights")->required();
    add_weights_options(c, o->common.weights_options);
    add_exif_rotate(c);
    add_vocabulary(c, o->common);
    c.add_option("--data", o->common.data, "labelled images: folder:ROOT, list:FILE, fashion-mnist:ROOT")->required();
    c.add_option("--evaluate", o->spec.data.evaluation,
                 "labelled images to test on (default: the test part of --data)");
    c.add_option("--class-names", o->class_names, class_names_files);
    c.add_flag("--truncate", o->spec.truncate, "cut class texts that are longer than the model's context")
        ->configurable(false);
    add_recipe_options(c, *o);
    add_loss_options(c, *o);
    add_optimizer_options(c, *o);
    c.add_option("--out", o->common.out, "folder for prompts.safetensors, log.jsonl, checkpoint/ and result.json")
        ->required();
    c.add_flag("--fresh", o->spec.fresh, "start again, whatever --out holds");
    add_wait(c, o->common);
    add_device(c, o->common);
    add_json(c, o->common);
    c.callback([o, &c, &action] {
        o->config = resolved(c);
        check_loss_options(c, *o);
        for (const CLI::Option* option : c.get_options())
            if (option->count() > 0) o->given.push_back(option->get_single_name());
        o->options.check();
        action = [o] { return o->run(); };
    });
}

}  // namespace promptkd::cli
