// SPDX-License-Identifier: Apache-2.0
// Towers of every family as teachers and as students.
#include "support/tiny_towers.hpp"

#include <promptkd/clip/class_vectors.hpp>
#include <promptkd/distill/distiller.hpp>
#include <promptkd/distill/teachers.hpp>

#include <doctest/doctest.h>

#include <map>

namespace towers_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

using Values = std::vector<double>;

/// A student on a tower of one kind, whose teacher is CLIP's or a tower of that kind as well; five classes.
template <class D>
struct Fixture {
    using T = typename D::Scalar;
    D device = make_device<D>();
    ClipModel<D> teacher_model, student_model;
    LiveTeachers<D> teacher{device, TeacherGives::logits, 3};
    Student<D> student;
    Distiller<D> distiller;
    Buffer<D, T> images;

    std::vector<T> vectors(unsigned seed, Index embed) const {
        std::vector<T> rows = as<T>(numbers(5 * embed, seed));
        normalize_rows(rows, embed);
        return rows;
    }
    StudentConfig shape(bool full) const {
        StudentConfig config;
        config.prompts = 2;
        config.depth = 3;
        config.embed = teacher_model.vision().embed();
        config.training = full ? EncoderTraining::full : EncoderTraining::frozen;
        return config;
    }

    Fixture(const TensorMap& teacher_map, const TensorMap& student_map, bool full = false)
        : teacher_model(device, teacher_map),
          student_model(device, student_map),
          student(device, student_model, shape(full), 3),
          distiller(student, {vectors(9, teacher_model.vision().embed()), {}}, {}),
          images(device, as<T>(numbers(3 * 3 * side() * side(), 20))) {
        teacher.add(teacher_model, nullptr, vectors(9, teacher_model.vision().embed()));
        student.initialize(1);
    }
    Index side() const { return student_model.vision().resolution(); }

    const T* target() { return teacher.targets(images.data(), 3); }
    double loss() {
        distiller.params().clear_gradients();
        distiller.accumulate(images.data(), target(), 3);
        return distiller.loss();
    }
    /// The losses of some steps.
    Values train() {
        Values losses;
        for (int i = 0; i < 12; ++i) {
            losses.push_back(loss());
            distiller.step(images.data(), target(), 3, 5e-4);
        }
        return losses;
    }
};

/// CLIP's tower of images that a tower of this kind sees, too.
TensorMap partner(const std::string& kind) { return kind == "siglip" ? tiny_tower("siglip") : tiny_clip("exact", 5); }

}  // namespace

TEST_CASE("towers of every kind teach and learn, on every device alike") {
    for (const std::string& kind : tower_kinds) {
        CAPTURE(kind);
        const Values learns = Fixture<Cpu<float>>(partner(kind), tiny_tower(kind)).train();
        CHECK(learns.back() < learns.front());
        CHECK(difference(Fixture<EmulatedCuda<float>>(partner(kind), tiny_tower(kind)).train(), learns) < 1e-3);
        const Values taught = Fixture<Cpu<float>>(tiny_tower(kind), partner(kind)).train();
        CHECK(taught.back() < taught.front());
    }
}

TEST_CASE("towers of other kinds: gradients of all weights where they are trained") {
    for (const char* kind :
         {"post-norm", "swiglu", "rotation", "mean", "mean of norms", "layer scale", "no class token", "bare"}) {
        CAPTURE(kind);
        Fixture<Cpu<double>> f(partner(kind), tiny_tower(kind), true);
        ParamSet<Cpu<double>>& params = f.student.params();
        f.loss();
        std::map<std::string, Values> gradients;
        for (const std::string& name : params.names())
            if (schema::is_image_weight(name)) gradients[name] = params.gradients_of(name);
        CHECK(gradients.size() >= 40);
        for (const auto& entry : gradients) {
            const std::string& name = entry.first;
            const Values& gradient = entry.second;
            CAPTURE(name);
            const Values start = params.values_of(name);
            Values x = start, few, want;
            for (std::size_t i = 0; i < x.size(); i += std::max<std::size_t>(1, x.size() / 5)) {
                const auto at = [&](double step) {
                    x[i] = start[i] + step;
                    params.set(name, x);
                    x[i] = start[i];
                    return f.loss();
                };
                want.push_back((at(1e-4) - at(-1e-4)) / 2e-4);
                few.push_back(gradient[i]);
            }
            params.set(name, start);
            want.push_back(1);  // a gradient that BatchNorm makes zero is compared with 1
            few.push_back(1);
            CHECK(difference(few, want) < 1e-5);
        }
    }
}

}  // namespace towers_test
