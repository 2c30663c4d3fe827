// SPDX-License-Identifier: Apache-2.0
// `promptkd reproduce PROTOCOL`: the published experiments over any list of data sets and seeds, with a report.
#include "commands.hpp"
#include "options.hpp"
#include "progress.hpp"

#include <promptkd/experiment/reproduction.hpp>

#include <algorithm>
#include <limits>

namespace promptkd::cli {

namespace {

/// "base 80.00   new 70.00   harmonic mean 74.67", or the accuracy.
std::string figures_line(const TestFigures& figures) {
    char text[120];
    if (figures.base)
        std::snprintf(text, sizeof text, "base %.2f   new %.2f   harmonic mean %.2f", *figures.base, *figures.novel,
                      *figures.harmonic_mean);
    else
        std::snprintf(text, sizeof text, "accuracy %.2f", *figures.accuracy);
    return text;
}

/// Prints what a reproduction does.
class PrintedReproduction : public ReproductionObserver {
public:
    explicit PrintedReproduction(const Output& output) : output_(output), progress_(output) {}

    void on_stage(const ReproductionStage& stage, Index number, Index total) override {
        output_.text() << "[" << number << "/" << total << "] " << stage.folder << std::endl;
    }
    void on_test(const ReproductionStage& stage, const TestSet& set, const TestFigures& figures) override {
        output_.text() << "    " << stage.row << " on " << set.key << ": " << figures_line(figures) << std::endl;
    }
    void on_resume(const Resumption& found) override { progress_.on_resume(found); }
    void on_progress(const StageProgress& at) override { progress_.on_progress(at); }
    void on_stage_end(const std::string& stage) override { progress_.on_stage_end(stage); }
    void on_warning(const std::string& text) override { progress_.on_warning(text); }
    void on_skipped(const std::string& text) override { progress_.on_skipped(text); }
    bool is_interrupted() override { return progress_.is_interrupted(); }
    bool wants_stop() override { return progress_.is_interrupted(); }
    void on_note(const std::string& text) override { progress_.on_note(text); }

private:
    const Output& output_;
    ProgramObserver progress_;
};

struct Reproduce {
    Common common;
    ReproductionSpec spec;
    std::string protocol, seeds = "1,2,3", shots;
    std::string learner_augment = "rrc", augment = "rrc", fit = "sgd";
    std::vector<std::string> beside;  ///< fits of further students
    bool dry_run = false;
    nlohmann::json config;  ///< the options as given, written beside the report

    int run() {
        finish_options();
        const ReproductionPlan reproduction = plan(spec);
        print_plan(reproduction);
        if (dry_run) {
            common.output.write(plan_json(reproduction));
            return 0;
        }
        const auto lock = lock_output(common);
        hold_signals();
        config["data"] = reproduction.spec.data;
        write_atomically(spec.out + "/config.json", json_text(config, 2) + "\n");
        PrintedReproduction observer(common.output);
        ReproductionReport report;
        with_device(common, [&](auto& device) { report = promptkd::run(device, reproduction, observer).report; });
        stop_if_interrupted(spec.out);
        common.output.write(to_json(report));
        common.output.text() << "\n"
                             << markdown_tables(report) << "\nreport: " << spec.out
                             << "/report.html, report.md, report.json" << std::endl;
        return 0;
    }

    void finish_options() {
        spec.protocol = parse_protocol(protocol);
        spec.learner.augmentation = parse_augmentation(learner_augment);
        spec.distillation.augmentation = parse_augmentation(augment);
        spec.vocabulary = vocabulary_path(common);
        spec.out = common.out;
        spec.teacher_names = {"--activation", "--teacher-config FILE"};
        spec.student_names = {"--activation", "--student-config FILE"};
        spec.loader_threads = sane_threads(spec.loader_threads, "--loader-threads");
        const bool all = std::any_of(spec.data.begin(), spec.data.end(),
                                     [](const std::string& data) { return data.rfind("all:", 0) == 0; });
        require(!has_source(spec.protocol) || !spec.source.empty() || all, protocol,
                ": give the data set that prompts are learned on with --source NAME:ROOT");
    }

    StageState state_of(const ReproductionStage& stage) const {
        return spec.fresh ? StageState::missing : StageResultFile(spec.out, stage).state();
    }

    void print_stage(const ReproductionStage& stage, StageState state) const {
        std::ostream& out = common.output.text();
        out << stage.folder << ": " << stage.row;
        if (stage.steps > 0)
            out << ", " << stage.images << " images, " << stage.steps << " steps of " << stage.step_images();
        out << ", tested on " << stage.test_images << " images; " << name_of(state) << "\n";
    }

    void print_plan(const ReproductionPlan& reproduction) const {
        Index todo = 0, steps = 0, images = 0, tested = 0;
        for (const ReproductionStage& stage : reproduction.stages) {
            const StageState state = state_of(stage);
            if (dry_run) print_stage(stage, state);
            if (state == StageState::done) continue;
            ++todo;
            steps += stage.steps;
            images += stage.steps * stage.step_images();
            tested += stage.test_images;
        }
        common.output.text() << protocol << ": " << reproduction.stages.size() << " stages on "
                             << reproduction.targets.size() << " data set(s), " << todo << " to do: " << steps
                             << " training steps on " << images << " images, " << tested << " images to test"
                             << std::endl;
    }

