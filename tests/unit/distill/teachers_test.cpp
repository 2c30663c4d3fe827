// SPDX-License-Identifier: Apache-2.0
#include "support/temporary_folder.hpp"
#include "support/tiny_clip.hpp"

#include <promptkd/clip/class_vectors.hpp>
#include <promptkd/distill/target_file.hpp>

#include <doctest/doctest.h>

#include <unistd.h>

namespace targets_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

using Values = std::vector<double>;

template <class D>
std::vector<typename D::Scalar> some_vectors(unsigned seed) {
    std::vector<typename D::Scalar> rows = as<typename D::Scalar>(numbers(5 * 6, seed));
    normalize_rows(rows, 6);
    return rows;
}

/// Nine 8×8 images; the fifth cannot be read.
struct Patterns : ImageSource {
    Index size() const override { return 9; }
    std::string name(Index i) const override { return "root/pattern " + std::to_string(i); }
    void load(Index i, Image& out) const override {
        require(i != 4, name(i), ": damaged");
        out.height = out.width = 8;
        out.pixels.resize(192);
        for (std::size_t p = 0; p < 192; ++p)
            out.pixels[p] = static_cast<std::uint8_t>((p * 11 + static_cast<std::size_t>(i) * 37) % 251);
    }
};

Dataset patterns() {
    Dataset data;
    data.name = "patterns";
    data.source = std::make_shared<Patterns>();
    for (Index i = 0; i < 9; ++i) data.items.push_back({i, -1});
    return data;
}

/// Three views of each of the patterns.
TrainingLoopConfig three_views() {
    TrainingLoopConfig config;
    config.batch = 4;
    config.preprocessing = Preprocessing::clip(8);
    config.schedule.max_epoch = 3;
    config.augmentation = Augmentation::flip;
    return config;
}

std::string message(const Fingerprint& stored, const Fingerprint& now) {
    try {
        require_same_fingerprint(stored, now, "file");
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}

}  // namespace

TEST_CASE_TEMPLATE("several teachers: probabilities weighted by confidence", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    constexpr Index n = 4, classes = 5;
    const Values a = numbers(n * classes, 7, 3.0), b = numbers(n * classes, 8, 1.0);
    const Buffer<D, T> first(device, as<T>(a)), second(device, as<T>(b));
    const auto combined = [&](const std::vector<const Buffer<D, T>*>& teachers) {
        Buffer<D, T> sum(device, std::vector<T>(n * classes, T(0))), weights(device, std::vector<T>(2 * n, T(0)));
        const ConfidenceSums<T> sums{sum.matrix(n, classes), weights.data(), weights.data() + n};
        for (const auto* q : teachers) add_confident(device, q->matrix(n, classes), sums);
        confident_logits(device, sums);
        return sum.to_host();
    };
    const std::vector<T> found = combined({&first, &second}), same = combined({&first, &first});
    for (std::size_t i = 0; i < a.size(); ++i)
        CHECK(static_cast<double>(same[i]) == doctest::Approx(a[i]).epsilon(1e-4));
    for (std::size_t i = 0; i < n; ++i) {
        Values p[2];
        double confidence[2], level[2];
        for (std::size_t t = 0; t < 2; ++t) {
            double total = 0;
            for (std::size_t k = 0; k < classes; ++k) p[t].push_back(std::exp((t == 0 ? a : b)[i * classes + k]));
            for (const double value : p[t]) total += value;
            for (double& value : p[t]) value /= total;
            confidence[t] = *std::max_element(p[t].begin(), p[t].end());
            level[t] = std::log(total);
        }
        const double all = confidence[0] + confidence[1];
        const double shift = (confidence[0] * level[0] + confidence[1] * level[1]) / all;
        for (std::size_t k = 0; k < classes; ++k) {
            const double mean = (confidence[0] * p[0][k] + confidence[1] * p[1][k]) / all;
            CHECK(static_cast<double>(found[i * classes + k]) == doctest::Approx(std::log(mean) + shift).epsilon(1e-4));
        }
    }
}

