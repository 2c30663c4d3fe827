// SPDX-License-Identifier: Apache-2.0
// `promptkd demo`: PromptKD from end to end on real images (Fashion-MNIST) with two small CLIP models, in about a
// minute or two. With --full its first stage too: the teacher's prompts are learned from a few labelled images.
#include "commands.hpp"
#include "demo_dense.hpp"
#include "progress.hpp"
#include "results_json.hpp"

#include <promptkd/evaluate/classifier.hpp>
#include <promptkd/experiment/distillation.hpp>
#include <promptkd/experiment/report/mean_losses.hpp>
#include <promptkd/experiment/report/pictures.hpp>
#include <promptkd/experiment/scene_files.hpp>
#include <promptkd/experiment/training.hpp>
#include <promptkd/experiment/zero_shot.hpp>
#include <promptkd/format/image.hpp>

#include <filesystem>
#include <system_error>

namespace promptkd::cli {

namespace {

/// The demonstration that a folder holds unfinished, with the accuracies after each epoch so far: what log and
/// checkpoint do not tell when it goes on.
class UnfinishedDemo {
public:
    /// In the folder `out`, of a demonstration with these settings.
    UnfinishedDemo(const std::string& out, nlohmann::json config)
        : out_(out), path_(out + "/unfinished.json"), config_(std::move(config)) {}

    /// Whether there is one of the same settings, whose curve has a point for each epoch of the checkpoint: that is
    /// then taken. (A point is written behind its checkpoint: one that was killed in between begins anew.)
    bool resume() {
        if (!std::filesystem::exists(path_)) return false;
        const nlohmann::json stored = nlohmann::json::parse(read_file(path_), nullptr, false);
        const bool same = stored.is_object() && stored.value("config", nlohmann::json()) == config_ &&
                          stored.contains("curve") && stored["curve"].is_array();
        if (!same || !fits(stored["curve"])) return false;
        curve_ = stored["curve"];
        return true;
    }
    /// From here on there is one.
    void write() const {
        write_atomically(path_, json_text(nlohmann::json{{"config", config_}, {"curve", curve_}}) + "\n");
    }
    void add(nlohmann::json point) {
        curve_.push_back(std::move(point));
        write();
    }
    void end() const {
        std::error_code code;
        std::filesystem::remove(path_, code);
    }
    const nlohmann::json& curve() const { return curve_; }

private:
    /// Whether the curve has a point for each epoch of the checkpoint.
    bool fits(const nlohmann::json& curve) const {
        try {
            return static_cast<Index>(curve.size()) == epochs_of_checkpoint(out_);
        } catch (const Error&) {  // a damaged one
            return false;
        }
    }

    std::string out_, path_;
    nlohmann::json config_, curve_ = nlohmann::json::array();
};

/// Says which stage begins, and draws the curves of the second one.
template <class D>
class DemoObserver final : public ProgramObserver {
public:
    DemoObserver(const Output& output, UnfinishedDemo& unfinished) : ProgramObserver(output), unfinished_(unfinished) {}

    /// From now on each epoch is evaluated on `probe`. Both must outlive this.
    void watch(DistillationRun<D>& run, const Dataset& probe) {
        run_ = &run;
        probe_ = &probe;
    }

    void on_start(const TrainingStart& start) override { steps_ = static_cast<double>(start.steps); }
    void on_epoch(const Progress& at) override {
        part_of_training_ = true;
        const BaseNew found = *run_->evaluate(*probe_).halves;
        part_of_training_ = false;
        unfinished_.add({{"epoch", at.epoch}, {"base", found.base}, {"new", found.novel}, {"images", probe_->size()}});
    }

