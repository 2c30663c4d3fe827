// SPDX-License-Identifier: Apache-2.0
// KDPL: its loss against a plain loop and finite differences, and the gradients of every learner that it trains.
#include "support/tiny_clip.hpp"

#include <promptkd/distill/knowledge.hpp>
#include <promptkd/learner/registry.hpp>

#include <doctest/doctest.h>

namespace promptkd::test::kdpl_test {

namespace {

using Values = std::vector<double>;

/// ½KL(p_t ‖ p_s) + ½KL(p_s ‖ p_t) of rows of the classes that count, averaged.
double plain_loss(const Values& teacher, const Values& student, std::size_t classes, std::size_t counted) {
    const std::size_t rows = teacher.size() / classes;
    double loss = 0;
    for (std::size_t i = 0; i < rows; ++i) {
        double total_t = 0, total_s = 0;
        for (std::size_t k = 0; k < counted; ++k) {
            total_t += std::exp(teacher[i * classes + k]);
            total_s += std::exp(student[i * classes + k]);
        }
        for (std::size_t k = 0; k < counted; ++k) {
            const double t = std::exp(teacher[i * classes + k]) / total_t,
                         s = std::exp(student[i * classes + k]) / total_s;
            loss += 0.5 * (t - s) * std::log(t / s) / static_cast<double>(rows);
        }
    }
    return loss;
}

/// Loss and gradient of the operation.
template <class D>
std::pair<double, Values> found(D& device, const Values& teacher, const Values& student, Index classes) {
    using T = typename D::Scalar;
    const Index rows = static_cast<Index>(teacher.size()) / classes;
    const Buffer<D, T> qt(device, as<T>(teacher)), qs(device, as<T>(student));
    Buffer<D, T> gradient(device, rows * classes), loss(device, 1);
    Arena<D> arena(device);
    const Workspace<D> w{device, arena};
    const auto run = [&] {
        arena.reset();
        symmetric_distillation_loss(w, qt.matrix(rows, classes), qs.matrix(rows, classes),
                                    gradient.matrix(rows, classes), loss.data());
    };
    arena.plan(run);
    run();
    const std::vector<T> g = gradient.to_host();
    return {static_cast<double>(loss.to_host().front()), Values(g.begin(), g.end())};
}

}  // namespace

TEST_CASE_TEMPLATE("KDPL's loss: value and gradient, with classes left out", D, PROMPTKD_TEST_DEVICES) {
    D device = make_device<D>();
    constexpr Index classes = 11;
    const bool exact = std::is_same_v<typename D::Scalar, double>;
    for (const std::size_t counted : {std::size_t{11}, std::size_t{6}}) {
        Values teacher = numbers(3 * classes, 31, 3.0);
        const Values student = numbers(3 * classes, 32, 2.0);
        for (std::size_t i = 0; i < teacher.size(); ++i)
            if (i % classes >= counted) teacher[i] += leave_out;
        const std::pair<double, Values> result = found(device, teacher, student, classes);
        const double loss = result.first;
        const Values& gradient = result.second;
        CHECK(loss == doctest::Approx(plain_loss(teacher, student, classes, counted)).epsilon(exact ? 1e-12 : 1e-4));
        for (std::size_t i = 0; i < student.size(); ++i) {
            Values up = student, down = student;
            up[i] += 1e-6;
            down[i] -= 1e-6;
            const double slope =
                (plain_loss(teacher, up, classes, counted) - plain_loss(teacher, down, classes, counted)) / 2e-6;
            CHECK(std::abs(gradient[i] - slope) < (exact ? 1e-8 : 1e-4));
            if (i % classes >= counted) CHECK(std::abs(gradient[i]) < 1e-30);
        }
    }
}

TEST_CASE("KDPL: gradients of every learner") {
    using D = Cpu<double>;
    D device = make_device<D>();
    const ClipModel<D> model(device, tiny_clip());
    const TokenRows texts{{18, 1, 1, 3, 19, 0, 0, 0, 18, 1, 1, 4, 19, 0, 0, 0, 18, 1, 1, 5, 19, 0, 0, 0}, 3, 8};
    const Buffer<D, double> images(device, numbers(3 * 3 * 8 * 8, 20)), teacher(device, numbers(9, 21, 2.0));
    for (const LearnerInfo& info : learners()) {
        CAPTURE(info.name);
        Recipe recipe = published_recipe(info.name, 16);
        recipe.text = recipe.text > 0 ? 2 : 0;
        recipe.visual = recipe.visual > 0 ? 2 : 0;
        recipe.depth = std::min<Index>(recipe.depth, 2);
        recipe.options["lora-dropout"] = 0;  // another function in every step otherwise
        const FrozenClip<D> clip{device, model, nullptr};
        const auto learner = make_learner(info.name, clip, recipe, {}, 3);
        learner->initialize(1, {});
        for (const std::string& name : learner->params().names()) initialize_normal(learner->params(), name, 2, 0.3);
        LearnerTexts<double> prompts;
        const ContextLayout layout =
            recipe.text > 0 ? ContextLayout::after_start(3, 2) : ContextLayout::after_start(3, 0);
        prompts.prompts = {texts, layout};
        const Values frozen = numbers(3 * model.text().embed(), 22);
        if (info.name == "promptsrc" || info.name == "kgcoop") prompts.frozen = frozen;
        TrainerOptions<D> options;
        options.max_batch = 3;
        const auto trainer = make_trainer(info.name, clip, *learner, prompts, recipe, options);
        ImitatingTrainer<D> imitating(*trainer);
        const auto loss = [&] {
            imitating.params().clear_gradients();
            imitating.accumulate(images.data(), teacher.data(), 3);
            return trainer->loss();
        };
        loss();
        std::map<std::string, Values> gradients;
        for (const std::string& name : learner->params().names())
            gradients[name] = learner->params().gradients_of(name);
        for (const std::string& name : learner->params().names()) {
            const Values values = learner->params().values_of(name);
            const std::size_t step = std::max<std::size_t>(1, values.size() / 5);
            for (std::size_t i = 0; i < values.size(); i += step) {
                Values moved = values;
                moved[i] += 1e-5;
                learner->params().set(name, moved);
                const double up = loss();
                moved[i] -= 2e-5;
                learner->params().set(name, moved);
                const double slope = (up - loss()) / 2e-5;
                learner->params().set(name, values);
                CAPTURE(name);
                CHECK(gradients[name][i] == doctest::Approx(slope).epsilon(1e-4).scale(1e-3));
            }
        }
    }
}

TEST_CASE("KDPL: of a vocabulary the most probable names of a batch count") {
    using D = Cpu<double>;
    D device = make_device<D>();
    const ClipModel<D> model(device, tiny_clip());
    const Index embed = model.vision().embed();
    const Values vectors = numbers(6 * embed, 24);
    const Buffer<D, double> images(device, numbers(2 * 3 * 8 * 8, 25));
    const auto teacher = [&](Index top) {
        auto live = std::make_unique<LiveTeachers<D>>(device, TeacherGives::logits, 2);
        live->add(model, nullptr, vectors);
        return KnowledgeTeacher<D>(device, std::move(live), {2, 0.5, top});
    };
    KnowledgeTeacher<D> all = teacher(0), some = teacher(2);
    const double* q = all.targets(images.data(), 2);
    const Values every(q, q + 12);
    const double* p = some.targets(images.data(), 2);
    const Values chosen(p, p + 12);
    std::vector<double> mean(6, 0);
    for (std::size_t i = 0; i < 2; ++i) {
        double total = 0;
        for (std::size_t k = 0; k < 6; ++k) total += std::exp(every[i * 6 + k]);
        for (std::size_t k = 0; k < 6; ++k) mean[k] += std::exp(every[i * 6 + k]) / total;
    }
    std::vector<double> sorted = mean;
    std::sort(sorted.rbegin(), sorted.rend());
    for (std::size_t i = 0; i < 12; ++i) {
        if (mean[i % 6] >= sorted[1])
            CHECK(chosen[i] == every[i]);
        else
            CHECK(chosen[i] < left_out_below);
    }
    CHECK(!some.recordable());
    CHECK_THROWS_WITH_AS(teacher(7), doctest::Contains("the 7 most probable names of 6"), Error);
}

}  // namespace promptkd::test::kdpl_test
