// SPDX-License-Identifier: Apache-2.0
#include "support/tiny_clip.hpp"

#include <promptkd/clip/class_vectors.hpp>
#include <promptkd/distill/distiller.hpp>
#include <promptkd/distill/teachers.hpp>

#include <doctest/doctest.h>

#include <map>

namespace distiller_test {

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
    LiveTeachers<D> teacher;
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
        : teacher(device, given_by_teachers(settings.kd), 3),
          student(device, student_model, shape(config), 3),
          distiller(student, {vectors(9), vectors(10)}, settings) {
        teacher.add(teacher_model, nullptr, vectors(9));
        student.initialize(1);
        for (const std::string& name : student.params().names())  // prompts of 0.02 would hardly show
            if (name.rfind("image_encoder.", 0) == 0) initialize_normal(student.params(), name, 2, 0.5);
    }

    double loss() {
        distiller.params().clear_gradients();
        distiller.accumulate(images.data(), target(), 3);
        return distiller.loss();
    }
    const T* target() { return teacher.targets(images.data(), 3); }
    void step() { distiller.step(images.data(), target(), 3, 0.01); }
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
            c.kd = kd;
            c.temperature = 1.5;
            c.kd_weight = 3;
            c.stay_close = close == 0 ? 0 : 2;
            c.stay_close_to = close == 2 ? StayCloseTo::logits : StayCloseTo::features;
            all.push_back({kd == KdLoss::logits ? "logits" : kd == KdLoss::l1 ? "l1" : "mse", c});
        }
    return all;
}

}  // namespace