TEST_CASE_TEMPLATE("several teachers: their logits are averaged", D, Cpu<float>, EmulatedCuda<float>) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    const ClipModel<D> first(device, tiny_clip("quick", 5)), second(device, tiny_clip("quick", 50));
    Buffer<D, T> images(device, as<T>(numbers(3 * 192, 20)));
    const auto host = [&](LiveTeachers<D>& teachers) {
        std::vector<T> values(static_cast<std::size_t>(3 * teachers.size()));
        device.download(values.data(), teachers.targets(images.data(), 3), values.size() * sizeof(T));
        return values;
    };
    using Teachers = LiveTeachers<D>;
    constexpr auto logits = TeacherGives::logits;
    Teachers one(device, logits, 3), other(device, logits, 3), both(device, logits, 3);
    Teachers features(device, TeacherGives::features, 3);
    one.add(first, nullptr, some_vectors<D>(1));
    other.add(second, nullptr, some_vectors<D>(2));
    both.add(first, nullptr, some_vectors<D>(1));
    both.add(second, nullptr, some_vectors<D>(2));
    features.add(first, nullptr, some_vectors<D>(1));
    const std::vector<T> a = host(one), b = host(other);
    Values mean;
    for (std::size_t i = 0; i < a.size(); ++i)
        mean.push_back((static_cast<double>(a[i]) + static_cast<double>(b[i])) / 2);
    CHECK(difference(host(both), mean) < 1e-6);
    CHECK(features.size() == 6);
    CHECK(host(features).size() == 18);
    CHECK_THROWS_AS(features.add(second, nullptr, some_vectors<D>(2)), Error);
    CHECK_THROWS_AS(both.add(second, nullptr, as<T>(numbers(12, 1))), Error);
}

TEST_CASE_TEMPLATE("teachers that take another input than the student see the same view of it", D, Cpu<float>,
                   EmulatedCuda<float>) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    TensorMap map = tiny_clip("quick", 5);
    Preprocessing own = Preprocessing::clip(8);
    own.normalization = {{0.5f, 0.5f, 0.5f}, {0.25f, 0.5f, 1}};
    own.interpolation = Interpolation::bilinear;
    const ClipModel<D> plain(device, map);
    set_preprocessing(map, own);
    const ClipModel<D> other(device, map);
    CHECK(other.preprocessing() == own);
    LiveTeachers<D> teachers(device, TeacherGives::logits, 4), alone(device, TeacherGives::logits, 4);
    teachers.add(plain, nullptr, some_vectors<D>(1));
    teachers.add(other, nullptr, some_vectors<D>(1));
    teachers.add(other, nullptr, some_vectors<D>(1));
    alone.add(other, nullptr, some_vectors<D>(1));
    LoaderOptions loading;
    loading.batch = 4;
    loading.preprocessing = Preprocessing::clip(8);
    loading.further = teachers.further_inputs(loading.preprocessing);
    CHECK(loading.further == std::vector<Preprocessing>{own});  // once, for both
    CHECK(alone.further_inputs(own).empty());
    loading.augmentation = Augmentation::random_resized_crop;
    LoaderOptions as_own = loading;
    as_own.preprocessing = own;
    as_own.further.clear();
    BatchLoader loader(patterns(), loading), own_loader(patterns(), as_own);
    ImageFeed<D> feed(device, 4, loading.preprocessing), own_feed(device, 4, own);
    loader.start(in_order(9), 3);
    own_loader.start(in_order(9), 3);
    const auto logits = [&](LiveTeachers<D>& source, const T* images, const Batch& batch) {
        source.prepare(batch, 3);
        std::vector<T> values(static_cast<std::size_t>(batch.size * 5));
        device.download(values.data(), source.targets(images, batch.size), values.size() * sizeof(T));
        return values;
    };
    LiveTeachers<D> first(device, TeacherGives::logits, 4);
    first.add(plain, nullptr, some_vectors<D>(1));
    while (const Batch* batch = loader.next()) {
        const Batch* separately = own_loader.next();
        REQUIRE(separately != nullptr);
        CHECK(batch->further.at(0) == separately->images);
        const std::vector<T> a = logits(first, feed.upload(*batch), *batch);
        const std::vector<T> b = logits(alone, own_feed.upload(*separately), *separately);
        Values mean;
        for (std::size_t i = 0; i < a.size(); ++i)
            mean.push_back((static_cast<double>(a[i]) + 2 * static_cast<double>(b[i])) / 3);
        CHECK(difference(a, Values(b.begin(), b.end())) > 1e-3);
        CHECK(difference(logits(teachers, feed.upload(*batch), *batch), mean) < 1e-5);
    }
}

