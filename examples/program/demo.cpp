// SPDX-License-Identifier: Apache-2.0
// `promptkd demo`: PromptKD from end to end on real images (Fashion-MNIST) with two small CLIP models, in about a
// minute or two. With --full its first stage too: the teacher's prompts are learned from a few labelled images.
#include "commands.hpp"
#include "distill_session.hpp"
#include "svg.hpp"
#include "train_job.hpp"

#include <promptkd/format/image.hpp>

namespace promptkd::cli {

namespace {

struct Demo {
    Common common;
    std::string assets = PROMPTKD_ASSETS;
    Index images = 6000, epochs = 10, batch = 8, test_images = 0;
    bool full = false;
    nlohmann::json config;

    int run() {
        common.out = common.out.empty() ? "promptkd-demo" : common.out;
        make_directories(common.out);
        with_device(common, [&](auto& device) { demonstrate(device); });
        return 0;
    }

    std::ostream& say() const { return common.output.text(); }

    /// What the files of the demonstration's models leave open.
    const WeightsOptions weights_options = [] {
        WeightsOptions options;
        options.activation = "quick_gelu";
        return options;
    }();

    DistillJob job() const {
        DistillJob j;
        j.teacher.weights = {assets + "/fashion_clip_teacher.safetensors"};
        j.teacher.prompts = {full ? common.out + "/teacher/prompts.safetensors"
                                  : assets + "/fashion_teacher_prompts.safetensors"};
        j.student = assets + "/fashion_clip_student.safetensors";
        j.activation = j.teacher.activation = weights_options.activation;
        j.vocab = assets + "/fashion_bpe.txt.gz";
        j.data = common.data;
        j.pattern = "a photo of a {}.";
        j.images = images;
        j.shape.depth = 3;
        j.run.batch = batch, j.run.seed = common.seed, j.run.out = common.out;
        j.run.schedule.max_epoch = epochs;
        j.run.augmentation = Augmentation::flip;
        j.run.loader_threads = 1;
        j.run.identity = config;
        for (const char* key : {"out", "threads", "assets", "test-images"}) j.run.identity.erase(key);
        j.fresh = true;
        j.output = &common.output;
        j.config = config;
        return j;
    }

    /// The first stage: PromptSRC on 16 labelled images of each base class among the first 6,000.
    TrainJob teacher_job() const {
        TrainJob t;
        t.learner = "promptsrc";
        t.weights = assets + "/fashion_clip_teacher.safetensors", t.vocab = assets + "/fashion_bpe.txt.gz";
        t.weights_options = weights_options;
        t.data = common.data, t.images = 6000, t.shots = 16;
        t.recipe = published_recipe(t.learner, t.shots);
        t.recipe.batch = 8, t.recipe.depth = 3;
        t.loop.batch = t.recipe.batch, t.loop.schedule.lr = t.recipe.lr, t.loop.schedule.max_epoch = t.recipe.epochs;
        t.loop.seed = common.seed, t.loop.out = common.out + "/teacher", t.loop.loader_threads = 1;
        t.loop.identity = config;
        t.fresh = true, t.output = &common.output;
        return t;
    }

    template <class D>
    nlohmann::json train_teacher(D& device) const {
        const TrainJob job = teacher_job();
        make_directories(job.loop.out);
        TrainSession<D> session(device, job);
        say() << "first stage: PromptSRC on " << session.training_data().size() << " labelled images of "
              << session.training_data().classes() << " base classes" << std::endl;
        const TrainingResult trained = session.train();
        session.write_prompts(job.loop.out + "/prompts.safetensors");
        return {{"steps", trained.progress.step}, {"seconds", trained.progress.seconds}};
    }

