// SPDX-License-Identifier: Apache-2.0
// `promptkd reproduce PROTOCOL`: the published experiments over any list of data sets and seeds, with a report.
#include "commands.hpp"
#include "reproduce_pages.hpp"
#include "reproduce_report.hpp"

#include <sstream>

namespace promptkd::cli {

namespace {

struct Reproduce {
    Common common;
    ReproduceOptions o;
    std::string protocol, seeds = "1,2,3", shots;
    nlohmann::json config;  ///< the options as given, written beside the report

    int run() {
        o.protocol = parse_protocol(protocol);
        o.vocab = vocabulary_path(common), o.out = common.out;
        expand_data();
        const ReproducePlan plan(o);
        print_plan(plan);
        if (o.dry_run) return common.output.write(plan_json(plan)), 0;
        make_directories(o.out);
        config["data"] = o.data;
        write_atomically(o.out + "/config.json", config.dump(2) + "\n");
        Index number = 0;
        for (const Stage& stage : plan.stages()) {
            ++number;
            if (!o.fresh && StageResult(o.out, stage).state() == StageState::done) continue;
            common.output.text() << "[" << number << "/" << plan.stages().size() << "] " << stage.folder << std::endl;
            with_device(common, [&](auto& device) { StageRunner(device, o, common.output).run(stage); });
            write_report(plan);
        }
        const nlohmann::json report = write_report(plan);
        common.output.write(report);
        common.output.text() << "\n"
                             << ReproducePages(report).markdown_tables() << "\nreport: " << o.out
                             << "/report.html, report.md, report.json" << std::endl;
        return 0;
    }

    /// "all:ROOT" stands for the eleven data sets of the tables (cross-dataset: the ten without ImageNet; domain
    /// generalisation: ImageNet's four variants).
    void expand_data() {
        std::vector<std::string> list;
        for (const std::string& spec : o.data) {
            if (spec.rfind("all:", 0) != 0) {
                list.push_back(spec);
                continue;
            }
            const std::string root = parse_data_spec(spec).root;
            for (const BenchmarkInfo& b : benchmarks()) {
                const bool variant = unlabelled_part(b.name + ":" + root) == Split::test;
                if (variant != (o.protocol == Protocol::domain_generalization)) continue;
                if (b.name == "imagenet" && o.protocol == Protocol::cross_dataset) continue;
                list.push_back(b.name + ":" + root);
            }
            if (has_source(o.protocol) && o.source.empty()) o.source = "imagenet:" + root;
        }
        o.data = std::move(list);
    }

    nlohmann::json write_report(const ReproducePlan& plan) const {
        nlohmann::json report = ReproduceReport(o, plan).json();
        const ReproducePages pages(report);
        write_atomically(o.out + "/report.json", report.dump(2) + "\n");
        write_atomically(o.out + "/report.md", pages.markdown());
        write_atomically(o.out + "/report.html", pages.html());
        return report;
    }

    StageState state_of(const Stage& stage) const {
        return o.fresh ? StageState::missing : StageResult(o.out, stage).state();
    }

    static const char* name_of_state(StageState state) {
        return state == StageState::done ? "done" : state == StageState::interrupted ? "interrupted" : "to do";
    }

    void print_plan(const ReproducePlan& plan) const {
        Index todo = 0, steps = 0, images = 0, tested = 0;
        std::ostream& out = common.output.text();
        for (const Stage& s : plan.stages()) {
            const StageState state = state_of(s);
            if (o.dry_run) {
                out << s.folder << ": " << s.row;
                if (s.steps > 0)
                    out << ", " << s.images << " images, " << s.steps << " steps of "
                        << (s.kind == StageKind::learner ? s.recipe.batch : s.distil.batch);
                out << ", tested on " << s.test_images << " images; " << name_of_state(state) << "\n";
            }
            if (state == StageState::done) continue;
            ++todo, steps += s.steps, tested += s.test_images;
            images += s.steps * (s.kind == StageKind::learner ? s.recipe.batch : s.distil.batch);
        }
        out << protocol << ": " << plan.stages().size() << " stages on " << plan.targets().size() << " data set(s), "
            << todo << " to do: " << steps << " training steps on " << images << " images, " << tested
            << " images to test" << std::endl;
    }

