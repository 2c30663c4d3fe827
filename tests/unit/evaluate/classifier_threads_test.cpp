// SPDX-License-Identifier: Apache-2.0
#include "support/sanitizer.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_student.hpp"

#include <promptkd/evaluate/classifier_pool.hpp>

#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <thread>
#include <type_traits>

namespace classifier_threads_test {

namespace {

using namespace promptkd;
using namespace promptkd::test;

using D = Cpu<float>;

TensorMap bundle_of(const TinyStudent<D>& tiny) {
    return make_bundle(bundle_parts(tiny.student, tiny.model_map, tiny.class_vectors, tiny.class_names));
}

/// Images of several sizes, no two alike.
std::vector<Image> pictures(Index n) {
    std::vector<Image> images;
    for (Index i = 0; i < n; ++i) {
        Image image(8 + i % 5, 9 + i % 3);
        const std::vector<double> values = numbers(3 * image.height * image.width, static_cast<unsigned>(200 + i));
        for (std::size_t p = 0; p < image.pixels.size(); ++p)
            image.pixels[p] = static_cast<std::uint8_t>(static_cast<int>(128 + 120 * values[p]) & 255);
        images.push_back(image);
    }
    return images;
}

/// f(i) for i < n, each in a thread of its own, all at the same time.
template <class F>
void in_threads(int n, const F& f) {
    std::vector<std::thread> threads;
    for (int i = 0; i < n; ++i) threads.emplace_back([&f, i] { f(i); });
    for (std::thread& thread : threads) thread.join();
}

TEST_CASE("classifier: images of any size, in batches, are classified as one by one") {
    TinyStudent<D> tiny;
    const std::vector<Image> images = pictures(7);
    Classifier<D> single(tiny.device, bundle_of(tiny));
    Classifier<D> batched(tiny.device, bundle_of(tiny), 3);
    const std::vector<float> p = batched.classify(images);
    REQUIRE(p.size() == 7 * 4);
    for (std::size_t i = 0; i < 7; ++i) {
        const std::vector<float> one = single.classify({&images[i], 1});
        CHECK(difference(one, std::vector<double>(p.begin() + 4 * i, p.begin() + 4 * i + 4)) < 1e-6);
        const std::vector<ClassProbability> top = single.top_k(images[i], 2);
        REQUIRE(top.size() == 2);
        CHECK(top[0].probability >= top[1].probability);
        CHECK(static_cast<float>(top[0].probability) == *std::max_element(one.begin(), one.end()));
    }
    CHECK(batched.classify({}).empty());
    CHECK(single.top_k(images[0], 99).size() == 4);
    CHECK(error_of([&] { single.top_k(images[0], 0); }) ==
          "the 0 most likely classes were asked for; ask for one at least");
}

TEST_CASE("classifiers: several threads with one copy of the weights") {
    TinyStudent<D> tiny;
    const auto weights = std::make_shared<const ClassifierWeights<D>>(tiny.device, read_bundle(bundle_of(tiny)), 2);
    const std::vector<Image> images = pictures(5);
    const std::vector<float> want = Classifier<D>(tiny.device, weights).classify(images);
    std::atomic<int> wrong{0};
    in_threads(4, [&](int) {
        D device(1);
        Classifier<D> mine(device, weights);
        for (int round = 0; round < 20; ++round)
            if (mine.classify(images) != want) ++wrong;
    });
    CHECK(wrong == 0);
}

TEST_CASE("classifiers: threads that share a device beside one that loads models") {
    TinyStudent<D> tiny;
    const TensorMap bundle = bundle_of(tiny);
    const std::vector<Image> images = pictures(4);
    const std::vector<float> want = Classifier<D>(tiny.device, bundle, 2).classify(images);
    std::atomic<int> wrong{0};
    in_threads(3, [&](int i) {
        for (int round = 0; round < 15; ++round) {
            Classifier<D> mine(tiny.device, bundle, 2, i == 2 ? WeightStorage::packed : WeightStorage::native);
            if (i != 2 && mine.classify(images) != want) ++wrong;
        }
    });
    CHECK(wrong == 0);
}

TEST_CASE("classifier pool: more threads than classifiers, the answers of one") {
    TinyStudent<D> tiny;
    const TensorMap bundle = bundle_of(tiny);
    const std::vector<Image> images = pictures(6);
    Classifier<D> alone(tiny.device, bundle, 2, WeightStorage::packed);
    const std::vector<float> want = alone.classify(images);
    const std::string best = alone.top_k(images[1], 1).front().name;
    const ClassifierPool<D> pool(bundle, {2, 1, 2});
    CHECK(pool.callers() == 2);
    CHECK(pool.class_names() == tiny.class_names);
    std::atomic<int> wrong{0};
    in_threads(5, [&](int) {
        for (int round = 0; round < 20; ++round) {
            if (pool.classify(images) != want) ++wrong;
            if (pool.top_k(images[1], 1).front().name != best) ++wrong;
        }
    });
    CHECK(wrong == 0);
}

TEST_CASE("classifier pool: after an error its classifier is free again") {
    TinyStudent<D> tiny;
    const ClassifierPool<D> pool(bundle_of(tiny), {1, 1, 1});
    const Image image = pictures(1).front();
    for (int i = 0; i < 3; ++i) CHECK(error_of([&] { pool.top_k(image, -2); }).find("-2 most likely") == 4);
    CHECK(pool.top_k(image, 1).size() == 1);
}

TEST_CASE("classifier pool: what cannot be made is an error") {
    TinyStudent<D> tiny;
    const TensorMap bundle = bundle_of(tiny);
    CHECK(error_of([&] { ClassifierPool<D>(bundle, {-1, 1, 1}); }).find("a pool for -1 callers") == 0);
    CHECK(error_of([&] { ClassifierPool<D>(bundle, {1, 1, 0}); }).find("a largest batch of 0 images") == 0);
    CHECK(error_of([&] { ClassifierPool<D>({}, bundle, {1, 1, 1}); }) == "a ClassifierPool needs a device at least");
    CHECK(error_of([&] { Classifier<D>(tiny.device, std::shared_ptr<const ClassifierWeights<D>>()); }) ==
          "a Classifier without weights");
}

TEST_CASE("sole use: a second user is an error, one after the other is not") {
    SoleUse use;
    {
        const SoleUse::Scope first(use, "a thing", "take turns");
        CHECK(error_of([&] { const SoleUse::Scope second(use, "a thing", "take turns"); }) ==
              "a thing is used by two threads at the same time: take turns");
    }
    CHECK(error_of([&] { const SoleUse::Scope next(use, "a thing", "take turns"); }) == "no error");
}

TEST_CASE("classifier: batches that are none, null images and NaN pixels are errors") {
    TinyStudent<D> tiny;
    const TensorMap bundle = bundle_of(tiny);
    for (const Index batch : {Index{0}, Index{-1}})
        CHECK(error_of([&] { Classifier<D>(tiny.device, bundle, batch); }) ==
              concat("a largest batch of ", batch, " images; it holds one at least"));
    Classifier<D> classifier(tiny.device, bundle, 2);
    CHECK(error_of([&] { classifier.probabilities(nullptr, 1); }) == "the images of a batch are a null pointer");
    CHECK(error_of([&] { classifier.encode(nullptr, -1); }) == "a batch of -1 images");
    std::vector<float> pixels = as<float>(numbers(2 * 3 * 8 * 8, 5));
    pixels.back() = std::numeric_limits<float>::quiet_NaN();
    const Buffer<D, float> images(tiny.device, pixels);
    CHECK(error_of([&] { classifier.probabilities(images.data(), 2); }) ==
          "the student makes NaN or infinity of image 1 of the batch; its pixels or its weights are not finite");
    CHECK(error_of([&] { classifier.probabilities(images.data(), 1); }) == "no error");
}

TEST_CASE("classifier: images whose pixels are too few are errors") {
    TinyStudent<D> tiny;
    Classifier<D> classifier(tiny.device, bundle_of(tiny));
    Image image(10, 10);
    image.pixels.resize(200);
    CHECK(error_of([&] { classifier.top_k(image, 1); }) ==
          "preprocess_image: an image of 10x10 (height x width) has 200 bytes of pixels, three are needed for each");
    image.pixels.resize(300);
    image.alpha.resize(7);
    CHECK(error_of([&] { classifier.top_k(image, 1); }).find("has 7 values of opacity") != std::string::npos);
    CHECK(error_of([&] { classifier.top_k(Image(), 1); }) == "preprocess_image: the image is empty");
    image.height = -10;
    image.width = -10;
    CHECK(error_of([&] { classifier.top_k(image, 1); }) == "preprocess_image: the image is empty");
}

TEST_CASE("classifier: images that another thread has prepared get the same answers") {
    TinyStudent<D> tiny;
    Classifier<D> classifier(tiny.device, bundle_of(tiny), 2);
    const std::vector<Image> images = pictures(5);
    std::vector<Image> prepared;
    for (const Image& image : images) prepared.push_back(preprocess_image(image, classifier.preprocessing()));
    const std::vector<float> want = classifier.classify(images);
    const std::vector<Classification> found = classifier.judge_prepared(prepared, 99);
    REQUIRE(found.size() == images.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
        REQUIRE(found[i].top.size() == classifier.class_names().size());
        for (const ClassProbability& one : found[i].top) {
            const auto& names = classifier.class_names();
            const auto k = static_cast<std::size_t>(std::find(names.begin(), names.end(), one.name) - names.begin());
            CHECK(one.probability == doctest::Approx(want[i * names.size() + k]));
        }
        CHECK(found[i].top.front().probability >= found[i].top.back().probability);
    }
    CHECK(classifier.judge_prepared({}, 1).empty());
    CHECK(error_of([&] { classifier.judge_prepared(std::vector<Image>{Image(9, 8)}, 1); }) ==
          "a prepared image of 9x8 (height x width), the encoder takes 8x8");
    prepared[0].pixels.resize(7);
    CHECK(error_of([&] { classifier.judge_prepared(prepared, 1); }).find("has 7 bytes of pixels") != std::string::npos);
}

TEST_CASE("lifetimes: what would point to something gone does not compile") {
    using Model = ClipModel<D>;
    CHECK_FALSE(std::is_constructible_v<FrozenImageTower<D>, D&, Model, const TensorMap*, Index>);
    CHECK(std::is_constructible_v<FrozenImageTower<D>, D&, const Model&, const TensorMap*, Index>);
    CHECK_FALSE(std::is_constructible_v<Student<D>, D&, Model, const StudentConfig&, Index>);
    CHECK_FALSE(std::is_move_constructible_v<Model>);
    CHECK_FALSE(std::is_move_constructible_v<FrozenImageTower<D>>);
    CHECK_FALSE(std::is_move_constructible_v<Student<D>>);
    CHECK_FALSE(std::is_move_assignable_v<Student<D>>);
    CHECK_FALSE(std::is_move_constructible_v<Classifier<D>>);
    CHECK_FALSE(std::is_move_constructible_v<ClassifierWeights<D>>);
}

#if !defined(PROMPTKD_THREAD_SANITIZER)  // which allows no threads in the child of a process with threads
TEST_CASE("classifier: works in the child of a fork") {
    TinyStudent<D> tiny;
    D device(3);
    Classifier<D> classifier(device, bundle_of(tiny));
    const Image image = pictures(1).front();
    const double want = classifier.top_k(image, 1).front().probability;
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(20);
        ::_exit(classifier.top_k(image, 1).front().probability == want ? 0 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
}
#endif

}  // namespace

}  // namespace classifier_threads_test