    /// Draws the curves of the run in `out`, of so many epochs.
    void write(const std::string& out, Index epochs) const {
        std::vector<Curve> accuracies = {{"base", "#1565c0", {}}, {"new", "#ef6c00", {}}};
        for (const nlohmann::json& point : unfinished_.curve()) {
            const double x = point.at("epoch").get<double>() / static_cast<double>(epochs);
            accuracies[0].points.emplace_back(x, point.at("base").get<double>());
            accuracies[1].points.emplace_back(x, point.at("new").get<double>());
        }
        const std::string axis = "training progress, " + std::to_string(epochs) + " epochs";
        write_atomically(out + "/curves.svg",
                         training_picture({{"mean of 50 steps", "#6a1b9a", mean_losses(out + "/log.jsonl", steps_)}},
                                          accuracies, axis));
    }

private:
    UnfinishedDemo& unfinished_;
    double steps_ = 1;
    DistillationRun<D>* run_ = nullptr;
    const Dataset* probe_ = nullptr;
};

/// What the prompts of the demonstration's teacher are learned with, for people.
std::string teacher_learner() { return find_learner(TrainingSpec().learner).title; }

/// The first stage's.
class TeacherObserver final : public ProgramObserver {
public:
    using ProgramObserver::ProgramObserver;
    void on_start(const TrainingStart& start) override {
        say() << "first stage: " << teacher_learner() << " on " << start.images << " labelled images of "
              << start.classes << " base classes" << std::endl;
    }
};

struct Demo {
    Common common;
    std::string assets = PROMPTKD_ASSETS;
    Index images = 6000, epochs = 10, batch = 8, test_images = 0;
    bool full = false, fresh = false, dense = false;
    nlohmann::json config;
    SceneFilesSpec scenes;
    std::string split = "test";
    Index train_scenes = 1500, dense_epochs = 20;

    /// Scenes before and after a dense distillation.
    int run_dense() {
        DenseDemo demo;
        demo.out = common.out = common.out.empty() ? "promptkd-scenes" : common.out;
        demo.assets = assets;
        demo.data = common.data;
        demo.seed = common.seed;
        demo.images = images;
        demo.train = train_scenes;
        demo.test = scenes.count;
        demo.start_epochs = epochs;
        demo.epochs = dense_epochs;
        demo.fresh = fresh;
        const auto lock = lock_output(common);
        for (const char* file : {"scenes.html", "scenes.svg", "report.json"}) require_writable(demo.out + "/" + file);
        hold_signals();
        with_device<CpuPrecisions::fp32>(common, [&](auto& device) { demonstrate_dense(device, demo, common.output); });
        return 0;
    }

    /// Writes scenes alone.
    int render() {
        const Dataset data = open_dataset(common.data, split == "train" ? Split::train : Split::test);
        scenes.scenes.seed = common.seed;
        if (scenes.scenes.count == 0) scenes.scenes.count = data.size();
        ProgramObserver observer(common.output);
        promptkd::run(scenes, data, observer);
        say() << scenes.count << " scenes in " << scenes.folder << ": scene{i}.png, mask{i}.png, boxes.json"
              << std::endl;
        return 0;
    }

    int run() {
        common.out = common.out.empty() ? "promptkd-demo" : common.out;
        const auto lock = lock_output(common);
        for (const char* file : {"bundle.safetensors", "curves.svg", "predictions.svg", "report.json"})
            require_writable(common.out + "/" + file);
        hold_signals();
        UnfinishedDemo unfinished(common.out, identity());
        const bool resumed = !fresh && unfinished.resume();
        if (!resumed) unfinished.write();
        with_device(common, [&](auto& device) { demonstrate(device, unfinished, resumed); });
        unfinished.end();
        return 0;
    }

    /// The settings that the result depends on.
    nlohmann::json identity() const {
        nlohmann::json id = config;
        for (const char* key : {"out", "threads", "assets", "test-images", "fresh"}) id.erase(key);
        return id;
    }

    std::ostream& say() const { return common.output.text(); }

    /// One of the demonstration's models; their files leave the activation open.
    ModelFile model(const std::string& name) const { return {assets + "/" + name, "", "quick_gelu"}; }