    nlohmann::json plan_json(const ReproductionPlan& reproduction) const {
        nlohmann::json list = nlohmann::json::array();
        for (const ReproductionStage& stage : reproduction.stages)
            list.push_back({{"folder", stage.folder},
                            {"row", stage.row},
                            {"data", stage.key},
                            {"seed", stage.seed},
                            {"images", stage.images},
                            {"steps", stage.steps},
                            {"test_images", stage.test_images},
                            {"state", name_of(state_of(stage))},
                            {"settings", stage.identity}});
        return {{"protocol", protocol}, {"stages", std::move(list)}};
    }

    /// Options that contradict each other are bad usage.
    void check() {
        const auto refuse = [](bool wrong, const std::string& what) {
            if (wrong) throw CLI::ValidationError(what);
        };
        const ReproducedStudent& student = spec.distillation;
        const bool pair = !spec.teacher.empty() || !spec.student.empty();
        refuse(pair != spec.weights.empty(), "give --teacher and --student (PromptKD), or --weights (a learner alone)");
        refuse(pair && (spec.teacher.empty() || spec.student.empty()), "PromptKD needs both --teacher and --student");
        refuse(!pair && (student.lr || student.epochs || student.batch || student.depth || student.prompts ||
                         student.kd_weight || student.temperature),
               "--lr, --epochs, --batch, --depth, --prompts, --kd-weight and --temperature belong to a student; a "
               "learner's are --learner-lr, …");
        spec.distillation.fit = parse_fit(fit);
        for (const std::string& other : beside) {
            spec.distillation.beside.push_back(parse_fit(other));
            refuse(other == fit || std::count(beside.begin(), beside.end(), other) > 1,
                   "--beside: the student " + other + " is there already");
        }
        const bool other = !student.is_published();
        refuse(!pair && (other || !beside.empty() || student.mix || student.guard),
               "--fit, --beside, --mix and --guard belong to a student");
        refuse(other && (student.lr || student.epochs || student.batch || student.depth || student.prompts ||
                         student.kd_weight || student.temperature),
               "--fit " + fit +
                   " has no use for --lr, --epochs, --batch, --depth, --prompts, --kd-weight and "
                   "--temperature");
        refuse(other && (student.mix || student.guard), "--fit " + fit + " has mixture and guard always");
        const bool none = spec.learner.name == "none";
        refuse(!pair && none, "--learner none needs a student");
        refuse(pair && !none && !find_learner(spec.learner.name).fixed_prompts,
               "--learner " + spec.learner.name +
                   ": its class vectors depend on the image and cannot be shared with a student");
        spec.seeds = number_list<std::uint64_t>(seeds, "--seeds", 1, std::numeric_limits<std::uint64_t>::max());
        if (!shots.empty()) spec.shots = number_list<Index>(shots, "--shots", 1, 1000000000);
        refuse(spec.shots.size() > 1 && protocol != "few-shot", "--shots: only few-shot takes several numbers");
        refuse(protocol != "cross-dataset" && protocol != "domain-generalization" && !spec.source.empty(),
               "--source belongs to cross-dataset and domain-generalization");
    }
};

/// The names that --learner takes.
std::vector<std::string> learner_choices() {
    std::vector<std::string> names;
    for (const LearnerInfo& info : learners()) names.push_back(info.name);
    names.push_back("none");
    return names;
}

void add_data_options(CLI::App& c, Reproduce& r) {
    ReproductionSpec& s = r.spec;
    c.add_option(
         "--data", s.data,
         "NAME:ROOT of a data set, again for each further one; all:ROOT stands for those of the published table")
        ->required()
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    c.add_option("--source", s.source, "cross-dataset, domain-generalization: NAME:ROOT that prompts are learned on");
    comma_list(c.add_option("--seeds", r.seeds, "of draw, initial values, order and augmentation"))
        ->capture_default_str();
    comma_list(
        c.add_option("--shots", r.shots, "labelled images a class to learn from (default: 16; few-shot: 1,2,4,8,16)"));
    c.add_flag("--allow-incomplete", s.allow_incomplete,
               "go on with benchmarks whose classes or images are not the published ones; the tables mark them");
    c.add_option("--images", s.images, std::string("so many training images alone: ") + images_drawn)
        ->check(whole_from(0))
        ->capture_default_str();
    c.add_option("--test-images", s.test_images, std::string("so many test images alone: ") + images_drawn)
        ->check(whole_from(0))
        ->capture_default_str();
}

void add_model_options(CLI::App& c, Reproduce& r) {
    ReproductionSpec& s = r.spec;
    c.add_option("--teacher", s.teacher, "PromptKD: CLIP weights of the teacher (published: ViT-L/14)");
    c.add_option("--student", s.student, "PromptKD: CLIP weights of the student (published: ViT-B/16)");
    c.add_option("--weights", s.weights, "a learner alone, without PromptKD: CLIP weights (published: ViT-B/16)");
    c.add_option("--learner", s.learner.name, "learner of the prompts; none: a teacher without")
        ->check(CLI::IsMember(learner_choices()))
        ->capture_default_str();
    c.add_option(
        "--teacher-prompts", s.teacher_prompts,
        "instead of learning them: prompts or a published checkpoint; {data}, {seed}, {shots} in the name stand "
        "for the run's");
    c.add_option("--activation", s.activation, "of a model whose file does not tell: quick_gelu or gelu")
        ->check(CLI::IsMember({"quick_gelu", "gelu"}));
    c.add_option("--teacher-config,--model-config", s.teacher_config,
                 "JSON of the teacher or of --weights, where it is not beside them");
    c.add_option("--student-config", s.student_config, "the student's JSON, where it is not beside its weights");
    add_image_input(c, s.student_images, "", "the student's (or --weights')");
    add_image_input(c, s.teacher_images, "teacher-", "the teacher's");
    add_exif_rotate(c);
    add_vocabulary(c, r.common);
}

constexpr const char* published = " (default: the protocol's published one)";

CLI::Option* add_augmentation(CLI::App& c, const char* name, std::string& value, const char* help) {
    return c.add_option(name, value, help)->check(CLI::IsMember({"rrc", "flip", "none"}))->capture_default_str();
}

void add_learner_options(CLI::App& c, Reproduce& r) {
    ReproducedLearner& l = r.spec.learner;
    const std::string p = published;
    c.add_option("--learner-lr", l.lr, "learning rate of the learner" + p)->check(positive());
    c.add_option("--learner-epochs", l.epochs, "its epochs" + p)->check(whole_from(1));
    c.add_option("--learner-batch", l.batch, "its images a step" + p)->check(whole_from(1));
    c.add_option("--learner-depth", l.depth, "its prompted blocks" + p)->check(whole_from(1));
    c.add_option("--learner-prompts", l.prompts, "its prompt vectors in each branch" + p)->check(whole_from(1));
    add_augmentation(c, "--learner-augment", r.learner_augment, "rrc, flip or none");
    may_be_empty(c.add_option("--context-words", l.context_words, "words that the learner's context starts from"))
        ->capture_default_str();
}

void add_student_options(CLI::App& c, Reproduce& r) {
    ReproducedStudent& s = r.spec.distillation;
    const std::string p = published;
    c.add_option("--lr", s.lr, "learning rate of the student" + p)->check(positive());
    c.add_option("--epochs", s.epochs, "its epochs" + p)->check(whole_from(1));
    c.add_option("--batch", s.batch, "its images a step" + p)->check(whole_from(1));
    c.add_option("--depth", s.depth, "its prompted blocks" + p)->check(whole_from(1));
    c.add_option("--prompts", s.prompts, "its visual prompts" + p)->check(whole_from(0));
    c.add_option("--kd-weight", s.kd_weight, "factor of the distillation loss" + p)->check(positive());
    c.add_option("--temperature", s.temperature, "of both distributions" + p)->check(positive());
    c.add_option("--fit", r.fit, "sgd (published), closed-form or best: see distill --fit")
        ->check(CLI::IsMember({"sgd", "closed-form", "best"}))
        ->capture_default_str();
    repeatable(
        c.add_option("--beside", r.beside, "another student, in a row of its own beside that of --fit; repeated: more")
            ->check(CLI::IsMember({"closed-form", "best"})));
    c.add_flag("--mix", s.mix, "see distill --mix");
    c.add_flag("--guard", s.guard, "see distill --guard");
    add_augmentation(c, "--augment", r.augment, "of the student's images: rrc, flip or none");
    c.add_option("--loader-threads", r.spec.loader_threads, "threads that decode and augment")
        ->check(thread_count())
        ->capture_default_str();
}

}  // namespace

void add_reproduce(CLI::App& app, Action& action) {
    auto r = std::make_shared<Reproduce>();
    CLI::App& c = *app.add_subcommand("reproduce",
                                      "the published experiments on data sets and seeds; runs what is missing, resumes "
                                      "what was interrupted, reports");
    c.add_option("protocol", r->protocol, "base-to-novel, cross-dataset, domain-generalization or few-shot")
        ->required()
        ->check(CLI::IsMember({"base-to-novel", "cross-dataset", "domain-generalization", "few-shot"}));
    add_data_options(c, *r);
    add_model_options(c, *r);
    add_learner_options(c, *r);
    add_student_options(c, *r);
    c.add_option("--out", r->common.out, "folder for the runs and report.html, report.md, report.json")->required();
    c.add_flag("--verify-data", r->spec.verify_data,
               "results are kept only with images of the same bytes, whatever their modification times");
    c.add_flag("--dry-run", r->dry_run, "print the plan and touch nothing");
    c.add_flag("--fresh", r->spec.fresh, "start again, whatever --out holds");
    add_wait(c, r->common);
    add_device(c, r->common);
    add_json(c, r->common);
    c.callback([r, &c, &action] {
        r->config = resolved(c);
        r->check();
        action = [r] { return r->run(); };
    });
}

}  // namespace promptkd::cli
