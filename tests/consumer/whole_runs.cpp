// SPDX-License-Identifier: Apache-2.0
// A host program with whole runs of its own: it trains a learner, distils, evaluates, classifies and reproduces a
// protocol through experiment/, on a few images that it makes itself. It knows no option parser, and writes nothing to
// standard error. Argument: the folder with the models of examples/assets.
#include <promptkd/device/cpu.hpp>
#include <promptkd/evaluate/classifier.hpp>
#include <promptkd/experiment/distillation.hpp>
#include <promptkd/experiment/encoding.hpp>
#include <promptkd/experiment/reproduction.hpp>
#include <promptkd/experiment/student_evaluation.hpp>
#include <promptkd/experiment/training.hpp>
#include <promptkd/experiment/zero_shot.hpp>
#include <promptkd/format/png.hpp>

#if defined(CLI11_VERSION) || defined(CLI11_VERSION_MAJOR)
#error "the library needs no option parser"
#endif

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using promptkd::Index;

void check(bool good, const char* what) {
    if (good) return;
    std::printf("FAILED: %s\n", what);
    std::exit(1);
}

bool exists(const std::string& path) { return promptkd::read_file(path).size() > 0; }

const std::vector<std::string> classes = {"bag", "boot", "coat", "shirt"};

/// photos/{train,test}/CLASS/N.png: squares of another grey for each class, and one file that is no image.
void make_images() {
    for (const char* part : {"train", "test"})
        for (std::size_t c = 0; c < classes.size(); ++c) {
            const std::string folder = std::string("photos/") + part + "/" + classes[c];
            promptkd::make_directories(folder);
            for (std::size_t i = 0; i < 4; ++i) {
                promptkd::Image image(28, 28);
                for (std::size_t k = 0; k < image.pixels.size(); ++k)
                    image.pixels[k] = static_cast<std::uint8_t>(50 * c + 10 * i + k % 29);
                promptkd::write_atomically(folder + "/" + std::to_string(i) + ".png", promptkd::encode_png(image));
            }
        }
    promptkd::write_atomically("photos/train/bag/broken.png", "no image");
}

/// What a host does with a run: it counts, keeps the warnings, and stops after a number of epochs.
class Host final : public promptkd::Observer {
public:
    explicit Host(Index epochs) : epochs_(epochs) {}
    void on_start(const promptkd::TrainingStart& start) override { parameters = start.parameters; }
    void on_step(const promptkd::StepRecord&) override { ++steps; }
    void on_epoch(const promptkd::Progress& at) override { epoch_ = at.epoch; }
    void on_warning(const std::string&) override { ++warnings; }
    void on_progress(const promptkd::StageProgress& now) override { seen_images = seen_images || now.unit == "images"; }
    bool wants_stop() override { return epoch_ >= epochs_; }

    Index parameters = 0, steps = 0, warnings = 0;
    bool seen_images = false;

private:
    Index epochs_, epoch_ = 0;
};

/// One whose own exception ends the run.
struct Mistaken final : promptkd::Observer {
    void on_epoch(const promptkd::Progress&) override { throw std::runtime_error("the host's own"); }
};

/// Whether a run ends with the exception of its observer.
template <class Run>
bool carries_exception(const Run& run) {
    try {
        run();
    } catch (const std::runtime_error& error) {
        return std::string(error.what()) == "the host's own";
    }
    return false;
}

struct Models {
    std::string folder;
    std::string vocabulary() const { return folder + "/fashion_bpe.txt.gz"; }
    promptkd::ModelFile teacher() const { return {folder + "/fashion_clip_teacher.safetensors", "", "quick_gelu"}; }
    promptkd::ModelFile student() const { return {folder + "/fashion_clip_student.safetensors", "", "quick_gelu"}; }
};

template <class D>
void train(D& device, const Models& models) {
    promptkd::TrainingSpec spec;
    spec.learner = promptkd::learners().front().name;
    spec.model = models.student();
    spec.vocabulary = models.vocabulary();
    spec.data.source = "folder:photos";
    spec.data.shots = 2;
    spec.data.validation = 1;
    promptkd::use_recipe(spec, promptkd::published_recipe(spec.learner, spec.data.shots));
    spec.loop.batch = 4;
    spec.loop.schedule.max_epoch = 2;
    spec.loop.out = "learned";
    Host host(2);
    const promptkd::LearnerOutcome found = promptkd::run(device, spec, host);
    check(found.training.progress.epoch == 2 && host.steps == 2, "two epochs of a step");
    check(host.parameters > 0 && exists(found.prompts), "prompts were learned and written");
    check(found.selection && found.selection->images == 2, "the best epoch was chosen on two images");
    check(found.evaluation && found.evaluation->halves && found.evaluation->metrics.n == 16,
          "all test images and both halves");
}