    DistillationSpec distillation(bool resumed) const {
        DistillationSpec s;
        s.student = model("fashion_clip_student.safetensors");
        const ModelFile teacher = model("fashion_clip_teacher.safetensors");
        s.teacher.weights = {teacher.path};
        s.teacher.activation = teacher.activation;
        s.teacher.prompts = {full ? common.out + "/teacher/prompts.safetensors"
                                  : assets + "/fashion_teacher_prompts.safetensors"};
        s.vocabulary = assets + "/fashion_bpe.txt.gz";
        s.pattern = "a photo of a {}.";
        s.data.source = common.data;
        s.data.images = images;
        s.shape.depth = 3;
        s.loop.batch = batch;
        s.loop.seed = common.seed;
        s.loop.out = common.out;
        s.loop.schedule.max_epoch = epochs;
        s.loop.augmentation = Augmentation::flip;
        s.loop.loader_threads = 1;
        s.loop.identity = identity();
        s.fresh = !resumed;
        s.settings = config;
        return s;
    }

    /// The first stage: PromptSRC on 16 labelled images of each base class among the first 6,000.
    TrainingSpec teacher_training(bool resumed) const {
        TrainingSpec s;
        s.model = model("fashion_clip_teacher.safetensors");
        s.vocabulary = assets + "/fashion_bpe.txt.gz";
        s.data.source = common.data;
        s.data.images = 6000;
        Recipe recipe = published_recipe(s.learner, s.data.shots);
        recipe.batch = 8;
        recipe.depth = 3;
        use_recipe(s, recipe);
        s.loop.seed = common.seed;
        s.loop.out = common.out + "/teacher";
        s.loop.loader_threads = 1;
        s.loop.identity = identity();
        s.fresh = !resumed;
        return s;
    }

    template <class D>
    nlohmann::json train_teacher(D& device, bool resumed) const {
        TeacherObserver observer(common.output);
        const TrainingSpec spec = teacher_training(resumed);
        TrainingRun<D> run(device, spec, observer);
        const TrainingOutcome trained = run.train();
        if (trained.training.interrupted) throw Interruption(common.out);
        run.write_prompts(spec.loop.out + "/prompts.safetensors");
        const Progress& at = trained.training.progress;
        return {{"steps", at.step}, {"seconds", at.seconds}};
    }

    template <class D>
    void demonstrate(D& device, UnfinishedDemo& unfinished, bool resumed) const {
        say() << "PromptKD on Fashion-MNIST: a CLIP student learns from " << images
              << " unlabelled images under a prompted teacher.\n";
        nlohmann::json report = {{"config", config}};
        if (full) report["teacher_training"] = train_teacher(device, resumed);
        Dataset test = open_dataset(common.data, Split::test);
        if (test_images > 0) test = take(test, test_images);
        const Dataset probe = take(test, 2000);
        DemoObserver<D> observer(common.output, unfinished);
        const DistillationSpec spec = distillation(resumed);
        DistillationRun<D> run(device, spec, observer);
        observer.watch(run, probe);
        evaluate_zero_shot(device, spec, run.teacher_model(), test, report);

        const TrainingOutcome trained = run.train();
        if (trained.training.interrupted) throw Interruption(common.out);
        const EvaluationResult found = run.evaluate(test, "student, distilled");
        report["student_distilled"] = evaluation_json(found);
        print_row(full ? "student, distilled (stage 2)" : "student, distilled (after)", found);
        report["training"] = training_json(trained);
        report["curve"] = unfinished.curve();
        run.write_bundle(common.out + "/bundle.safetensors");
        fit_in_closed_form(device, test, report);
        observer.write(common.out, epochs);
        write_pictures(device, test);
        write_atomically(common.out + "/report.json", json_text(report, 2) + "\n");
        common.output.write(report);
        print_files(trained.training.progress);
    }

