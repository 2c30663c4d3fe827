// SPDX-License-Identifier: Apache-2.0
// A whole distillation run, loader included, gives the same losses on the CPU and on the emulated CUDA device, which
// fails when the loader reuses an image buffer before its copy ran.
#include "support/tiny_clip.hpp"

#include <promptkd/clip/class_vectors.hpp>
#include <promptkd/distill/run.hpp>

#include <doctest/doctest.h>

namespace promptkd::test::device_agreement_test {

namespace {

/// Sixteen 8×8 images that need no decoding.
struct Patterns : ImageSource {
    Index size() const override { return 16; }
    std::string name(Index i) const override { return "pattern " + std::to_string(i); }
    void load(Index i, Image& out) const override {
        out.height = out.width = 8;
        out.pixels.resize(192);
        for (std::size_t p = 0; p < 192; ++p)
            out.pixels[p] = static_cast<std::uint8_t>((p * 11 + static_cast<std::size_t>(i) * 37) % 251);
    }
};

template <class D>
std::vector<double> losses(D& device, bool graph = false, TensorMap* state = nullptr,
                           const DistillationConfig& settings = {}) {
    Dataset data;
    data.name = "patterns";
    data.source = std::make_shared<Patterns>();
    for (Index i = 0; i < 16; ++i) data.items.push_back({i, -1});
    const ClipModel<D> teacher_model(device, tiny_clip("quick", 5)), student_model(device, tiny_clip());
    StudentConfig shape;
    shape.prompts = 2;
    shape.depth = 3;
    shape.embed = 6;
    Student<D> student(device, student_model, shape, 4);
    student.initialize(1);
    std::vector<typename D::Scalar> vectors = as<typename D::Scalar>(numbers(5 * 6, 9));
    normalize_rows(vectors, 6);
    Distiller<D> distiller(student, {vectors, {}}, settings);
    LiveTeachers<D> teacher(device, given_by_teachers(settings.kd), 4);
    teacher.add(teacher_model, nullptr, vectors);
    StepOptions steps;
    steps.record = graph;
    TrainingLoopConfig config;
    config.batch = 4;
    config.schedule.max_epoch = 3;
    config.loader_threads = 2;
    std::vector<double> values;
    config.on_step = [&](const StepRecord& record) { values.push_back(record.loss); };
    run_distillation(distiller, teacher, data, config, steps);
    if (state) distiller.save(*state);
    return values;
}

}  // namespace

TEST_CASE("a distillation run gives the same losses on the CPU and on the emulated CUDA device") {
    Cpu<double> exact(2);
    Cpu<float> cpu(2);
    EmulatedCuda<float> emulated;
    EmulatedCuda<double> emulated_double;
    EmulatedCuda<float, bf16> brief;
    const std::vector<double> want = losses(exact);
    CHECK(want.size() == 12);
    CHECK(difference(losses(cpu), want) < 1e-3);
    CHECK(difference(losses(emulated), want) < 1e-3);
    CHECK(difference(losses(emulated_double), want) < 1e-10);
    CHECK(difference(losses(brief), want) < 0.5);
    Cpu<float, bf16> brief_cpu(2);
    CHECK(difference(losses(brief_cpu), want) < 0.5);
    CHECK(emulated.live_allocations() == 0);
    CHECK(brief.live_allocations() == 0);
    CHECK(emulated.errors().empty());
    CHECK(emulated_double.errors().empty());
}

TEST_CASE("a recorded step is the step: losses, parameters, statistics, counts") {
    EmulatedCuda<double> device;
    TensorMap plain, recorded;
    const std::vector<double> want = losses(device, false, &plain), got = losses(device, true, &recorded);
    CHECK(difference(got, want) < 1e-12);
    CHECK(recorded.tensors.size() == plain.tensors.size());
    for (const auto& entry : plain.tensors) {
        const std::string& name = entry.first;
        const auto& tensor = entry.second;
        CAPTURE(name);
        CHECK(difference(recorded.at(name).to<double>(), tensor.to<double>()) < 1e-9);
    }
    CHECK(plain.at("optimizer.steps").to<std::int64_t>().at(0) == 12);
    CHECK(device.live_allocations() == 0);
    Cpu<double> cpu(1);
    CHECK_THROWS_WITH_AS(losses(cpu, true), doctest::Contains("on a GPU only"), Error);
}

TEST_CASE("fp16: an overflow costs a step and halves the loss scale, not the run") {
    EmulatedCuda<float, half> emulated;
    Cpu<float, half> cpu(2);
    Cpu<double> exact(2);
    const std::vector<double> want = losses(exact);
    // The first loss is that of equal parameters; BatchNorm over four rows then drives the runs apart.
    const std::vector<double> on_emulated = losses(emulated), on_cpu = losses(cpu);
    for (const std::vector<double>& run : {on_emulated, on_cpu}) {
        CHECK(std::abs(run.front() / want.front() - 1) < 1e-2);
        CHECK(difference(run, want) < 1);
    }
    DistillationConfig hostile;
    hostile.loss_scale = {256, 1 << 16, 100};
    TensorMap state;
    const std::vector<double> got = losses(cpu, false, &state, hostile);
    const std::vector<float> scale = state.at("loss_scale").to<float>();
    CHECK(scale[detail::skipped_steps] > 0);
    CHECK(scale[detail::skipped_steps] < 12);
    CHECK(scale[detail::scale_now] == 256.0f / std::exp2(scale[detail::skipped_steps]));
    CHECK(std::isfinite(got.back()));
    CHECK(emulated.errors().empty());
}

}  // namespace promptkd::test::device_agreement_test