TEST_CASE("stored targets: written, read, and those of the batch") {
    Cpu<float> device(1);
    const ClipModel<Cpu<float>> model(device, tiny_clip("quick", 5));
    LiveTeachers<Cpu<float>> teachers(device, TeacherGives::logits, 4);
    teachers.add(model, nullptr, some_vectors<Cpu<float>>(1));
    TrainingLoopConfig config = three_views();
    CHECK(count_views(config) == 3);
    StoredTargetsFile file;
    file.table = compute_targets(device, teachers, patterns(), config);
    CHECK(file.table.values.shape == Shape{3, 9, 5});
    CHECK(std::isnan(file.table.row(1, 4)[0]));
    file.class_vectors = make_tensor(some_vectors<Cpu<float>>(1), {5, 6});
    file.class_names = {"a", "b", "c", "d", "e"};
    file.fingerprint["images"] = images_fingerprint(patterns(), "root");
    add_views(file.fingerprint, config);
    const std::string path = "/tmp/promptkd_targets_" + std::to_string(::getpid()) + ".safetensors";
    write_targets(path, file);
    const StoredTargetsFile read = read_targets(path);
    ::unlink(path.c_str());
    CHECK(read.fingerprint == file.fingerprint);
    CHECK(read.class_names == file.class_names);

    // An image's target in an epoch is what the teacher says of that epoch's view of it.
    LoaderOptions loading;
    loading.batch = 4;
    loading.preprocessing = Preprocessing::clip(8);
    loading.augmentation = config.augmentation;
    loading.seed = config.seed;
    BatchLoader loader(patterns(), loading);
    StoredTargets<Cpu<float>> stored(device, read.table, 4);
    ImageFeed<Cpu<float>> feed(device, 4, Preprocessing::clip(8));
    for (const std::uint32_t epoch : {0u, 2u}) {
        loader.start(in_order(9), epoch);
        while (const Batch* batch = loader.next()) {
            const float* live = teachers.targets(feed.upload(*batch), batch->size);
            const std::vector<float> want(live, live + batch->size * 5);
            stored.prepare(*batch, epoch);
            const float* got = stored.targets(nullptr, batch->size);
            CHECK(difference(std::vector<float>(got, got + batch->size * 5), Values(want.begin(), want.end())) < 1e-5);
        }
    }
    Batch unreadable;
    unreadable.size = 1;
    unreadable.indices = {4};
    CHECK_THROWS_AS(stored.prepare(unreadable, 0), Error);
    config.fixed_views = true;
    CHECK(count_views(config) == 1);
}

/// Logits of all views of the patterns, kept in `parts`; fails behind so many batches (0: never).
TargetTable compute_in_parts(Cpu<float>& device, TargetParts& parts, Index fail_after) {
    const ClipModel<Cpu<float>> model(device, tiny_clip("quick", 5));
    LiveTeachers<Cpu<float>> teachers(device, TeacherGives::logits, 4);
    teachers.add(model, nullptr, some_vectors<Cpu<float>>(1));
    const TrainingLoopConfig config = three_views();
    const auto progress = [&](Index, Index) { require(--fail_after != 0, "interrupted"); };
    return compute_targets(device, teachers, patterns(), config, {progress, &parts, {}});
}

std::string bytes_of(const HostTensor& tensor) {
    return {reinterpret_cast<const char*>(tensor.bytes), tensor.size_bytes()};
}