    /// The other way to a student, from the same images and teacher.
    template <class D>
    void fit_in_closed_form(D& device, const Dataset& test, nlohmann::json& report) const {
        DistillationSpec spec = distillation(false);
        spec.fit = DistillationFit::closed_form;
        spec.shape = StudentConfig();
        spec.loop.augmentation = Augmentation::none;
        spec.loop.out = common.out + "/closed_form";
        DistillationRun<D> run(device, spec);
        run.train();
        const EvaluationResult found = run.evaluate(test, "student, closed form");
        report["student_closed_form"] = evaluation_json(found);
        report["closed_form"] = closed_form_json(*run.closed_form());
        print_row("student, closed form (after)", found);
        run.write_bundle(spec.loop.out + "/bundle.safetensors");
        remove_features(spec);
    }

    /// What teacher and student can do before the distillation.
    template <class D>
    void evaluate_zero_shot(D& device, const DistillationSpec& spec, const ClipModel<D>& teacher, const Dataset& test,
                            nlohmann::json& report) const {
        ProgramObserver observer(common.output);
        const Tokenizer tokenizer = load_tokenizer(spec.vocabulary);
        const TensorMap weights = load_weights(spec.student, observer);
        const TensorMap prompts = load_tensors(spec.teacher.prompts[0], observer);
        const ClipModel<D> student(device, weights);
        const auto evaluate = [&](const ClipModel<D>& clip, const TensorMap* with, const std::string& what) {
            return ZeroShot<D>(device, clip, with, {what, 100, observer}).evaluate(test, tokenizer, spec.pattern);
        };
        const EvaluationResult plain = evaluate(teacher, nullptr, "teacher, zero-shot");
        const EvaluationResult prompted = evaluate(teacher, &prompts, "teacher, prompted");
        const EvaluationResult before = evaluate(student, nullptr, "student, zero-shot");
        report["teacher_zero_shot"] = evaluation_json(plain);
        report["teacher_prompted"] = evaluation_json(prompted);
        report["student_zero_shot"] = evaluation_json(before);
        print_heading();
        print_row("teacher, zero-shot", plain);
        print_row("teacher, " + teacher_learner() + (full ? " (stage 1)" : " prompts"), prompted);
        print_row("student, zero-shot (before)", before);
    }

    void print_heading() const {
        char line[120];
        std::snprintf(line, sizeof line, "\n%-30s %7s %7s %7s %7s\n", "test accuracy, %", "base", "new", "H", "all");
        say() << line;
    }

    void print_row(const std::string& name, const EvaluationResult& r) const {
        char line[120];
        std::snprintf(line, sizeof line, "%-30s %7.2f %7.2f %7.2f %7.2f", name.c_str(), r.halves->base, r.halves->novel,
                      r.halves->harmonic(), r.metrics.accuracy);
        say() << line << std::endl;
    }

    void print_files(const Progress& at) const {
        const std::string& out = common.out;
        say() << "\n"
              << at.step << " steps in " << static_cast<int>(at.seconds) << " s, loss " << at.first_loss << " -> "
              << at.last_loss << "\n";
        say() << "Which fit: closed form takes seconds, is the better one with few images, and falls back to the "
                 "zero-shot "
                 "student on classes that it did not see;\ngradient descent is the better one for a projector of the "
                 "published width, and its bundle is smaller.\n";
        say() << "student (one file):  " << out << "/bundle.safetensors, " << out
              << "/closed_form/bundle.safetensors\n";
        say() << "curves:              " << out << "/curves.svg\n";
        say() << "predictions:         " << out << "/predictions.svg\n";
        say() << "report:              " << out << "/report.json\n";
        say() << "classify an image:   promptkd classify " << out << "/bundle.safetensors IMAGE\n";
    }

