// SPDX-License-Identifier: Apache-2.0
// A student beside its zero-shot self: in a bundle and back, predicted with one or two passes of the encoder.
#include "support/temporary_folder.hpp"
#include "support/tiny_student.hpp"

#include <promptkd/evaluate/classifier.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <memory>

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

/// The identity (n, n).
std::vector<double> unit(std::size_t n) {
    std::vector<double> values(n * n);
    for (std::size_t i = 0; i < n; ++i) values[i * n + i] = 1;
    return values;
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
    CHECK(damaged([](TensorMap& b) { b.metadata.erase("requires"); }) ==
          "b: a mixture is there, but not required; the file is damaged");
    const auto guarded_by = [&](const std::vector<std::pair<std::size_t, double>>& changes) {
        return damaged([&](TensorMap& b) {
            const Index width = b.at("guard.precision").shape[0];
            std::vector<double> values = unit(static_cast<std::size_t>(width));
            for (const auto& [place, value] : changes) values[place] = value;
            b.tensors["guard.precision"] = make_tensor(std::move(values), {width, width});
        });
    };
    CHECK(guarded_by({{0, -1.0}}) == "b: 'guard.precision' has -1 on its diagonal, expected more than 0");
    CHECK(guarded_by({{1, 0.5}}) == "b: 'guard.precision' is not symmetric at row 1, column 0");
    CHECK(guarded_by({{1, 2.0}, {e_s, 2.0}}).find("beyond what its diagonal allows") != std::string::npos);
    CHECK(guarded_by({{1, 0.5}, {e_s, 0.5}}) == "no error");
    // A guard of another encoder.
    CHECK(damaged([](TensorMap& b) {
              b.tensors["mixture.student_text"] = make_tensor(std::vector<double>(classes * 5, 0.5), {classes, 5});
              b.tensors["guard.mean"] = make_tensor(std::vector<double>(5), {5});
              b.tensors["guard.precision"] = make_tensor(unit(5), {5, 5});
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

namespace {

/// A student whose encoder is trained so, with weights that differ from where they began.
template <class D>
std::unique_ptr<TinyStudent<D>> adapted_student(EncoderTraining training) {
    StudentConfig config = TinyStudent<D>::shape(2, 2, 2);
    config.training = training;
    config.lora.rank = 3;
    auto tiny = std::make_unique<TinyStudent<D>>(config);
    ParamSet<D>& params = tiny->student.params();
    for (const std::string& name : params.names())
        if (is_lora_name(name) || name.ends_with("mlp.c_fc.weight")) initialize_normal(params, name, 8, 0.2);
    return tiny;
}

/// A third student of no meaning beside tiny_mixture().
Mixture mixture_of_three(bool guarded) {
    Mixture mixture = tiny_mixture(guarded);
    mixture.weight = 0.5;
    FittedStudent r;
    r.hidden = random_hidden_layer(e_s, 16, 3);
    r.hidden.mean = as<double>(numbers(16, 61, 0.1));
    r.hidden.variance.assign(16, 0.7);
    r.output = {16, 7, numbers(16 * 7, 62), numbers(7, 63)};
    r.scale = 11;
    r.weight = 0.25;
    mixture.fitted = r;
    return mixture;
}

/// A guard to which of three images with raw features x the first and the last are known, the second strange.
Guard guard_against_second(const std::vector<double>& x) {
    std::vector<double> mean(e_s), across(e_s), apart(e_s);
    double along = 0, square = 0;
    for (std::size_t j = 0; j < e_s; ++j) {
        mean[j] = (x[j] + x[2 * e_s + j]) / 2;
        apart[j] = x[j] - x[2 * e_s + j];
        across[j] = x[e_s + j] - mean[j];
        along += apart[j] * across[j];
        square += apart[j] * apart[j];
    }
    for (std::size_t j = 0; j < e_s; ++j) across[j] -= along / square * apart[j];
    Guard guard{e_s, 40, mean, std::vector<double>(e_s * e_s), 0.5};
    for (std::size_t i = 0; i < e_s; ++i)
        for (std::size_t j = 0; j < e_s; ++j) guard.precision[i * e_s + j] = 1e6 * across[i] * across[j];
    return guard;
}

}  // namespace

TEST_CASE_TEMPLATE("LoRA: merged or apart, a bundle predicts what the student does", D, Cpu<float>, Cpu<double>) {
    using T = typename D::Scalar;
    const auto tiny = adapted_student<D>(EncoderTraining::lora);
    const std::vector<T> images = as<T>(numbers(3 * image_values, 40));
    const std::vector<T> want = tiny->features(images, 3);
    BundleParts parts = bundle_parts(tiny->student, tiny->model_map, tiny->class_vectors, tiny->class_names);
    const TensorMap apart = make_bundle(parts);
    CHECK(apart.metadata.at("requires") == R"(["lora"])");
    CHECK(apart.contains("lora.2.mlp.c_proj.B"));
    CHECK(student_config(read_bundle(apart)).lora.rank == 3);
    CHECK(student_config(read_bundle(apart)).training == EncoderTraining::lora);
    merge_lora(parts);
    const TensorMap merged = make_bundle(parts);
    CHECK(merged.metadata.count("requires") == 0);
    CHECK(!merged.contains("lora.2.mlp.c_proj.B"));
    for (const TensorMap* bundle : {&apart, &merged}) {
        Classifier<D> student(tiny->device, *bundle, 3);
        const Buffer<D, T> x(tiny->device, images);
        std::vector<T> got(want.size());
        tiny->device.download(got.data(), student.encode(x.data(), 3), got.size() * sizeof(T));
        CHECK(difference(got, std::vector<double>(want.begin(), want.end())) < std::max(1e-6, rounding<T>));
    }
    TensorMap other = apart;
    other.tensors["lora.2.mlp.c_proj.B"] = make_tensor(numbers(24, 1), {8, 3});
    CHECK_THROWS_WITH_AS(Classifier<D>(tiny->device, other, 1), doctest::Contains("belongs to another model"), Error);
    other.tensors["lora.2.mlp.c_proj.B"] = make_tensor(numbers(24, 1), {12, 2});
    CHECK_THROWS_WITH_AS(Classifier<D>(tiny->device, other, 1), doctest::Contains("low-rank update"), Error);
}

TEST_CASE_TEMPLATE("a mixture of three: from its bundle, whatever the batches", D, Cpu<float>, Cpu<double>) {
    using T = typename D::Scalar;
    const Index n = 3;
    const std::vector<T> images = as<T>(numbers(n * image_values, 40));
    for (const EncoderTraining training : {EncoderTraining::frozen, EncoderTraining::lora, EncoderTraining::full}) {
        const auto tiny = adapted_student<D>(training);
        const std::vector<double> x = encoded(*tiny, images, n, false);
        Mixture mixture = mixture_of_three(true);
        *mixture.guard = guard_against_second(x);
        const TensorMap bundle = bundle_of(*tiny, mixture);
        CHECK(bundle.contains("adapted.visual.conv1.weight") == (training == EncoderTraining::full));
        const BundleParts parts = read_bundle(bundle);
        CHECK(make_bundle(parts).metadata == bundle.metadata);
        CHECK(make_bundle(parts).tensors.size() == bundle.tensors.size());

        Cpu<double> host(1);
        const std::vector<T> u = tiny->features(images, n);
        FittedFeatures<D> fitted(tiny->device, *mixture.fitted, n);
        const Buffer<D, T> x_device(tiny->device, std::vector<T>(x.begin(), x.end()));
        std::vector<T> r(static_cast<std::size_t>(n * 7));
        tiny->device.download(r.data(), fitted.forward(Matrix<const T>(x_device.data(), n, e_s)).data,
                              r.size() * sizeof(T));
        const auto probabilities = [&](const std::vector<T>& features, double scale) {
            std::vector<double> all;
            for (Index i = 0; i < n; ++i) {
                std::vector<double> q(classes);
                for (Index k = 0; k < classes; ++k)
                    for (Index j = 0; j < 7; ++j)
                        q[static_cast<std::size_t>(k)] +=
                            scale * double(features[static_cast<std::size_t>(i * 7 + j)]) *
                            double(tiny->class_vectors[static_cast<std::size_t>(k * 7 + j)]);
                for (const double p : softmax(q)) all.push_back(p);
            }
            return all;
        };
        const std::vector<double> want =
            mixture.predict(host, probabilities(u, mixture.distilled_scale), x, probabilities(r, mixture.fitted->scale))
                .probabilities;
        Classifier<D> student(tiny->device, bundle, n);
        const Buffer<D, T> device_images(tiny->device, images);
        const std::vector<double> together = student.mix(device_images.data(), n).probabilities;
        CHECK(difference(together, want) < std::max(1e-6, 20 * rounding<T>));
        std::vector<double> alone;
        Classifier<D> one(tiny->device, bundle, 1);
        for (Index i = 0; i < n; ++i) {
            const MixturePrediction p = one.mix(device_images.data() + i * image_values, 1);
            CHECK((p.weight.front() == 0) == (i == 1));
            alone.insert(alone.end(), p.probabilities.begin(), p.probabilities.end());
        }
        CHECK(alone == together);
        CHECK(one.mixture_encoder().student_passes() == 2 + 1);  // planned once, and for the two near images
    }
}

TEST_CASE("a mixture of three: what does not fit is refused") {
    const auto tiny = adapted_student<Cpu<float>>(EncoderTraining::lora);
    const TensorMap good = bundle_of(*tiny, mixture_of_three(true));
    Cpu<float> device(1);
    CHECK(Classifier<Cpu<float>>(device, good, 1).is_mixed());
    TensorMap bad = good;
    bad.tensors.erase("fitted.weight");
    CHECK(refusal(bad).find("'fitted.weight' is missing") != std::string::npos);
    bad = good;
    bad.tensors["fitted.weight"] = make_tensor(std::vector<double>{0.9}, {});
    CHECK(refusal(bad).find("add up to more than 1") != std::string::npos);
    bad = good;
    bad.tensors["fitted.VPT_image_trans.conv1.3.weight"] = make_tensor(numbers(7 * 15, 1), {7, 15, 1, 1});
    CHECK(refusal(bad).find("fitted.VPT_image_trans.conv1.3.weight") != std::string::npos);
}

}  // namespace promptkd::test::mixture_test