    nlohmann::json plan_json(const ReproducePlan& plan) const {
        nlohmann::json list = nlohmann::json::array();
        for (const Stage& s : plan.stages())
            list.push_back({{"folder", s.folder},
                            {"row", s.row},
                            {"data", s.key},
                            {"seed", s.seed},
                            {"images", s.images},
                            {"steps", s.steps},
                            {"test_images", s.test_images},
                            {"state", name_of_state(state_of(s))},
                            {"settings", s.identity}});
        return {{"protocol", protocol}, {"stages", std::move(list)}};
    }

    /// Options that contradict each other are bad usage.
    void check() {
        const auto refuse = [](bool wrong, const std::string& what) {
            if (wrong) throw CLI::ValidationError(what);
        };
        const bool pair = !o.teacher.empty() || !o.student.empty();
        refuse(pair != o.weights.empty(), "give --teacher and --student (PromptKD), or --weights (a learner alone)");
        refuse(pair && (o.teacher.empty() || o.student.empty()), "PromptKD needs both --teacher and --student");
        refuse(!pair && (o.lr || o.epochs || o.batch || o.depth || o.prompts || o.kd_weight || o.temperature),
               "--lr, --epochs, --batch, --depth, --prompts, --kd-weight and --temperature belong to a student; a "
               "learner's are --learner-lr, …");
        refuse(pair && o.learner == "cocoop",
               "--learner cocoop: its class vectors depend on the image and cannot be shared with a student");
        refuse(!pair && o.learner == "none", "--learner none needs a student");
        o.seeds = numbers<std::uint64_t>(seeds, "--seeds");
        if (!shots.empty()) o.shots = numbers<Index>(shots, "--shots");
        refuse(o.shots.size() > 1 && protocol != "few-shot", "--shots: only few-shot takes several numbers");
        refuse(protocol != "cross-dataset" && protocol != "domain-generalization" && !o.source.empty(),
               "--source belongs to cross-dataset and domain-generalization");
    }

