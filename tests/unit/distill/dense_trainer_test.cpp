// SPDX-License-Identifier: Apache-2.0
// Dense distillation as a loop drives it: a run that is saved and loaded in between ends bit for bit as one that is
// not; the patches' projector begins as the class token's; targets mirror with their pictures.
#include "support/tiny_clip.hpp"

#include <promptkd/clip/class_vectors.hpp>
#include <promptkd/data/memory_images.hpp>
#include <promptkd/distill/adapted_recipe.hpp>
#include <promptkd/distill/dense_trainer.hpp>

#include <doctest/doctest.h>

namespace dense_trainer_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

using D = Cpu<float>;

/// Three answers on two pictures of 2 × 3 patches; two classes.
PatchTargetTable small_table() {
    PatchTargetTable table;
    table.grid = {2, 3};
    table.classes = 2;
    table.add_picture({0, 1, -1, 0, 0, 1}, {1, 0.5F, 0, 0.25F, 1, 1}, 2);
    table.add_picture({0, 0, 0, -1, -1, -1}, {1, 1, 1, 0, 0, 0}, 1);
    table.logits = {1, 2, 3, 4, 5, 6};
    return table;
}

Dataset pictures(Index n, Index height, Index width, unsigned seed) {
    std::vector<Image> images;
    for (Index i = 0; i < n; ++i) {
        Image image(height, width);
        const std::vector<double> values = numbers(static_cast<Index>(image.pixels.size()), seed++, 120);
        for (std::size_t k = 0; k < values.size(); ++k)
            image.pixels[k] = static_cast<std::uint8_t>(std::clamp(values[k] + 128, 0.0, 255.0));
        images.push_back(std::move(image));
    }
    return memory_dataset(std::move(images), {"a", "b"});
}

/// A student with LoRA and a projector of its patches, its trainer with two pictures of 8 × 12 and four images.
struct Run {
    D device{1};
    ClipModel<D> model{device, tiny_clip()};
    Student<D> student;
    std::optional<Distiller<D>> images;
    std::optional<DenseDistiller<D>> patches;
    std::optional<DenseTrainer<D>> trainer;
    Dataset scenes = pictures(2, 8, 12, 50);
    BatchLoader loader{scenes, loading(8, 12, 2)};

    static StudentConfig shape() {
        StudentConfig config;
        config.prompts = 2;
        config.depth = 2;
        config.embed = 6;
        config.training = EncoderTraining::lora;
        config.lora.rank = 2;
        config.patch_head = true;
        return config;
    }
    static LoaderOptions loading(Index height, Index width, Index batch) {
        LoaderOptions o;
        o.preprocessing = Preprocessing::clip(8);
        o.preprocessing.height = height;
        o.preprocessing.width = width;
        o.preprocessing.resize = ResizeMode::squash;
        o.augmentation = Augmentation::flip;
        o.batch = batch;
        o.seed = 3;
        o.threads = 0;
        o.drop_last = true;
        return o;
    }
    static std::vector<float> vectors() {
        std::vector<float> rows = as<float>(numbers(2 * 6, 9));
        normalize_rows(rows, 6);
        return rows;
    }

    Run() : student(device, model, shape(), 2) {
        student.initialize(1);
        DistillationConfig loss;
        loss.kd_weight = 2;
        loss.optimizer.kind = OptimizerKind::adamw;
        loss.optimizer.clip = 1;
        loss.optimizer.rate_factors = body_rates(1);
        images.emplace(student, ClassVectors<float>{vectors(), {}}, loss);
        patches.emplace(student, vectors(), DenseOptions{}, 1);
        trainer.emplace(*images, *patches, PatchLessons{small_table(), loader_input(), 2, 3, true});
        ImageLessons lessons;
        lessons.images = pictures(4, 8, 8, 70);
        lessons.targets.views = 2;
        lessons.targets.images = 4;
        lessons.targets.size = 2;
        lessons.targets.values = make_tensor(as<float>(numbers(16, 30)), {2, 4, 2});
        lessons.loading = loading(8, 8, 2);
        trainer->add_images(std::move(lessons));
    }
    static Preprocessing loader_input() { return loading(8, 12, 2).preprocessing; }

    void steps(Index first, Index last) {
        for (Index epoch = first; epoch < last; ++epoch) {
            trainer->begin_epoch(epoch);
            loader.start({0, 1}, static_cast<std::uint32_t>(epoch));
            trainer->begin_step(*loader.next(), 0.01);
            losses.push_back(trainer->end_step());
        }
    }
    std::vector<double> losses;
};