    /// Zero-shot accuracy of a model; `prompts` may be null.
    template <class D>
    nlohmann::json zero_shot(D& device, const ClipModel<D>& model, const TensorMap* prompts, const Dataset& test,
                             const Tokenizer& tokenizer, const std::string& what) const {
        const TokenRows tokens =
            tokenize_classes(tokenizer, model.text().config(), model.source(), test.class_names, "a photo of a {}.");
        const auto vectors = promptkd::class_vectors(device, model, tokens, prompts);
        FrozenImageTower<D> tower(device, model, prompts, 100);
        const auto set = features_with_progress(device, test, tower.resolution(), tower.embed(), 100, what,
                                                [&](const auto* x, Index n) { return tower.encode(x, n); });
        return evaluation_json(device, set, vectors, test.class_names, "");
    }

    template <class D>
    void demonstrate(D& device) const {
        const DistillJob j = job();
        say() << "PromptKD on Fashion-MNIST: a CLIP student learns from " << images
              << " unlabelled images under a prompted teacher.\n";
        nlohmann::json report = {{"config", config}};
        if (full) report["teacher_training"] = train_teacher(device);
        const Tokenizer tokenizer = Tokenizer::from_file(j.vocab);
        Dataset test = open_dataset(common.data, Split::test);
        if (test_images > 0) test = take(test, test_images);
        const TensorMap student_map = load_weights(j.student, weights_options),
                        prompts = read_weights(j.teacher.prompts[0]);
        DistillSession<D> session(device, j);
        {
            const ClipModel<D> student(device, student_map);
            report["teacher_zero_shot"] =
                zero_shot(device, session.teacher_model(), nullptr, test, tokenizer, "teacher, zero-shot");
            report["teacher_prompted"] =
                zero_shot(device, session.teacher_model(), &prompts, test, tokenizer, "teacher, prompted");
            report["student_zero_shot"] = zero_shot(device, student, nullptr, test, tokenizer, "student, zero-shot");
        }
        print_row("teacher, zero-shot", report["teacher_zero_shot"], true);
        print_row(full ? "teacher, PromptSRC (stage 1)" : "teacher, PromptSRC prompts", report["teacher_prompted"]);
        print_row("student, zero-shot (before)", report["student_zero_shot"]);

        std::vector<std::pair<double, double>> losses;
        std::vector<Curve> accuracies = {{"base", "#1565c0", {}}, {"new", "#ef6c00", {}}};
        const double total = static_cast<double>(epochs);
        Index steps_an_epoch = std::max<Index>(1, session.training_data().size() / batch);
        double mean = 0;
        const auto on_step = [&](const StepRecord& r) {
            mean += r.loss;
            if ((r.step + 1) % 50 == 0)
                losses.emplace_back(static_cast<double>(r.step + 1) / (static_cast<double>(steps_an_epoch) * total),
                                    mean / 50),
                    mean = 0;
        };
        const Dataset probe = take(test, 2000);
        nlohmann::json curve = nlohmann::json::array();
        const auto on_epoch = [&](const Progress& at) {
            const auto r = evaluate_base_new_all(device, session.features(probe, "evaluate"), session.class_vectors(),
                                                 probe.classes());
            accuracies[0].points.emplace_back(static_cast<double>(at.epoch) / total, r.base.accuracy);
            accuracies[1].points.emplace_back(static_cast<double>(at.epoch) / total, r.novel.accuracy);
            curve.push_back(
                {{"epoch", at.epoch}, {"base", r.base.accuracy}, {"new", r.novel.accuracy}, {"images", probe.size()}});
        };
        const TrainingResult trained = session.train(on_step, on_epoch);
        report["student_distilled"] = evaluation_json(device, session.features(test, "student, distilled"),
                                                      session.class_vectors(), test.class_names, "");
        print_row(full ? "student, distilled (stage 2)" : "student, distilled (after)", report["student_distilled"]);
        report["training"] = training_json(trained, session.training_data());
        report["curve"] = curve;
        session.write_student(common.out + "/bundle.safetensors");
        write_curves(common.out + "/curves.svg", {{"mean of 50 steps", "#6a1b9a", losses}}, accuracies,
                     "training progress, " + std::to_string(epochs) + " epochs");
        write_pictures(device, test);
        write_atomically(common.out + "/report.json", report.dump(2) + "\n");
        common.output.write(report);
        say() << "\n"
              << trained.progress.step << " steps in " << static_cast<int>(trained.progress.seconds) << " s, loss "
              << trained.progress.first_loss << " -> " << trained.progress.last_loss
              << "\nstudent (one file):  " << common.out << "/bundle.safetensors\ncurves:              " << common.out
              << "/curves.svg\npredictions:         " << common.out
              << "/predictions.svg\nreport:              " << common.out
              << "/report.json\nclassify an image:   promptkd classify " << common.out << "/bundle.safetensors IMAGE\n";
    }