    template <class N>
    static std::vector<N> numbers(const std::string& list, const std::string& option) {
        std::vector<N> out;
        std::istringstream in(list);
        for (std::string part; std::getline(in, part, ',');) {
            if (part.empty() || part.find_first_not_of("0123456789") != std::string::npos || part.size() > 9 ||
                std::stoull(part) == 0)
                throw CLI::ValidationError(option + " '" + list + "': '" + part + "' is not a positive number");
            out.push_back(static_cast<N>(std::stoull(part)));
            if (std::count(out.begin(), out.end(), out.back()) > 1)
                throw CLI::ValidationError(option + " '" + list + "': " + part + " stands there twice");
        }
        if (out.empty()) throw CLI::ValidationError(option + " is empty");
        return out;
    }
};

void add_model_options(CLI::App& c, Reproduce& r) {
    ReproduceOptions& o = r.o;
    c.add_option(
         "--data", o.data,
         "NAME:ROOT of a data set, again for each further one; all:ROOT stands for those of the published table")
        ->required()
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    c.add_option("--source", o.source, "cross-dataset, domain-generalization: NAME:ROOT that prompts are learned on");
    c.add_option("--teacher", o.teacher, "PromptKD: CLIP weights of the teacher (published: ViT-L/14)");
    c.add_option("--student", o.student, "PromptKD: CLIP weights of the student (published: ViT-B/16)");
    c.add_option("--weights", o.weights, "a learner alone, without PromptKD: CLIP weights (published: ViT-B/16)");
    c.add_option("--learner", o.learner, "learner of the prompts; none: a teacher without")
        ->check(CLI::IsMember({"coop", "cocoop", "vpt", "ivlp", "maple", "promptsrc", "none"}))
        ->capture_default_str();
    c.add_option(
        "--teacher-prompts", o.teacher_prompts,
        "instead of learning them: prompts or a published checkpoint; {data}, {seed}, {shots} in the name stand "
        "for the run's");
    c.add_option("--activation", o.activation, "of a model whose file does not tell: quick_gelu or gelu")
        ->check(CLI::IsMember({"quick_gelu", "gelu"}));
    c.add_option("--teacher-config,--model-config", o.teacher_config,
                 "JSON of the teacher or of --weights, where it is not beside them");
    c.add_option("--student-config", o.student_config, "the student's JSON, where it is not beside its weights");
    add_vocabulary(c, r.common);
    c.add_option("--seeds", r.seeds, "of draw, initial values, order and augmentation")->capture_default_str();
    c.add_option("--shots", r.shots, "labelled images a class to learn from (default: 16; few-shot: 1,2,4,8,16)");
    c.add_option("--images", o.images, "only the first so many training images; 0: all")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--test-images", o.test_images, "only the first so many test images; 0: all")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
}

void add_recipe_options(CLI::App& c, ReproduceOptions& o) {
    const std::string published = " (default: the protocol's published one)";
    c.add_option("--learner-lr", o.learner_lr, "learning rate of the learner" + published)->check(CLI::PositiveNumber);
    c.add_option("--learner-epochs", o.learner_epochs, "its epochs" + published)->check(CLI::PositiveNumber);
    c.add_option("--learner-batch", o.learner_batch, "its images a step" + published)->check(CLI::PositiveNumber);
    c.add_option("--learner-depth", o.learner_depth, "its prompted blocks" + published)->check(CLI::PositiveNumber);
    c.add_option("--learner-prompts", o.learner_prompts, "its prompt vectors in each branch" + published)
        ->check(CLI::PositiveNumber);
    c.add_option("--learner-augment", o.learner_augment, "rrc, flip or none")
        ->check(CLI::IsMember({"rrc", "flip", "none"}))
        ->capture_default_str();
    c.add_option("--context-words", o.context_words, "words that the learner's context starts from")
        ->capture_default_str();
    c.add_option("--lr", o.lr, "learning rate of the student" + published)->check(CLI::PositiveNumber);
    c.add_option("--epochs", o.epochs, "its epochs" + published)->check(CLI::PositiveNumber);
    c.add_option("--batch", o.batch, "its images a step" + published)->check(CLI::PositiveNumber);
    c.add_option("--depth", o.depth, "its prompted blocks" + published)->check(CLI::PositiveNumber);
    c.add_option("--prompts", o.prompts, "its visual prompts" + published)->check(CLI::NonNegativeNumber);
    c.add_option("--kd-weight", o.kd_weight, "factor of the distillation loss" + published)->check(CLI::PositiveNumber);
    c.add_option("--temperature", o.temperature, "of both distributions" + published)->check(CLI::PositiveNumber);
    c.add_option("--augment", o.augment, "of the student's images: rrc, flip or none")
        ->check(CLI::IsMember({"rrc", "flip", "none"}))
        ->capture_default_str();
    c.add_option("--loader-threads", o.loader_threads, "threads that decode and augment")
        ->check(CLI::NonNegativeNumber)
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
    add_model_options(c, *r);
    add_recipe_options(c, r->o);
    c.add_option("--out", r->common.out, "folder for the runs and report.html, report.md, report.json")->required();
    c.add_flag("--dry-run", r->o.dry_run, "print the plan and touch nothing");
    c.add_flag("--fresh", r->o.fresh, "start again, whatever --out holds");
    add_device(c, r->common);
    add_json(c, r->common);
    c.callback([r, &c, &action] {
        r->config = resolved(c);
        r->check(), action = [r] { return r->run(); };
    });
}

}  // namespace promptkd::cli
