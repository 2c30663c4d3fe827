// SPDX-License-Identifier: Apache-2.0
#include "support/tiny_clip.hpp"

#include <promptkd/train/class_vectors.hpp>
#include <promptkd/train/distiller.hpp>

#include <doctest/doctest.h>

#include <map>

using namespace promptkd;
using namespace promptkd::test;

namespace {

using Values = std::vector<double>;

/// A tiny student of a tiny teacher, both random: three images, five classes, embeddings of 6.
template <class D>
struct Fixture {
    using T = typename D::Scalar;
    D device = make_device<D>();
    ClipModel<D> teacher_model{device, tiny_clip("quick", 5)}, student_model{device, tiny_clip()};
    FrozenImageTower<D> teacher{device, teacher_model, nullptr, 3};
    Student<D> student;
    Distiller<D> distiller;
    Buffer<D, T> images{device, as<T>(numbers(3 * 3 * 8 * 8, 20))};

    static StudentConfig shape(StudentConfig config) {
        config.embed = 6;
        return config;
    }
    static std::vector<T> vectors(unsigned seed) {
        std::vector<T> rows = as<T>(numbers(5 * 6, seed));
        normalize_rows(rows, 6);
        return rows;
    }

    Fixture(const StudentConfig& config, const DistillationConfig& settings)
        : student(device, student_model, shape(config), 3),
          distiller(student, &teacher, vectors(9), settings, 0, vectors(10)) {
        student.initialize(1);
        for (const std::string& name : student.params().names())  // prompts of 0.02 would hardly show
            if (name.rfind("image_encoder.", 0) == 0) initialize_normal(student.params(), name, 2, 0.5);
    }

    double loss() {
        distiller.accumulate(images.data(), distiller.teacher_target(images.data(), 3), 3, true);
        return distiller.loss();
    }
};

struct Variant {
    const char* name;
    DistillationConfig settings;
};

std::vector<Variant> variants() {
    std::vector<Variant> all;
    for (const KdLoss kd : {KdLoss::logits, KdLoss::l1, KdLoss::mse})
        for (const int close : {0, 1, 2}) {
            DistillationConfig c;
            c.kd = kd, c.temperature = 1.5, c.kd_weight = 3, c.stay_close = close == 0 ? 0 : 2;
            c.stay_close_to = close == 2 ? StayCloseTo::logits : StayCloseTo::features;
            all.push_back({kd == KdLoss::logits ? "logits" : kd == KdLoss::l1 ? "l1" : "mse", c});
        }
    return all;
}

}  // namespace

TEST_CASE("distillation objectives: gradients of every parameter against finite differences") {
    StudentConfig shape;
    shape.prompts = 2, shape.depth = 3;
    for (const Variant& v : variants()) {
        CAPTURE(v.name);
        CAPTURE(v.settings.stay_close);
        CAPTURE(static_cast<int>(v.settings.stay_close_to));
        Fixture<Cpu<double>> f(shape, v.settings);
        ParamSet<Cpu<double>>& params = f.student.params();
        f.loss();
        std::map<std::string, Values> gradients;
        for (const std::string& name : params.names()) gradients[name] = params.gradients_of(name);
        gradients.erase("VPT_image_trans.conv1.0.bias");  // BatchNorm removes it
        for (const auto& [name, gradient] : gradients) {
            CAPTURE(name);
            const Values start = params.values_of(name);
            const auto at = [&](const Values& x) {
                params.set(name, x);
                return f.loss();
            };
            CHECK(difference(gradient, numeric_gradient(start, at, 1e-4)) < 1e-6);
            params.set(name, start);
        }
    }
}

TEST_CASE_TEMPLATE("distillation objectives: what each is", D, Cpu<float>, EmulatedCuda<float>) {
    StudentConfig shape;
    shape.prompts = 2, shape.depth = 3;
    for (const Variant& v : variants()) {
        CAPTURE(v.name);
        Fixture<D> f(shape, v.settings);
        Fixture<Cpu<double>> reference(shape, v.settings);
        CHECK(difference(Values{f.loss()}, {reference.loss()}) < 1e-4);
    }
    DistillationConfig c;
    c.kd = KdLoss::mse, c.kd_weight = 7;
    Fixture<D> f(shape, c);
    const double loss = f.loss();
    std::vector<typename D::Scalar> u(18), t(18);
    f.device.download(u.data(), f.distiller.student_features(), u.size() * sizeof u[0]);
    f.device.download(t.data(), f.teacher.encode(f.images.data(), 3), t.size() * sizeof t[0]);
    double square = 0, absolute = 0;
    for (std::size_t i = 0; i < u.size(); ++i) {
        const double d = static_cast<double>(u[i]) - static_cast<double>(t[i]);
        square += d * d, absolute += std::abs(d);
    }
    CHECK(difference(Values{loss}, {7 * square / 18}) < 1e-5);
    c.kd = KdLoss::l1;
    CHECK(difference(Values{Fixture<D>(shape, c).loss()}, {7 * absolute / 18}) < 1e-5);
}

TEST_CASE("distillation: stored targets are the live teacher's, step for step") {
    StudentConfig shape;
    shape.prompts = 2, shape.depth = 3;
    for (const KdLoss kd : {KdLoss::logits, KdLoss::mse}) {
        DistillationConfig c;
        c.kd = kd;
        Fixture<Cpu<float>> live(shape, c), stored(shape, c);
        const float* target = live.distiller.teacher_target(live.images.data(), 3);
        const std::vector<float> host(target, target + 3 * live.distiller.target_size());
        for (int step = 0; step < 3; ++step) {
            live.distiller.step(live.images.data(), 3, 0.01);
            stored.distiller.step_with_target(stored.images.data(), host.data(), 3, 0.01);
            CHECK(live.distiller.loss() == stored.distiller.loss());
        }
        for (const std::string& name : live.student.params().names())
            CHECK(live.student.params().values_of(name) == stored.student.params().values_of(name));
    }
}