    void print_row(const char* name, const nlohmann::json& r, bool heading = false) const {
        char line[120];
        if (heading) {
            std::snprintf(line, sizeof line, "\n%-30s %7s %7s %7s %7s\n", "test accuracy, %", "base", "new", "H",
                          "all");
            say() << line;
        }
        std::snprintf(line, sizeof line, "%-30s %7.2f %7.2f %7.2f %7.2f", name, r["base"].get<double>(),
                      r["new"].get<double>(), r["harmonic_mean"].get<double>(), r["all"].get<double>());
        say() << line << std::endl;
    }

    /// The bundle, read back, on the first test images.
    template <class D>
    void write_pictures(D& device, const Dataset& test) const {
        using T = typename D::Scalar;
        Classifier<D> student(device, read_weights(common.out + "/bundle.safetensors"));
        const Index r = student.resolution(), values = 3 * r * r;
        Buffer<D, T> pixels(device, values);
        std::vector<float> host(static_cast<std::size_t>(values));
        std::vector<GalleryItem> items;
        for (Index i = 0; i < std::min<Index>(24, test.size()); ++i) {
            const Image image = test.load(i);
            normalize_image(preprocess_image(image, r), host.data());
            const std::vector<T> converted(host.begin(), host.end());
            device.upload(pixels.data(), converted.data(), converted.size() * sizeof(T));
            const std::vector<T> p = student.probabilities(pixels.data(), 1);
            const auto best = std::max_element(p.begin(), p.end());
            items.push_back({encode_png(image), student.class_names()[static_cast<std::size_t>(best - p.begin())],
                             test.class_names[static_cast<std::size_t>(test.label(i))], static_cast<double>(*best)});
        }
        write_gallery(common.out + "/predictions.svg", items);
    }
};

}  // namespace

void add_demo(CLI::App& app, Action& action) {
    auto o = std::make_shared<Demo>();
    const char* root = std::getenv("PROMPTKD_FASHION_MNIST");
    o->common.data = std::string("fashion-mnist:") + (root && *root ? root : "/usr/share/datasets/fashion-mnist");
    CLI::App& c = *app.add_subcommand("demo", "distil a small student on Fashion-MNIST and look at the result");
    c.add_flag("--full", o->full,
               "both stages: first learn the teacher's prompts (PromptSRC) from 16 labelled images of each base class");
    c.add_option("--out", o->common.out, "folder for the results (default: promptkd-demo)");
    c.add_option("--data", o->common.data, "the images (Debian package dataset-fashion-mnist)")->capture_default_str();
    c.add_option("--assets", o->assets, "folder with the demo's CLIP models")->capture_default_str();
    c.add_option("--images", o->images, "unlabelled training images")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    c.add_option("--epochs", o->epochs, "passes over them")->check(CLI::PositiveNumber)->capture_default_str();
    c.add_option("--batch", o->batch, "images a step")->check(CLI::PositiveNumber)->capture_default_str();
    c.add_option("--test-images", o->test_images, "only the first so many test images; 0: all")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    c.add_option("--seed", o->common.seed, "of initial values, order and augmentation")->capture_default_str();
    add_device(c, o->common);
    add_json(c, o->common);
    c.callback([o, &c, &action] { o->config = resolved(c), action = [o] { return o->run(); }; });
}

}  // namespace promptkd::cli
