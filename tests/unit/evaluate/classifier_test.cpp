// SPDX-License-Identifier: Apache-2.0
#include "support/temporary_folder.hpp"
#include "support/tiny_student.hpp"

#include <promptkd/evaluate/classifier.hpp>

#include <doctest/doctest.h>

#include <numeric>

namespace classifier_test {

namespace {

using namespace promptkd;
using namespace promptkd::test;

constexpr Index image_values = 3 * 8 * 8;

template <class D>
TensorMap bundle_of(const TinyStudent<D>& tiny) {
    const TemporaryFolder folder;
    write_bundle(folder / "s", tiny.student, tiny.model_map, tiny.class_vectors, tiny.class_names);
    return read_safetensors(folder / "s");
}

TEST_CASE_TEMPLATE("classifier: a student written and read gives its features to the last bit", D,
                   PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    TinyStudent<D> tiny;
    const std::vector<T> images = as<T>(numbers(3 * image_values, 40));
    const std::vector<T> want = tiny.features(images, 3);
    Classifier<D> classifier(tiny.device, bundle_of(tiny), 3);
    CHECK(classifier.class_names() == tiny.class_names);
    CHECK(classifier.class_vectors() == tiny.class_vectors);
    CHECK(classifier.classes() == 4);
    CHECK(classifier.resolution() == 8);
    CHECK(classifier.embed() == 7);
    CHECK(classifier.max_batch() == 3);
    Buffer<D, T> x(tiny.device, images);
    std::vector<T> got(3 * 7);
    tiny.device.download(got.data(), classifier.encode(x.data(), 3), got.size() * sizeof(T));
    CHECK(got == want);
    for (int row = 0; row < 3; ++row) {
        double square = 0;
        for (int j = 0; j < 7; ++j)
            square += std::pow(static_cast<double>(got[static_cast<std::size_t>(7 * row + j)]), 2);
        CHECK(square == doctest::Approx(1));
    }
}

TEST_CASE_TEMPLATE("classifier: probabilities are the softmax of scaled cosines", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    TinyStudent<D> tiny;
    const std::vector<T> images = as<T>(numbers(2 * image_values, 41));
    const std::vector<T> u = tiny.features(images, 2);
    Classifier<D> classifier(tiny.device, bundle_of(tiny), 2);
    Buffer<D, T> x(tiny.device, images);
    std::vector<double> want;
    for (std::size_t i = 0; i < 2; ++i) {
        std::vector<double> q(4, 0.0);
        for (std::size_t c = 0; c < 4; ++c) {
            for (std::size_t j = 0; j < 7; ++j)
                q[c] += static_cast<double>(u[7 * i + j]) * static_cast<double>(tiny.class_vectors[7 * c + j]);
            q[c] = std::exp(tiny.student.logit_scale() * q[c]);
        }
        const double total = std::accumulate(q.begin(), q.end(), 0.0);
        for (const double e : q) want.push_back(e / total);
    }
    CHECK(difference(classifier.probabilities(x.data(), 2), want) < 10 * rounding<T>);
}

TEST_CASE_TEMPLATE("classifier: how images are divided into batches does not matter", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    TinyStudent<D> tiny;
    const TensorMap bundle = bundle_of(tiny);
    const std::vector<T> images = as<T>(numbers(5 * image_values, 42));
    Buffer<D, T> x(tiny.device, images);
    Classifier<D> whole(tiny.device, bundle, 5);
    const std::vector<T> at_once = whole.probabilities(x.data(), 5);
    const std::vector<double> want(at_once.begin(), at_once.end());
    for (const WeightStorage storage : {WeightStorage::native, WeightStorage::packed})
        for (const Index batch : {1, 2, 5}) {
            Classifier<D> parts(tiny.device, bundle, batch, storage);
            std::vector<T> got;
            for (Index first = 0; first < 5; first += batch) {
                const std::vector<T> p =
                    parts.probabilities(x.data() + first * image_values, std::min<Index>(batch, 5 - first));
                got.insert(got.end(), p.begin(), p.end());
            }
            CHECK(difference(got, want) < 10 * rounding<T>);
        }
}

TEST_CASE("classifier: a student of a projector alone") {
    using D = Cpu<float>;
    TinyStudent<D> tiny(TinyStudent<D>::shape(0, 0, 1));
    const std::vector<float> images = as<float>(numbers(image_values, 43));
    Classifier<D> classifier(tiny.device, bundle_of(tiny));
    Buffer<D, float> x(tiny.device, images);
    std::vector<float> got(7);
    tiny.device.download(got.data(), classifier.encode(x.data(), 1), got.size() * sizeof(float));
    CHECK(got == tiny.features(images, 1));
}

TEST_CASE("classifier: more images than planned are refused") {
    using D = Cpu<float>;
    TinyStudent<D> tiny;
    Classifier<D> classifier(tiny.device, bundle_of(tiny), 2);
    CHECK_THROWS_WITH_AS(classifier.encode(nullptr, 3), "a batch of 3 images, but 2 were planned", Error);
}

TEST_CASE("classifier: bundles whose parts are missing or do not fit") {
    using D = Cpu<float>;
    TinyStudent<D> tiny;
    const TensorMap whole = bundle_of(tiny);
    const auto refusal = [&](auto&& change) {
        TensorMap bundle = whole;
        bundle.source = "b.safetensors";
        change(bundle);
        return error_of([&] { Classifier<D>(tiny.device, bundle); });
    };
    CHECK(refusal([](TensorMap&) {}) == "no error");
    // Without any one of its tensors it is another student at best, never a wrong one: deeper prompts and further
    // layers of the projector may end early, the logit scale and everything else are missed.
    for (const auto& named : whole.tensors) {
        const std::string& name = named.first;
        if (name == "image_encoder.VPT" || name.find("VPT_shallow") != std::string::npos ||
            name.find("num_batches_tracked") != std::string::npos || name == "VPT_image_trans.conv1.3.weight")
            continue;
        if (name.find("running_") != std::string::npos) continue;  // both together may be absent: those of a fresh one
        const std::string key = name.rfind("clip.", 0) == 0 ? name.substr(5) : name;
        const std::string message = refusal([&](TensorMap& b) { b.tensors.erase(name); });
        CHECK_MESSAGE(message.rfind("b.safetensors: ", 0) == 0, name);
        CHECK_MESSAGE(message != "no error", name);
    }
    CHECK(refusal([](TensorMap& b) { b.tensors.erase("VPT_image_trans.conv1.1.running_mean"); }) ==
          "b.safetensors: tensor 'VPT_image_trans.conv1.1.running_mean' is missing");
    const std::string shape = refusal([](TensorMap& b) {
        b.tensors["class_vectors"] = make_tensor(std::vector<float>(4 * 5, 0.5f), {4, 5});
    });
    CHECK(shape.find("b.safetensors") != std::string::npos);
    CHECK(shape.find("VPT_image_trans") != std::string::npos);
    CHECK(refusal([](TensorMap& b) { b.metadata["format"] = "other"; }).find("not a student bundle") !=
          std::string::npos);
    CHECK(refusal([](TensorMap& b) { b.metadata["requires"] = R"(["telepathy"])"; }).find("'telepathy'") !=
          std::string::npos);
}

}  // namespace

}  // namespace classifier_test
