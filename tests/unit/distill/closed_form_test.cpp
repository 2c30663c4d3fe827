// SPDX-License-Identifier: Apache-2.0
// The closed-form student on a case small enough to be written down: its numbers were computed by two other programs.
#include "support/devices.hpp"

#include <doctest/doctest.h>
#include <promptkd/distill/closed_form/predictor.hpp>

namespace promptkd::test::closed_form_test {

namespace {

constexpr Index N = 60, e_s = 5, e_t = 7, h = 12, K = 4;

std::vector<double> unit_rows(std::vector<double> x, Index width) {
    for (std::size_t first = 0; first < x.size(); first += static_cast<std::size_t>(width)) {
        double square = 0;
        for (Index j = 0; j < width; ++j)
            square += x[first + static_cast<std::size_t>(j)] * x[first + static_cast<std::size_t>(j)];
        for (Index j = 0; j < width; ++j) x[first + static_cast<std::size_t>(j)] /= std::sqrt(square);
    }
    return x;
}

/// f(i, j) for every element of a matrix.
template <class F>
std::vector<double> matrix(Index rows, Index columns, const F& f) {
    std::vector<double> x;
    for (Index i = 0; i < rows; ++i)
        for (Index j = 0; j < columns; ++j) x.push_back(f(static_cast<double>(i), static_cast<double>(j)));
    return x;
}

struct Case {
    ClassGeometry geometry;
    std::vector<double> x, t;
    HiddenLayer first;

    Case() {
        geometry.classes = K;
        geometry.teacher_scale = 12;
        geometry.student_scale = 4;
        geometry.class_vectors =
            unit_rows(matrix(K, e_t, [](double k, double j) { return std::cos(2.1 * k + 1.7 * j) + 0.3; }), e_t);
        geometry.student_text =
            unit_rows(matrix(K, e_s, [](double k, double j) { return std::sin(1.1 * k * (1 + j)) + 0.2; }), e_s);
        x = matrix(N, e_s, [&](double i, double j) {
            const auto y = static_cast<std::size_t>(i) % K;
            return 2 * geometry.student_text[y * e_s + static_cast<std::size_t>(j)] +
                   0.8 * std::sin(1.3 * i + 0.7 * j + 0.11 * i * j);
        });
        t = unit_rows(matrix(N, e_t,
                             [&](double i, double j) {
                                 const auto y = static_cast<std::size_t>(i) % K, row = static_cast<std::size_t>(i);
                                 return geometry.class_vectors[y * e_t + static_cast<std::size_t>(j)] +
                                        0.15 * std::cos(0.37 * i * (1 + j)) +
                                        0.25 * x[row * e_s + static_cast<std::size_t>(j) % e_s];
                             }),
                      e_t);
        const double root = std::sqrt(5.0);
        first = {e_s,
                 h,
                 matrix(e_s, h, [&](double j, double k) { return std::sin(1 + 3 * j + 7 * k + j * k) / root; }),
                 matrix(1, h, [&](double, double k) { return std::cos(k) / root; }),
                 {},
                 {}};
    }

