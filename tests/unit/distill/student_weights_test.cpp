// SPDX-License-Identifier: Apache-2.0
#include "support/devices.hpp"

#include <promptkd/distill/closed_form/mixture.hpp>
#include <promptkd/distill/closed_form/student_weights.hpp>

#include <doctest/doctest.h>

namespace student_weights_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

using Values = std::vector<double>;

constexpr Index classes = 4;

/// Probabilities of n images.
Values random_probabilities(Index n, unsigned seed, double sharpness) {
    Cpu<double> host(1);
    return softmax_rows(host, numbers(n * classes, seed), classes, sharpness);
}

/// share·a + (1 − share)·b
Values blend(const Values& a, const Values& b, double share) {
    Values out(a.size());
    for (std::size_t i = 0; i < a.size(); ++i) out[i] = share * a[i] + (1 - share) * b[i];
    return out;
}

double log_likelihood(const Values& p, const std::array<Values, 3>& q, const PerStudent& v) {
    const Values mixed = detail::mix_students(q, v);
    double sum = 0;
    for (std::size_t i = 0; i < p.size(); ++i) sum += p[i] * std::log(mixed[i]);
    return sum;
}

}  // namespace

TEST_CASE("weights of three students: no others are likelier") {
    const Index n = 200;
    const Values p = random_probabilities(n, 1, 2);
    const std::array<Values, 3> q = {blend(p, random_probabilities(n, 2, 2), 0.3),
                                     blend(p, random_probabilities(n, 3, 2), 0.5),
                                     blend(p, random_probabilities(n, 4, 2), 0.6)};
    const StudentWeights w = fit_student_weights(p, q, classes);
    CHECK(w.likeliest[0] + w.likeliest[1] + w.likeliest[2] == doctest::Approx(1));
    CHECK(w.chosen[0] + w.chosen[1] + w.chosen[2] == doctest::Approx(1));
    const double best = log_likelihood(p, q, w.likeliest);
    for (double a = 0; a <= 1; a += 0.05)
        for (double b = 0; a + b <= 1; b += 0.05) CHECK(log_likelihood(p, q, {1 - a - b, a, b}) <= best + 1e-6);
    CHECK(w.chosen[1] == doctest::Approx(w.trust * w.likeliest[1]));
    CHECK(w.chosen[2] == doctest::Approx(w.trust * w.likeliest[2]));
}

TEST_CASE("weights of three students: few images, or students that are no better, change nothing") {
    const Values p = random_probabilities(5, 1, 2), z = blend(p, random_probabilities(5, 2, 2), 0.5);
    const std::array<Values, 3> few = {z, blend(p, random_probabilities(5, 3, 2), 0.55),
                                       blend(p, random_probabilities(5, 4, 2), 0.5)};
    const StudentWeights cautious = fit_student_weights(p, few, classes);
    CHECK(cautious.chosen[0] >= cautious.likeliest[0]);
    const Values many = random_probabilities(500, 5, 2);
    const std::array<Values, 3> worse = {many, random_probabilities(500, 6, 2), random_probabilities(500, 7, 2)};
    const StudentWeights w = fit_student_weights(many, worse, classes);
    CHECK(w.trust == 0);
    CHECK(w.chosen == PerStudent{1, 0, 0});
    const std::array<Values, 3> better = {random_probabilities(500, 6, 2), random_probabilities(500, 7, 2), many};
    CHECK(fit_student_weights(many, better, classes).chosen[2] > 0.95);
}

TEST_CASE("a mixture of three: probabilities, and where the adapted student does not count") {
    Cpu<double> host(1);
    const Index n = 3, width = 2;
    Mixture m;
    m.classes = classes;
    m.width = width;
    m.student_text = numbers(classes * width, 1);
    m.weight = 0.6;
    m.fitted = FittedStudent{};
    m.fitted->weight = 0.3;
    m.guard = Guard{width, 10, {0, 0}, {1, 0, 0, 1}, 1};
    const Values x = {0.1, 0.2, 30, 40, 1, 0.5};  // near, far, between
    const Values d = random_probabilities(n, 2, 1), r = random_probabilities(n, 3, 1);
    const MixturePrediction got = m.predict(host, d, x, r);
    const Values z = m.zero_shot(host, x);
    for (Index i = 0; i < n; ++i) {
        const double g = m.guard->weight(m.guard->distances(host, {x[2 * i], x[2 * i + 1]}).front());
        for (Index k = 0; k < classes; ++k) {
            const auto at = static_cast<std::size_t>(i * classes + k);
            const double want = (1 - g * 0.9) * z[at] + g * 0.3 * r[at] + g * 0.6 * d[at];
            CHECK(got.probabilities[at] == doctest::Approx(i == 1 ? z[at] : want).epsilon(1e-12));
        }
    }
    CHECK(got.weight[1] == 0);
    CHECK(!m.needs_student(host, {30, 40}));
    CHECK(m.needs_student(host, {30, 40, 0.1, 0.2}));
    m.weight = 0;
    CHECK(!m.needs_student(host, {0.1, 0.2}));
}

}  // namespace student_weights_test
