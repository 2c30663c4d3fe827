// SPDX-License-Identifier: Apache-2.0
// A student beside its zero-shot self: in a bundle and back, predicted with one or two passes of the encoder.
#include "support/temporary_folder.hpp"
#include "support/tiny_student.hpp"

#include <promptkd/evaluate/classifier.hpp>

#include <doctest/doctest.h>

#include <cmath>

namespace promptkd::test::mixture_test {

namespace {

constexpr Index image_values = 3 * 8 * 8, e_s = 6, classes = 4;

/// A mixture for TinyStudent: V and Γ of no meaning, a guard at whose cutoff some images are near and some far.
Mixture tiny_mixture(bool guarded, MixtureFeatures features = MixtureFeatures::plain) {
    Mixture mixture;
    mixture.classes = classes;
    mixture.width = e_s;
    mixture.student_text = numbers(classes * e_s, 51);
    normalize_rows(mixture.student_text, e_s);
    mixture.zero_shot_scale = std::exp(2.5);
    mixture.temperature = 0.8;
    mixture.distilled_scale = 9;
    mixture.weight = 0.7;
    mixture.features = features;
    if (!guarded) return mixture;
    Guard guard{e_s, 40, numbers(e_s, 52, 0.1), std::vector<double>(e_s * e_s), 0.5};
    for (Index i = 0; i < e_s; ++i) guard.precision[static_cast<std::size_t>(i * e_s + i)] = 0.1 + 0.02 * double(i);
    mixture.guard = guard;
    return mixture;
}

template <class D>
TensorMap bundle_of(const TinyStudent<D>& tiny, const Mixture& mixture) {
    BundleParts parts = bundle_parts(tiny.student, tiny.model_map, tiny.class_vectors, tiny.class_names);
    parts.mixture = mixture;
    const TemporaryFolder folder;
    write_safetensors(folder / "s", make_bundle(parts));
    return read_safetensors(folder / "s");
}

/// Raw features (n, e_s) of the student's encoder with or without its prompts.
template <class D>
std::vector<double> encoded(TinyStudent<D>& tiny, const std::vector<typename D::Scalar>& images, Index n,
                            bool prompted) {
    using T = typename D::Scalar;
    TensorMap learned;
    tiny.student.save(learned);
    FrozenImageTower<D> tower(tiny.device, tiny.model, prompted ? &learned : nullptr, n);
    const Buffer<D, T> x(tiny.device, images);
    std::vector<T> found(static_cast<std::size_t>(n * e_s));
    tiny.device.download(found.data(), tower.encode_raw(x.data(), n), found.size() * sizeof(T));
    return {found.begin(), found.end()};
}

std::vector<double> softmax(std::vector<double> q) {
    double total = 0;
    for (double& v : q) total += v = std::exp(v);
    for (double& v : q) v /= total;
    return q;
}

std::string refusal(const TensorMap& bundle) {
    Cpu<float> device(1);
    return error_of([&] { Classifier<Cpu<float>>(device, bundle, 1); });
}

}  // namespace

TEST_CASE_TEMPLATE("mixture: a bundle predicts the weighted sum of both students", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    const std::vector<T> images = as<T>(numbers(3 * image_values, 40));
    for (const Index prompts : {0, 2})
        for (const MixtureFeatures kind : {MixtureFeatures::plain, MixtureFeatures::prompted})
            for (const bool guarded : {false, true}) {
                TinyStudent<D> tiny(TinyStudent<D>::shape(prompts, prompts > 0 ? 2 : 0, 2));
                const Mixture mixture = tiny_mixture(guarded, kind);
                Classifier<D> classifier(tiny.device, bundle_of(tiny, mixture), 3);
                REQUIRE(classifier.is_mixed());
                const Buffer<D, T> device_images(tiny.device, images);
                const MixturePrediction p = classifier.mix(device_images.data(), 3);
                const std::vector<T> u = tiny.features(images, 3);
                const bool prompted = kind == MixtureFeatures::prompted && prompts > 0;
                const std::vector<double> x = encoded(tiny, images, 3, prompted);
                const std::vector<T> total = classifier.probabilities(device_images.data(), 3);
                for (std::size_t i = 0; i < 3; ++i) {
                    std::vector<double> kd(classes), zs(classes);
                    double norm = 0;
                    for (std::size_t j = 0; j < e_s; ++j) norm += x[i * e_s + j] * x[i * e_s + j];
                    for (std::size_t k = 0; k < classes; ++k) {
                        for (std::size_t j = 0; j < 7; ++j)
                            kd[k] += 9 * static_cast<double>(u[7 * i + j]) *
                                     static_cast<double>(tiny.class_vectors[7 * k + j]);
                        for (std::size_t j = 0; j < e_s; ++j)
                            zs[k] += 0.8 * std::exp(2.5) * x[i * e_s + j] * mixture.student_text[k * e_s + j] /
                                     std::sqrt(norm);
                    }
                    kd = softmax(kd);
                    zs = softmax(zs);
                    double w = 0.7;
                    if (guarded) {
                        double l = 1 / 40.0;
                        for (std::size_t j = 0; j < e_s; ++j)
                            l += std::pow(x[i * e_s + j] - mixture.guard->mean[j], 2) * (0.1 + 0.02 * double(j));
                        CHECK(p.distance[i] == doctest::Approx(l / 0.5).epsilon(1e-4));
                        w /= 1 + std::pow(l / 0.5, 4);
                    }
                    CHECK(p.weight[i] == doctest::Approx(w).epsilon(1e-3));
                    for (std::size_t k = 0; k < classes; ++k) {
                        const double want = w * kd[k] + (1 - w) * zs[k];
                        CHECK(p.probabilities[classes * i + k] == doctest::Approx(want).epsilon(1e-3));
                        CHECK(static_cast<double>(total[classes * i + k]) == doctest::Approx(want).epsilon(1e-3));
                    }
                }
            }
}

TEST_CASE("mixture: it comes back from a bundle as it was, and is required of its reader") {
    const TinyStudent<Cpu<float>> tiny;
    const Mixture mixture = tiny_mixture(true, MixtureFeatures::prompted);
    const TensorMap bundle = bundle_of(tiny, mixture);
    CHECK(bundle.metadata.at("requires") == R"(["mixture","guard"])");
    const BundleParts parts = read_bundle(bundle);
    REQUIRE(parts.mixture);
    CHECK(parts.required.empty());
    CHECK(parts.mixture->student_text == mixture.student_text);
    CHECK(parts.mixture->temperature == 0.8);
    CHECK(parts.mixture->zero_shot_scale == doctest::Approx(std::exp(2.5)));
    CHECK(parts.mixture->distilled_scale == 9);
    CHECK(parts.mixture->weight == 0.7);
    CHECK(parts.mixture->features == MixtureFeatures::prompted);
    REQUIRE(parts.mixture->guard);
    CHECK(parts.mixture->guard->mean == mixture.guard->mean);
    CHECK(parts.mixture->guard->precision == mixture.guard->precision);
    CHECK(parts.mixture->guard->cutoff == 0.5);
    CHECK(parts.mixture->guard->images == 40);
    const TensorMap again = make_bundle(parts);
    CHECK(again.metadata == bundle.metadata);
    CHECK(again.tensors.size() == bundle.tensors.size());
}

TEST_CASE("mixture: bundles that are damaged or not of one student are refused") {
    const TinyStudent<Cpu<float>> tiny;
    const auto damaged = [&](const auto& change) {
        TensorMap bundle = bundle_of(tiny, tiny_mixture(true));
        bundle.source = "b";
        change(bundle);
        return refusal(bundle);
    };
    const auto scalar = [](double value) { return make_tensor(std::vector<double>{value}, {}); };
    CHECK(damaged([](TensorMap&) {}) == "no error");
    for (const char* name : {"mixture.student_text", "mixture.temperature", "mixture.weight", "mixture.distilled_scale",
                             "guard.mean", "guard.precision", "guard.images"})
        CHECK(damaged([&](TensorMap& b) { b.tensors.erase(name); }) == concat("b: tensor '", name, "' is missing"));
    CHECK(damaged([](TensorMap& b) { b.tensors.erase("guard.cutoff"); }) ==
          "b: a guard is required, but 'guard.cutoff' is missing");
    CHECK(damaged([](TensorMap& b) { b.metadata["requires"] = R"(["mixture"])"; }) ==
          "b: a guard is there, but not required; the file is damaged");
    CHECK(damaged([](TensorMap& b) { b.metadata["mixture_features"] = "both"; }) ==
          "b: metadata 'mixture_features' is 'both', expected plain or prompted");
    CHECK(damaged([&](TensorMap& b) { b.tensors["mixture.weight"] = scalar(1.5); }) ==
          "b: 'mixture.weight' is 1.5, expected 0 to 1");
    CHECK(damaged([&](TensorMap& b) { b.tensors["guard.cutoff"] = scalar(0); }) ==
          "b: 'guard.cutoff' is 0, expected more than 0");
    for (const char* name : {"mixture.temperature", "guard.cutoff", "mixture.weight"})
        CHECK(damaged([&](TensorMap& b) { b.tensors[name] = scalar(std::nan("")); }) ==
              concat("b: '", name, "' holds a value that is not finite"));
    // A guard of another encoder.
    CHECK(damaged([](TensorMap& b) {
              b.tensors["mixture.student_text"] = make_tensor(std::vector<double>(classes * 5, 0.5), {classes, 5});
              b.tensors["guard.mean"] = make_tensor(std::vector<double>(5), {5});
              b.tensors["guard.precision"] = make_tensor(std::vector<double>(25), {5, 5});
          }).find("the guard reads features of 5 values, but this student's encoder makes 6") != std::string::npos);
    CHECK(damaged([](TensorMap& b) {
              b.tensors["mixture.student_text"] = make_tensor(std::vector<double>(3 * e_s, 0.5), {3, e_s});
          }) == "b: 'mixture.student_text' has shape (3, 6) for 4 class names");
}

TEST_CASE("bundle: a projector wider than the class vectors is read from its shapes") {
    StudentConfig config = TinyStudent<Cpu<float>>::shape(0, 0, 2);
    config.hidden = 11;
    TinyStudent<Cpu<float>> tiny(config);
    const TensorMap bundle =
        make_bundle(bundle_parts(tiny.student, tiny.model_map, tiny.class_vectors, tiny.class_names));
    CHECK(bundle.at("VPT_image_trans.conv1.0.weight").shape == Shape{11, 6, 1, 1});
    CHECK(student_config(read_bundle(bundle)).hidden == 11);
    Classifier<Cpu<float>> classifier(tiny.device, bundle, 2);
    CHECK(!classifier.is_mixed());
    const std::vector<float> images = as<float>(numbers(2 * image_values, 41));
    const Buffer<Cpu<float>, float> x(tiny.device, images);
    const float* found = classifier.encode(x.data(), 2);
    CHECK(std::vector<float>(found, found + 14) == tiny.features(images, 2));
}

}  // namespace promptkd::test::mixture_test