    template <class T>
    FeaturesInMemory<T> features() const {
        return {std::vector<T>(x.begin(), x.end()), e_s, std::vector<T>(t.begin(), t.end()), e_t};
    }
    ClosedFormSpec spec() const {
        ClosedFormSpec spec;
        spec.first = first;
        spec.block = 16;
        return spec;
    }
};

double at(const std::vector<double>& x, Index i) { return x[static_cast<std::size_t>(i)]; }

}  // namespace

TEST_CASE_TEMPLATE("closed form: the numbers of the worked example", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    const Case c;
    const double fine = std::is_same_v<T, double> ? 2e-8 : 1e-4;  // the digits given
    CHECK(at(c.x, 0) == doctest::Approx(0.89442719).epsilon(1e-8));
    CHECK(at(c.x, 4) == doctest::Approx(1.16241771).epsilon(1e-8));
    const ClosedFormFit fit = fit_closed_form(device, c.spec(), c.features<T>(), c.geometry);
    CHECK(at(fit.hidden.mean, 0) == doctest::Approx(0.447189564).epsilon(fine));
    CHECK(at(fit.hidden.variance, 0) == doctest::Approx(0.548347842).epsilon(fine));
    const double divergences[] = {0.35759045, 0.35640398, 0.35300438, 0.34483901, 0.33113221, 0.31657398, 0.31958621,
                                  0.36464005, 0.45037012, 0.65560386, 0.98819905, 1.52393088, 1.94070160};
    REQUIRE(fit.divergences.size() == 13);
    for (Index j = 0; j < 13; ++j) CHECK(at(fit.divergences, j) == doctest::Approx(divergences[j]).epsilon(fine));
    CHECK(fit.rho == doctest::Approx(std::pow(10.0, -1.5)));
    CHECK(fit.lambda == doctest::Approx(0.650132064).epsilon(fine));
    CHECK(at(fit.ridge.weight, 0) == doctest::Approx(-0.0355932312).epsilon(fine * 10));
    CHECK(fit.eta == doctest::Approx(0.0210848252).epsilon(1e-7));
    CHECK(at(fit.output.weight, 0) == doctest::Approx(-0.00850665802).epsilon(fine * 40));
    CHECK(at(fit.output.weight, 11 * e_t + 6) == doctest::Approx(-0.108986853).epsilon(fine * 10));
    CHECK(at(fit.output.bias, 0) == doctest::Approx(0.334483740).epsilon(fine));
    CHECK(fit.temperature == doctest::Approx(0.69310104).epsilon(std::max(1e-6, fine)));
    CHECK(fit.weight.least == doctest::Approx(0.85));
    CHECK(fit.weight.chosen == doctest::Approx(0.48));
    REQUIRE(fit.guard);
    CHECK(fit.guard->cutoff == doctest::Approx(0.146942819).epsilon(fine));

    ClosedFormPredictor<D> predictor(device, fit, c.geometry, 2);
    std::vector<double> rows(c.x.begin(), c.x.begin() + e_s);
    for (const double value : {2.0, -3.0, 4.0, -1.0, 2.5}) rows.push_back(value);
    const Buffer<D, T> x(device, std::vector<T>(rows.begin(), rows.end()));
    const MixturePrediction p = predictor.predict(x.data(), 2);
    const double near[] = {0.68979843, 0.05573446, 0.06563010, 0.18883700};
    const double far[] = {0.42637926, 0.12307123, 0.42437536, 0.02617415};
    const double zero_shot[] = {0.73791133, 0.07004931, 0.08248434, 0.10955502};
    for (Index k = 0; k < K; ++k) {
        CHECK(at(p.probabilities, k) == doctest::Approx(near[k]).epsilon(std::max(1e-6, fine)));
        CHECK(at(p.probabilities, K + k) == doctest::Approx(far[k]).epsilon(std::max(1e-6, fine)));
        CHECK(at(p.zero_shot, k) == doctest::Approx(zero_shot[k]).epsilon(std::max(1e-6, fine)));
    }
    CHECK(at(p.student, 0) == doctest::Approx(0.50247437).epsilon(std::max(1e-7, fine)));
    CHECK(at(p.weight, 0) == doctest::Approx(0.204355744).epsilon(std::max(1e-7, fine)));
    CHECK(at(p.weight, 1) == doctest::Approx(0.00182336799).epsilon(std::max(1e-7, 4 * fine)));
    CHECK(at(p.distance, 1) > 1);
}

TEST_CASE("closed form: blocks and threads do not change it, parts can be added") {
    const Case c;
    Cpu<double> one(1), two(2);
    const ClosedFormFit a = fit_closed_form(one, c.spec(), c.features<double>(), c.geometry);
    const ClosedFormFit b = fit_closed_form(two, c.spec(), c.features<double>(), c.geometry);
    CHECK(a.output.weight == b.output.weight);
    CHECK(a.guard->precision == b.guard->precision);
    CHECK(a.temperature == b.temperature);
    ClosedFormSpec whole = c.spec();
    whole.block = 60;
    const ClosedFormFit w = fit_closed_form(one, whole, c.features<double>(), c.geometry);
    for (std::size_t i = 0; i < w.output.weight.size(); ++i)
        CHECK(w.output.weight[i] == doctest::Approx(a.output.weight[i]).epsilon(1e-9));

    MomentSums<Cpu<double>> first(one, e_s), second(one, e_s), both(one, e_s);
    first.add(c.x.data(), 20);
    second.add(c.x.data() + 20 * e_s, 40);
    both.add(c.x.data(), 20);
    both.add(c.x.data() + 20 * e_s, 40);
    FeatureMoments merged = first.result();
    merged.merge(second.result());
    CHECK(merged.images == 60);
    for (std::size_t i = 0; i < merged.square.size(); ++i)
        CHECK(merged.square[i] == doctest::Approx(both.result().square[i]).epsilon(1e-13));
}

TEST_CASE("closed form: features of logits give the logits back") {
    const Case c;
    Cpu<double> host(1);
    // Logits s·t·Wᵀ of the teacher: the least-norm features have the same directions as far as W can tell.
    std::vector<double> logits = detail::HostProduct{N, K, e_t, false, true}(host, c.t, c.geometry.class_vectors);
    for (double& value : logits) value *= c.geometry.teacher_scale;
    LogitFeatures features(host, c.geometry.class_vectors, K);
    std::vector<double> found = features.add({logits.begin(), logits.begin() + 7 * K});
    const std::vector<double> rest = features.add({logits.begin() + 7 * K, logits.end()});
    found.insert(found.end(), rest.begin(), rest.end());
    const std::vector<double> again =
        detail::HostProduct{N, K, e_t, false, true}(host, found, c.geometry.class_vectors);
    for (Index i = 0; i < N; ++i) {
        const double ratio = at(logits, i * K) / at(again, i * K);
        for (Index k = 0; k < K; ++k) CHECK(at(again, i * K + k) * ratio == doctest::Approx(at(logits, i * K + k)));
    }
    CHECK(features.scale() > 0);
    CHECK(features.scale() < c.geometry.teacher_scale);  // what W cannot tell is gone
    CHECK_THROWS_WITH_AS(features.add(std::vector<double>(K, 0)), doctest::Contains("image 60"), Error);
}

TEST_CASE("closed form: what cannot be fitted is refused") {
    const Case c;
    Cpu<double> device(1);
    const auto fit = [&](std::vector<double> x, std::vector<double> t) {
        fit_closed_form(device, c.spec(), FeaturesInMemory<double>(std::move(x), e_s, std::move(t), e_t), c.geometry);
    };
    CHECK_THROWS_WITH_AS(fit({c.x.begin(), c.x.begin() + e_s}, {c.t.begin(), c.t.begin() + e_t}),
                         doctest::Contains("give at least 2"), Error);
    CHECK_THROWS_WITH_AS(fit(std::vector<double>(N * e_s, 1.0), c.t), doctest::Contains("are equal"), Error);
    std::vector<double> broken = c.t;
    broken[8] = std::nan("");
    CHECK_THROWS_WITH_AS(fit(c.x, broken), doctest::Contains("feature of the teacher is not finite"), Error);
    std::vector<double> infinite = c.x;
    infinite[3] = INFINITY;
    CHECK_THROWS_WITH_AS(fit(infinite, c.t), doctest::Contains("feature of the student is not finite"), Error);
}

}  // namespace promptkd::test::closed_form_test
