// SPDX-License-Identifier: Apache-2.0
// Training by several ranks is training by one: the same images, losses and parameters.
#include "support/thread_ranks.hpp"
#include "support/tiny_clip.hpp"

#include <promptkd/clip/class_vectors.hpp>
#include <promptkd/distill/run.hpp>
#include <promptkd/evaluate/sharded.hpp>

#include <doctest/doctest.h>

namespace promptkd::test::data_parallel_test {

namespace {

/// Thirteen 8×8 images that need no decoding; image `broken` cannot be read.
struct Stripes : ImageSource {
    Index broken = -1;
    Index size() const override { return 13; }
    std::string name(Index i) const override { return "stripes " + std::to_string(i); }
    void load(Index i, Image& out) const override {
        require(i != broken, name(i), ": cannot be read");
        out.height = out.width = 8;
        out.pixels.resize(192);
        for (std::size_t p = 0; p < 192; ++p)
            out.pixels[p] = static_cast<std::uint8_t>((p * 13 + static_cast<std::size_t>(i) * 41) % 247);
    }
};

Dataset stripes(Index broken = -1) {
    Dataset data;
    data.name = "stripes";
    auto source = std::make_shared<Stripes>();
    source->broken = broken;
    data.source = source;
    for (Index i = 0; i < 13; ++i) data.items.push_back({i, i % 5});
    return data;
}

struct Run {
    std::vector<double> losses;
    TensorMap state;
    FeatureSet<double> features;
};

template <class D>
Run run(D& device, const Ranks<D>& ranks, const Dataset& data, bool local = false) {
    const ClipModel<D> teacher_model(device, tiny_clip("quick", 5)), student_model(device, tiny_clip());
    StudentConfig shape;
    shape.prompts = 2;
    shape.depth = 3;
    shape.embed = 6;
    TrainingLoopConfig config;
    config.batch = 6;
    config.schedule.max_epoch = 3;
    config.loader_threads = 1;
    config.rank = ranks.rank();
    config.ranks = ranks.size();
    const Index batch = slice_of(config.batch, config.rank, config.ranks).count;
    Student<D> student(device, student_model, shape, 6);
    student.initialize(1);
    std::vector<double> vectors = numbers(5 * 6, 9);
    normalize_rows(vectors, 6);
    DistillationConfig settings;
    settings.stay_close = 0.5;
    DistillerOptions<D> options;
    options.max_batch = batch;
    options.parallel = DataParallel<D>{ranks, config.batch, local};
    Distiller<D> distiller(student, {vectors, {}}, settings, options);
    LiveTeachers<D> teacher(device, TeacherGives::logits, batch);
    teacher.add(teacher_model, nullptr, vectors);
    FrozenImageTower<D> tower(device, teacher_model, nullptr, batch);
    Run result;
    config.on_step = [&](const StepRecord& record) { result.losses.push_back(record.loss); };
    run_distillation(distiller, teacher, data, config);
    distiller.save(result.state);
    result.features = collect_features(device, ranks, tower, data, {2, 1, {}, {}});
    return result;
}

}  // namespace

TEST_CASE_TEMPLATE("ranks train as one process does", D, Cpu<double>, EmulatedCuda<double>) {
    D device = make_device<D>();
    const Run alone = run(device, Ranks<D>(), stripes());
    CHECK(alone.losses.size() == 6);
    for (const int size : {2, 3}) {
        std::vector<Run> runs(static_cast<std::size_t>(size));
        as_ranks<D>(size, [&](const Ranks<D>& ranks, int rank) {
            D own = make_device<D>();
            runs[static_cast<std::size_t>(rank)] = run(own, ranks, stripes());
        });
        for (const Run& r : runs) {
            CHECK(difference(r.losses, alone.losses) < 1e-9);
            for (const auto& entry : alone.state.tensors) {
                const std::string& name = entry.first;
                const auto& tensor = entry.second;
                CAPTURE(name);
                if (name == "VPT_image_trans.conv1.0.bias") continue;  // BatchNorm removes it: rounding alone moves it
                CHECK(difference(r.state.at(name).template to<double>(), tensor.template to<double>()) < 1e-6);
            }
            CHECK(r.features.labels == alone.features.labels);
            CHECK(r.features.indices == alone.features.indices);
        }
        for (const auto& [name, tensor] : runs[0].state.tensors)  // the ranks themselves agree to the last bit
            CHECK(runs[1].state.at(name).template to<double>() == tensor.template to<double>());
    }
}

TEST_CASE("ranks: an unreadable image ends no epoch early, BatchNorm of one rank is another computation") {
    using D = Cpu<double>;
    std::vector<Run> broken(2), local(2);
    as_ranks<D>(2, [&](const Ranks<D>& ranks, int rank) {
        D own(1);
        broken[static_cast<std::size_t>(rank)] = run(own, ranks, stripes(4));
    });
    as_ranks<D>(2, [&](const Ranks<D>& ranks, int rank) {
        D own(1);
        local[static_cast<std::size_t>(rank)] = run(own, ranks, stripes(), true);
    });
    CHECK(broken[0].losses.size() == 6);
    CHECK(broken[0].losses == broken[1].losses);
    CHECK(broken[0].features.size() == 12);
    D device(1);
    const Run alone = run(device, Ranks<D>(), stripes());
    CHECK(local[0].losses == local[1].losses);
    CHECK(difference(local[0].losses, alone.losses) > 1e-4);
}

}  // namespace promptkd::test::data_parallel_test