TEST_CASE("stored targets: a computation that ends early goes on where it stood, to the same bits") {
    Cpu<float> device(1);
    const TemporaryFolder folder;
    TargetParts none(folder / "none", {});
    const std::string whole = bytes_of(compute_in_parts(device, none, 0).values);
    for (Index first = 1; first <= 5; ++first) {
        const std::string kept = folder / ("kept" + std::to_string(first));
        for (const Index more : {first, Index{1}}) {  // interrupted twice
            TargetParts parts(kept, {{"of", "this"}});
            CHECK_THROWS_WITH_AS(compute_in_parts(device, parts, more), "interrupted", Error);
        }
        TargetParts parts(kept, {{"of", "this"}});
        CHECK(bytes_of(compute_in_parts(device, parts, 0).values) == whole);
        parts.remove();
        CHECK(!std::filesystem::exists(kept));
    }
}

TEST_CASE("stored targets: kept parts of something else, and damaged ones, are computed again") {
    Cpu<float> device(1);
    const TemporaryFolder folder;
    const auto begin = [&](const char* what) {
        TargetParts parts(folder / "kept", {{"of", what}}, 0);  // a part for each batch
        CHECK_THROWS_AS(compute_in_parts(device, parts, 4), Error);
    };
    const auto rows_kept = [&](const char* what) {
        TargetParts parts(folder / "kept", {{"of", what}});
        Index rows = 0;
        parts.restore(5, [&](Index, Index, const float*) { ++rows; });
        return rows;
    };
    begin("this");
    CHECK(rows_kept("this") == 16);
    CHECK(rows_kept("that") == 0);
    begin("this");
    std::string bytes = read_file(folder / "kept/part-1.safetensors");
    bytes.back() ^= 1;
    write_atomically(folder / "kept/part-1.safetensors", bytes);
    CHECK(rows_kept("this") == 4);
    CHECK(!std::filesystem::exists(folder / "kept/part-2.safetensors"));
}

TEST_CASE("stored targets: the fingerprint names what differs") {
    TrainingLoopConfig config;
    Fingerprint stored, now;
    add_views(stored, config);
    stored["weights of the teacher"] = "1234";
    add_views(now, config);
    CHECK(message(stored, now) == "");  // a run that loads no teacher compares none
    now["weights of the teacher"] = "5678";
    CHECK(message(stored, now).find("the weights of the teacher (\"1234\")") != std::string::npos);
    Fingerprint prepared = stored, clip = now;
    prepared["resolution"] = 8;
    prepared["preprocessing"] = "squash";
    CHECK(message(prepared, stored) == "");  // its teacher's images are the file's business
    clip["weights of the teacher"] = "1234";
    clip["resolution"] = 8;
    CHECK(message(prepared, clip).find("the preprocessing (\"squash\") is CLIP's in this run") != std::string::npos);
    config.seed = 2;
    Fingerprint other;
    add_views(other, config);
    CHECK(message(stored, other).find("the seed of the views (1) are not those of this run (2)") != std::string::npos);
    config.augmentation = Augmentation::none;
    Fingerprint plain;
    add_views(plain, config);
    CHECK(!plain.contains("seed of the views"));
    const Dataset all = patterns();
    CHECK(images_fingerprint(all, "root") == images_fingerprint(all, "root"));
    CHECK(images_fingerprint(all, "root") != images_fingerprint(take(all, 8), "root"));
    CHECK(images_fingerprint(all, "root") != images_fingerprint(subset(all, {1, 0, 2, 3, 4, 5, 6, 7, 8}), "root"));
    TensorMap a, b;
    a.tensors["x"] = make_tensor(std::vector<float>{1, 2, 3}, {3});
    b.tensors["x"] = make_tensor(std::vector<float>{1, 2, 4}, {3});
    CHECK(tensors_fingerprint(a) != tensors_fingerprint(b));
    Checksum short_text, long_text;
    short_text.add("a");
    long_text.add(std::string("a\0", 2));
    CHECK(short_text.text() != long_text.text());
}

}  // namespace targets_test