    /// The bundle, read back, on the first test images.
    template <class D>
    void write_pictures(D& device, const Dataset& test) const {
        ProgramObserver observer(common.output);
        Classifier<D> student(device, load_tensors(common.out + "/bundle.safetensors", observer));
        std::vector<GalleryItem> items;
        for (Index i = 0; i < std::min<Index>(24, test.size()); ++i) {
            const Image image = test.load(i);
            const ClassProbability best = student.top_k(image, 1).front();
            const std::string& truth = test.class_names[static_cast<std::size_t>(test.label(i))];
            items.push_back({encode_png(image), best.name, truth, best.probability});
        }
        write_atomically(common.out + "/predictions.svg", gallery_picture(items));
    }
};

/// Pictures of several items, with masks and boxes.
void add_scenes(CLI::App& c, Demo& o) {
    const auto quiet = [](CLI::Option* option) { option->group("Scenes")->configurable(false); };
    quiet(c.add_flag("--dense", o.dense, "scenes of several items before and after a dense distillation, on one page"));
    quiet(c.add_option("--render", o.scenes.folder,
                       "with --dense: only render scenes: where scene{i}.png, mask{i}.png, boxes.json go"));
    quiet(c.add_option("--scenes", o.scenes.count, "with --dense: how many (default 500)")->check(whole_from(1)));
    quiet(c.add_option("--train-scenes", o.train_scenes, "with --dense: how many are learned from (default 1500)")
              ->check(whole_from(1)));
    quiet(c.add_option("--dense-epochs", o.dense_epochs, "with --dense: passes over them (default 20)")
              ->check(whole_from(1)));
    quiet(c.add_option("--split", o.split, "with --dense: images that are used, test (default) or train")
              ->check(CLI::IsMember({"train", "test"})));
    quiet(c.add_option("--source-images", o.scenes.scenes.count, "with --dense: only the first so many; 0: all")
              ->check(whole_from(0)));
}

}  // namespace

void add_demo(CLI::App& app, Action& action) {
    auto o = std::make_shared<Demo>();
    const char* root = std::getenv("PROMPTKD_FASHION_MNIST");
    o->common.data = std::string("fashion-mnist:") + (root && *root ? root : "/usr/share/datasets/fashion-mnist");
    CLI::App& c = *app.add_subcommand("demo", "distil a small student on Fashion-MNIST and look at the result");
    c.add_flag("--full", o->full,
               "both stages: first learn the teacher's prompts (" + teacher_learner() +
                   ") from 16 labelled images of each base class");
    c.add_option("--out", o->common.out, "folder for the results (default: promptkd-demo)");
    c.add_flag("--fresh", o->fresh, "start again, where --out holds an unfinished demonstration of the same settings")
        ->configurable(false);
    add_wait(c, o->common);
    c.add_option("--data", o->common.data, "the images (Debian package dataset-fashion-mnist)")->capture_default_str();
    c.add_option("--assets", o->assets, "folder with the demo's CLIP models")->capture_default_str();
    c.add_option("--images", o->images, "unlabelled training images")->check(whole_from(1))->capture_default_str();
    c.add_option("--epochs", o->epochs, "passes over them")->check(whole_from(1))->capture_default_str();
    c.add_option("--batch", o->batch, "images a step")->check(whole_from(1))->capture_default_str();
    c.add_option("--test-images", o->test_images, "only the first so many test images; 0: all")
        ->check(whole_from(0))
        ->capture_default_str();
    c.add_option("--seed", o->common.seed, "of initial values, order and augmentation")
        ->check(seed_number())
        ->capture_default_str();
    add_scenes(c, *o);
    add_device(c, o->common);
    add_json(c, o->common);
    c.callback([o, &c, &action] {
        for (const char* name :
             {"--render", "--scenes", "--split", "--source-images", "--train-scenes", "--dense-epochs"})
            if (!o->dense && c.get_option(name)->count() > 0) throw CLI::ValidationError(name, "goes with --dense");
        o->config = resolved(c);
        action = [o] { return !o->dense ? o->run() : o->scenes.folder.empty() ? o->run_dense() : o->render(); };
    });
}

}  // namespace promptkd::cli