std::vector<float> values_of(const TensorMap& map, const std::string& name) { return map.at(name).to<float>(); }

}  // namespace

TEST_CASE("targets of patches: mirrored with their picture, kept in a file") {
    const PatchTargetTable table = small_table();
    std::vector<float> logits(12), weights(6);
    table.copy(0, false, logits.data(), weights.data());
    CHECK(logits == std::vector<float>{1, 2, 3, 4, 0, 0, 1, 2, 1, 2, 3, 4});
    CHECK(weights == std::vector<float>{1, 0.5F, 0, 0.25F, 1, 1});
    table.copy(0, true, logits.data(), weights.data());
    CHECK(logits == std::vector<float>{0, 0, 3, 4, 1, 2, 3, 4, 1, 2, 1, 2});
    CHECK(weights == std::vector<float>{0, 0.5F, 1, 1, 1, 0.25F});
    table.copy(1, false, logits.data(), weights.data());
    CHECK(logits == std::vector<float>{5, 6, 5, 6, 5, 6, 0, 0, 0, 0, 0, 0});

    TensorMap map = to_tensors(table);
    const PatchTargetTable again = patch_targets(map);
    CHECK(again.answer == table.answer);
    CHECK(again.logits == table.logits);
    CHECK(again.classes == 2);
    std::vector<std::int64_t> answer = map.at("answer").to<std::int64_t>();
    answer[7] = 1;  // the second picture has one answer
    map.tensors["answer"] = make_tensor(answer, {2, 6});
    CHECK_THROWS_AS(patch_targets(map), Error);
}

TEST_CASE("endless batches: go on where they stood") {
    const Dataset data = pictures(5, 8, 8, 1);
    const LoaderOptions options = Run::loading(8, 8, 2);
    EndlessBatches whole(data, options), second(data, options);
    std::vector<std::vector<Index>> seen;
    for (int i = 0; i < 6; ++i) seen.push_back(whole.next().indices);
    for (int i = 0; i < 3; ++i) second.next();
    CHECK(second.epoch() == 1);
    EndlessBatches continued(data, options);
    continued.go_to(second.place());
    for (std::size_t i = 3; i < 6; ++i) CHECK(continued.next().indices == seen[i]);
}

TEST_CASE("dense trainer: saved and loaded, it goes on bit for bit") {
    Run whole;
    TensorMap begun;
    whole.trainer->save(begun);
    CHECK(values_of(begun, "patch_head.conv1.1.running_var") == std::vector<float>(6, 1));
    whole.steps(0, 4);
    TensorMap expected;
    whole.trainer->save(expected);

    Run first;
    first.steps(0, 2);
    TensorMap half;
    first.trainer->save(half);
    Run second;
    second.trainer->load(half);
    second.steps(2, 4);
    TensorMap found;
    second.trainer->save(found);
    for (const auto& [name, tensor] : expected.tensors) {
        const std::string key = name;
        CAPTURE(key);
        CHECK(found.at(key).to<double>() == expected.at(key).to<double>());
    }
    CHECK(second.losses.back() == whole.losses.back());
    for (const char* name : {"patch_head.conv1.0.weight", "VPT_image_trans.conv1.0.weight", "lora.0.attn.in_proj.B"})
        CHECK(values_of(begun, name) != values_of(expected, name));
    CHECK(expected.at("patch_head.conv1.1.num_batches_tracked").to<std::int64_t>() == std::vector<std::int64_t>{4});
    CHECK(expected.at("VPT_image_trans.conv1.1.num_batches_tracked").to<std::int64_t>() ==
          std::vector<std::int64_t>{4});
}

TEST_CASE("a student's patches begin with the class token's projector") {
    Run source;
    TensorMap plain;
    source.student.save(plain);
    std::erase_if(plain.tensors, [](const auto& entry) { return entry.first.starts_with(patch_head_prefix); });
    plain.tensors["VPT_image_trans.conv1.1.running_mean"] = make_tensor(std::vector<float>{1, 2, 3, 4, 5, 6}, {6});
    Run other;
    other.student.load(plain);
    TensorMap found;
    other.student.save(found);
    for (const char* part : {"conv1.0.weight", "conv1.1.running_mean", "conv1.3.bias"})
        CHECK(values_of(found, std::string("patch_head.") + part) ==
              values_of(found, std::string("VPT_image_trans.") + part));
}

}  // namespace dense_trainer_test