template <class D>
std::string distil(D& device, const Models& models) {
    promptkd::DistillationSpec spec;
    spec.teacher.weights = {models.teacher().path};
    spec.teacher.activation = models.teacher().activation;
    spec.teacher.prompts = {models.folder + "/fashion_teacher_prompts.safetensors"};
    spec.student = models.student();
    spec.vocabulary = models.vocabulary();
    spec.data.source = "folder:photos";
    spec.shape.depth = 3;
    spec.loop.batch = 4;
    spec.loop.schedule.max_epoch = 3;
    spec.loop.out = "distilled";
    spec.loop.out = "mistaken";
    Mistaken mistaken;
    check(carries_exception([&] { promptkd::run(device, spec, mistaken); }), "the observer's exception arrives");
    Host after(2);
    check(promptkd::run(device, spec, after).training.progress.epoch == 2, "and the run goes on from its checkpoint");
    spec.loop.out = "distilled";
    Host host(1);
    const promptkd::DistillationOutcome first = promptkd::run(device, spec, host);
    check(first.training.progress.epoch == 1 && host.warnings > 0, "stopped after an epoch; a warning of the file");
    Host rest(3);
    const promptkd::DistillationOutcome found = promptkd::run(device, spec, rest);
    check(found.training.progress.epoch == 3 && rest.steps == 2 * host.steps, "the rest of the epochs");
    check(found.evaluation && found.evaluation->metrics.n == 16 && rest.seen_images, "evaluated on the test images");
    return found.bundle;
}

template <class D>
void use(D& device, const std::string& bundle, const Models& models) {
    promptkd::StudentEvaluationSpec evaluation;
    evaluation.bundle = bundle;
    evaluation.data.source = "folder:photos";
    evaluation.data.subset = promptkd::ClassSubset::base;
    const promptkd::EvaluationResult found = promptkd::run(device, evaluation);
    check(found.class_names.size() == 2 && found.metrics.n == 8, "the base classes alone");

    promptkd::ZeroShotSpec zero_shot;
    zero_shot.model = models.student();
    zero_shot.vocabulary = models.vocabulary();
    zero_shot.data.source = "folder:photos";
    check(promptkd::run(device, zero_shot).metrics.n == 16, "zero-shot");

    promptkd::EncodingSpec encoding;
    encoding.model = models.student();
    encoding.vocabulary = models.vocabulary();
    encoding.texts = classes;
    check(promptkd::run(device, encoding).at("text_features").shape[0] == 4, "features of four texts");

    promptkd::Classifier<D> student(device, promptkd::load_tensors(bundle, promptkd::silent_observer()));
    const auto best = student.top_k(promptkd::Image(28, 28), 2);
    check(best.size() == 2 && best[0].probability >= best[1].probability, "the two likeliest classes");
}

template <class D>
void reproduce(D& device, const Models& models) {
    promptkd::ReproductionSpec spec;
    spec.data = {"folder:photos"};
    spec.teacher = models.teacher().path;
    spec.student = models.student().path;
    spec.activation = "quick_gelu";
    spec.vocabulary = models.vocabulary();
    spec.learner.epochs = 1;
    spec.learner.batch = 4;
    spec.learner.depth = 2;
    spec.distillation.epochs = 1;
    spec.distillation.batch = 4;
    spec.distillation.depth = 2;
    spec.seeds = {1};
    spec.shots = {2};
    spec.out = "reproduced";
    const promptkd::ReproductionResult found = promptkd::run(device, spec);
    check(found.report.complete() && exists("reproduced/report.md"), "every stage was run, the report is written");
}

}  // namespace

int main(int argc, char** argv) {
    check(argc == 2, "argument: the folder of the models");
    const Models models{argv[1]};
    promptkd::Cpu<float> device;
    make_images();
    train(device, models);
    use(device, distil(device, models), models);
    reproduce(device, models);
    std::printf("whole runs: done\n");
    return 0;
}