TEST_CASE("distillation objectives: gradients of every parameter against finite differences") {
    StudentConfig shape;
    shape.prompts = 2;
    shape.depth = 3;
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
        for (const auto& entry : gradients) {
            const std::string& name = entry.first;
            const auto& gradient = entry.second;
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
    shape.prompts = 2;
    shape.depth = 3;
    for (const Variant& v : variants()) {
        CAPTURE(v.name);
        Fixture<D> f(shape, v.settings);
        Fixture<Cpu<double>> reference(shape, v.settings);
        CHECK(difference(Values{f.loss()}, {reference.loss()}) < 1e-4);
    }
    DistillationConfig c;
    c.kd = KdLoss::mse;
    c.kd_weight = 7;
    Fixture<D> f(shape, c);
    const double loss = f.loss();
    std::vector<typename D::Scalar> u(18), t(18);
    f.device.download(u.data(), f.distiller.student_features().data, u.size() * sizeof u[0]);
    f.device.download(t.data(), f.target(), t.size() * sizeof t[0]);
    double square = 0, absolute = 0;
    for (std::size_t i = 0; i < u.size(); ++i) {
        const double d = static_cast<double>(u[i]) - static_cast<double>(t[i]);
        square += d * d;
        absolute += std::abs(d);
    }
    CHECK(difference(Values{loss}, {7 * square / 18}) < 1e-5);
    c.kd = KdLoss::l1;
    CHECK(difference(Values{Fixture<D>(shape, c).loss()}, {7 * absolute / 18}) < 1e-5);
}

TEST_CASE("distillation: stored targets are the live teacher's, step for step") {
    StudentConfig shape;
    shape.prompts = 2;
    shape.depth = 3;
    for (const KdLoss kd : {KdLoss::logits, KdLoss::mse}) {
        DistillationConfig c;
        c.kd = kd;
        Fixture<Cpu<float>> live(shape, c), stored(shape, c);
        const float* target = live.target();
        const std::vector<float> host(target, target + 3 * live.distiller.target_size());
        for (int step = 0; step < 3; ++step) {
            live.step();
            stored.distiller.step(stored.images.data(), host.data(), 3, 0.01);
            CHECK(live.distiller.loss() == stored.distiller.loss());
        }
        for (const std::string& name : live.student.params().names())
            CHECK(live.student.params().values_of(name) == stored.student.params().values_of(name));
    }
}

namespace {

/// Some entries of every gradient of the encoder's parameters whose names `chosen` takes, against finite differences.
template <class Chosen>
void check_encoder_gradients(Fixture<Cpu<double>>& f, const Chosen& chosen) {
    ParamSet<Cpu<double>>& params = f.student.params();
    f.loss();
    std::map<std::string, Values> gradients;
    for (const std::string& name : params.names())
        if (chosen(name)) gradients[name] = params.gradients_of(name);
    CHECK(gradients.size() > 20);
    for (const auto& entry : gradients) {
        const std::string& name = entry.first;
        const auto& gradient = entry.second;
        CAPTURE(name);
        const Values start = params.values_of(name);
        Values some, picked;
        const std::size_t stride = std::max<std::size_t>(1, start.size() / 11);
        for (std::size_t i = 0; i < start.size(); i += stride) {
            some.push_back(start[i]);
            picked.push_back(gradient[i]);
        }
        const auto at = [&](const Values& x) {
            Values all = start;
            for (std::size_t i = 0, k = 0; i < all.size(); i += stride) all[i] = x[k++];
            params.set(name, all);
            return f.loss();
        };
        double largest = 0;
        for (const double g : gradient) largest = std::max(largest, std::abs(g));
        CHECK(largest > 0);
        const Values want = numeric_gradient(some, at, 1e-4);
        params.set(name, start);
        double worst = 0;
        for (std::size_t k = 0; k < want.size(); ++k) worst = std::max(worst, std::abs(picked[k] - want[k]));
        CHECK(worst < 1e-6 * largest + 1e-9);
    }
}

}  // namespace

TEST_CASE("full fine-tuning: gradients of every encoder weight against finite differences") {
    for (const Index prompts : {0, 2}) {
        StudentConfig shape;
        shape.prompts = prompts;
        shape.depth = 2;
        shape.training = EncoderTraining::full;
        DistillationConfig c;
        c.kd_weight = 3;
        c.stay_close = prompts > 0 ? 2 : 0;  // without prompts |v − v₀| stands on its kink
        Fixture<Cpu<double>> f(shape, c);
        CHECK(f.student.params().contains("visual.conv1.weight"));
        check_encoder_gradients(f, [](const std::string& name) { return schema::is_image_weight(name); });
    }
}

TEST_CASE("LoRA: gradients of every update against finite differences, prompts in place") {
    for (const bool separate : {false, true}) {
        StudentConfig shape;
        shape.prompts = 2;
        shape.depth = 2;
        shape.training = EncoderTraining::lora;
        shape.lora.rank = 3;
        shape.lora.scale = 0.7;
        shape.lora.separate_parts = separate;
        DistillationConfig c;
        c.kd_weight = 3;
        Fixture<Cpu<double>> f(shape, c);
        for (const std::string& name : f.student.params().names())  // B = 0 would hide A
            if (is_lora_name(name)) initialize_normal(f.student.params(), name, 5, 0.3);
        check_encoder_gradients(f, is_lora_name);
    }
}

TEST_CASE_TEMPLATE("LoRA begins as the frozen encoder, and trains nothing else of it", D, Cpu<float>,
                   EmulatedCuda<float>, EmulatedCuda<float, bf16>) {
    StudentConfig shape;
    shape.prompts = 2;
    shape.depth = 3;
    Fixture<D> frozen(shape, {});
    shape.training = EncoderTraining::lora;
    shape.lora.rank = 2;
    Fixture<D> lora(shape, {});
    CHECK(frozen.loss() == lora.loss());
    for (const std::string& name : frozen.student.params().names()) {
        CAPTURE(name);
        CHECK(frozen.student.params().gradients_of(name) == lora.student.params().gradients_of(name));
    }
    for (const std::string& name : lora.student.params().names()) {
        CAPTURE(name);
        const bool known = frozen.student.params().contains(name);
        CHECK(known != is_lora_name(name));
    }
    for (int step = 0; step < 2; ++step) lora.step();
    double moved = 0;
    for (const auto value : lora.student.params().values_of("lora.0.attn.in_proj.B"))
        moved += std::abs(static_cast<double>(value));
    CHECK(moved > 0);
}

TEST_CASE_TEMPLATE("full fine-tuning leaves everything else as it is", D, Cpu<float>, EmulatedCuda<float>) {
    StudentConfig shape;
    shape.prompts = 2;
    shape.depth = 3;
    Fixture<D> frozen(shape, {});
    shape.training = EncoderTraining::full;
    Fixture<D> full(shape, {});
    CHECK(frozen.loss() == full.loss());
    for (const std::string& name : frozen.student.params().names()) {
        CAPTURE(name);
        CHECK(frozen.student.params().gradients_of(name) == full.student.params().gradients_of(name));
    }
    TensorMap saved;
    full.student.save(saved);
    CHECK(saved.at("visual.proj").shape == Shape{12, 6});
    for (int step = 0; step < 2; ++step) full.step();
    FrozenImageTower<D> before(frozen.device, frozen.student_model, nullptr, 3),
        after(full.device, full.student_model, nullptr, 3);
    std::vector<typename D::Scalar> a(18), b(18);
    frozen.device.download(a.data(), before.encode(frozen.images.data(), 3), a.size() * sizeof a[0]);
    full.device.download(b.data(), after.encode(full.images.data(), 3), b.size() * sizeof b[0]);
    CHECK(a == b);  // the pretrained model that it started from
    const double trained = full.loss();
    full.student.load(saved);
    CHECK(full.loss() != trained);
    CHECK(full.loss() == frozen.loss());
}

TEST_CASE_TEMPLATE("recomputed activations: the same gradients to the last bit, less memory", D, Cpu<float>,
                   EmulatedCuda<float>, EmulatedCuda<float, bf16>) {
    for (const EncoderTraining training : {EncoderTraining::frozen, EncoderTraining::lora, EncoderTraining::full}) {
        if (training == EncoderTraining::full && !std::is_same_v<typename D::Activation, typename D::Scalar>) continue;
        StudentConfig shape;
        shape.prompts = 2;
        shape.depth = 3;
        shape.training = training;
        shape.lora.rank = 2;
        Fixture<D> kept(shape, {});
        shape.recompute = true;
        Fixture<D> again(shape, {});
        for (int step = 0; step < 2; ++step) {
            kept.step();
            again.step();
            CHECK(kept.distiller.loss() == again.distiller.loss());
        }
        for (const std::string& name : kept.student.params().names()) {
            CAPTURE(name);
            CHECK(kept.student.params().gradients_of(name) == again.student.params().gradients_of(name));
        }
        CHECK(again.distiller.arena_bytes() < kept.distiller.arena_bytes());
    }
}

}  // namespace distiller_test
