// SPDX-License-Identifier: Apache-2.0
// One training contract: learners and the distiller run through the same pipeline, whatever it does with their steps.
#include "support/tiny_clip.hpp"

#include <promptkd/clip/class_vectors.hpp>
#include <promptkd/distill/run.hpp>
#include <promptkd/learner/registry.hpp>
#include <promptkd/learner/run.hpp>
#include <promptkd/train/selection.hpp>

#include <doctest/doctest.h>

#include <unistd.h>
#include <filesystem>

namespace promptkd::test::step_pipeline_test {

namespace {

using Values = std::vector<double>;

static_assert(Trainer<LearnerTrainer<Cpu<float>>>);
static_assert(Trainer<Distiller<Cpu<double>>>);
static_assert(SupervisionOf<LabelFeed<Cpu<float>>, LearnerTrainer<Cpu<float>>>);
static_assert(SupervisionOf<TeacherSource<Cpu<float>>, Distiller<Cpu<float>>>);

/// Twelve 8×8 images of three classes that need no decoding.
struct Tiles : ImageSource {
    Index size() const override { return 12; }
    std::string name(Index i) const override { return "tile " + std::to_string(i); }
    void load(Index i, Image& out) const override {
        out.height = out.width = 8;
        out.pixels.resize(192);
        for (std::size_t p = 0; p < 192; ++p)
            out.pixels[p] = static_cast<std::uint8_t>((p * 17 + static_cast<std::size_t>(i) * 43) % 249);
    }
};

Dataset tiles(Index labels = 3) {
    Dataset data;
    data.name = "tiles";
    data.source = std::make_shared<Tiles>();
    for (Index i = 0; i < 12; ++i) data.items.push_back({i, i % labels});
    return data;
}

TrainingLoopConfig loop() {
    TrainingLoopConfig config;
    config.batch = 4;
    config.preprocessing = Preprocessing::clip(8);
    config.schedule.max_epoch = 3;
    config.loader_threads = 1;
    return config;
}

struct Run {
    Values losses;
    TensorMap state;
    TrainingResult result;
};

/// A learner with prompts in both branches.
template <class D>
Run learn(D& device, const StepOptions& steps = {}, TrainingLoopConfig config = loop(), Index labels = 3) {
    const ClipModel<D> model(device, tiny_clip());
    const FrozenClip<D> clip{device, model};
    Recipe recipe = published_recipe("maple", 16);
    recipe.depth = 2;
    const auto learner = make_learner("maple", clip, recipe, {}, 3);
    learner->initialize(1, {});
    TrainerOptions<D> options;
    options.max_batch = 4;
    const LearnerTexts<typename D::Scalar> texts{arrange_context(tiny_texts, 2, {}, {}), {}};
    const auto trainer = make_trainer("maple", clip, *learner, texts, recipe, options);
    Run run;
    config.on_step = [&](const StepRecord& r) { run.losses.push_back(r.loss); };
    run.result = run_learner(*trainer, tiles(labels), config, steps);
    trainer->save(run.state);
    return run;
}

void check_same(const Run& a, const Run& b, double tolerance) {
    CHECK(a.losses.size() == b.losses.size());
    CHECK(difference(a.losses, b.losses) <= tolerance);
    REQUIRE(a.state.tensors.size() == b.state.tensors.size());
    for (const auto& named : a.state.tensors) {
        CAPTURE(named.first);
        CHECK(difference(named.second.template to<double>(), b.state.at(named.first).template to<double>()) <=
              tolerance);
    }
}

}  // namespace

TEST_CASE("step pipeline: a learner's steps, recorded or in micro-batches, are its steps") {
    EmulatedCuda<double> emulated;
    Cpu<double> cpu(1);
    const Run plain = learn(emulated);
    CHECK(plain.losses.size() == 9);
    check_same(plain, learn(cpu), 1e-9);
    StepOptions recorded;
    recorded.record = true;
    check_same(plain, learn(emulated, recorded), 1e-12);
    CHECK(emulated.errors().empty());
    CHECK(emulated.live_allocations() == 0);
    StepOptions parts;
    parts.micro_batches = 2;
    check_same(plain, learn(cpu, parts), 1e-9);  // no statistics over a batch: the same gradients
    parts.micro_batches = 3;
    CHECK_THROWS_WITH_AS(learn(cpu, parts), doctest::Contains("equal parts"), Error);
    CHECK_THROWS_WITH_AS(learn(cpu, recorded), doctest::Contains("on a GPU only"), Error);
    CHECK_THROWS_WITH_AS(learn(cpu, {}, loop(), 4), doctest::Contains("no label among the 3 classes"), Error);
}

TEST_CASE("training loop: it can be ended after an epoch, and goes on from there") {
    Cpu<double> device(1);
    const std::string out = "/tmp/promptkd_stop_" + std::to_string(::getpid());
    std::filesystem::remove_all(out);
    TrainingLoopConfig config = loop();
    const Run whole = learn(device, {}, config);
    config.out = out;
    config.resume = true;
    config.should_stop = [](const Progress& at) { return at.epoch == 2; };
    const Run first = learn(device, {}, config);
    CHECK(first.result.stopped);
    CHECK(first.result.progress.epoch == 2);
    CHECK(first.losses.size() == 6);
    config.should_stop = nullptr;
    const Run second = learn(device, {}, config);
    CHECK(!second.result.stopped);
    CHECK(second.losses.size() == 3);
    CHECK(second.losses.back() == whole.losses.back());
    std::filesystem::remove_all(out);
}

TEST_CASE("a user's function is a teacher") {
    using D = Cpu<double>;
    D device(1);
    const ClipModel<D> teacher_model(device, tiny_clip("quick", 5)), student_model(device, tiny_clip());
    std::vector<double> vectors = numbers(5 * 6, 9);
    normalize_rows(vectors, 6);
    LiveTeachers<D> live(device, TeacherGives::logits, 4);
    live.add(teacher_model, nullptr, vectors);
    Index calls = 0;
    FunctionTeacher<D> own(5, [&](const double* images, Index n) {
        ++calls;
        return live.targets(images, n);
    });
    const auto losses = [&](TeacherSource<D>& teacher) {
        StudentConfig shape;
        shape.prompts = 2;
        shape.depth = 2;
        shape.embed = 6;
        Student<D> student(device, student_model, shape, 4);
        student.initialize(1);
        Distiller<D> distiller(student, {vectors, {}}, {});
        Values all;
        TrainingLoopConfig config = loop();
        config.on_step = [&](const StepRecord& r) { all.push_back(r.loss); };
        run_distillation(distiller, teacher, tiles(), config);
        return all;
    };
    CHECK(losses(own) == losses(live));
    CHECK(calls == 9);
    FunctionTeacher<D> wrong(4, [](const double* images, Index) { return images; });
    CHECK_THROWS_WITH_AS(losses(wrong), doctest::Contains("have 4 values an image"), Error);
}

namespace {

/// An objective of a host's own: half the squared distance of the student's features from zero.
template <class D>
struct HalfSquare {
    using T = typename D::Scalar;
    Index target_size() const { return 1; }
    bool reads_encoded() const { return false; }
    void evaluate(const Workspace<D>& w, const StudentBatch<T>& in, const StudentGradients<T>& out) {
        const WorkspaceScope scope(w);
        const Matrix<T> origin = scratch<T>(w, in.unit.rows, in.unit.columns);
        zero(w.device, origin);
        zero(w.device, out.d_unit);
        w.device.zero(out.loss, sizeof(T));
        add_squared_difference_loss(w, in.unit, origin, static_cast<double>(in.unit.columns) / 2, out.d_unit, out.loss);
    }
};

}  // namespace

TEST_CASE("an objective of the user's own") {
    using D = Cpu<double>;
    D device(1);
    const ClipModel<D> model(device, tiny_clip());
    StudentConfig shape;
    shape.prompts = 2;
    shape.depth = 2;
    shape.embed = 6;
    Student<D> student(device, model, shape, 4);
    student.initialize(1);
    Distiller<D, HalfSquare<D>> distiller(student, HalfSquare<D>{}, DistillationConfig{});
    const Buffer<D, double> images(device, numbers(4 * 192, 20)), target(device, Values(4));
    distiller.step(images.data(), target.data(), 4, 0.01);
    CHECK(distiller.loss() == doctest::Approx(0.5));  // normalised features have length 1
}

}  // namespace promptkd::test::step_pipeline_test
