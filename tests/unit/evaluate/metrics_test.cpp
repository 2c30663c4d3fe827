// SPDX-License-Identifier: Apache-2.0
#include <promptkd/evaluate/metrics.hpp>
#include <promptkd/evaluate/metrics_json.hpp>

#include <doctest/doctest.h>

namespace metrics_test {

namespace {

using namespace promptkd;

TEST_CASE("metrics: a small example by hand") {
    // Class 0: 2 of 3 right; class 1: 1 of 2; class 2 absent but predicted once; class 3 absent.
    const Metrics m = compute_metrics({0, 0, 0, 1, 1}, {0, 0, 2, 1, 0}, 4);
    CHECK(m.n == 5);
    CHECK(m.accuracy == doctest::Approx(60));
    CHECK(m.error_rate == doctest::Approx(40));
    CHECK(m.per_class[0] == doctest::Approx(200.0 / 3));
    CHECK(m.per_class[1] == doctest::Approx(50));
    CHECK(m.mean_per_class == doctest::Approx((200.0 / 3 + 50) / 2));
    CHECK(m.macro_f1 == doctest::Approx(100 * (2.0 * 2 / (3 + 3) + 2.0 * 1 / (2 + 1)) / 2));
    CHECK(m.support == std::vector<Index>{3, 2, 0, 0});
    CHECK(m.confusion == std::vector<Index>{2, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
}

TEST_CASE("metrics: the F1 of a class that is never predicted is 0") {
    const Metrics m = compute_metrics({0, 1}, {0, 0}, 2);
    CHECK(m.macro_f1 == doctest::Approx(100 * (2.0 / 3) / 2));
}

TEST_CASE("metrics: impossible input is refused") {
    CHECK_THROWS_WITH_AS(compute_metrics({0}, {0, 1}, 2), doctest::Contains("1 labels but 2 predictions"), Error);
    CHECK_THROWS_WITH_AS(compute_metrics({}, {}, 2), doctest::Contains("no labelled image"), Error);
    CHECK_THROWS_WITH_AS(compute_metrics({0}, {0}, 0), doctest::Contains("at least one class"), Error);
    CHECK_THROWS_WITH_AS(compute_metrics({-1}, {0}, 2), doctest::Contains("label -1"), Error);
    CHECK_THROWS_WITH_AS(compute_metrics({0}, {2}, 2), doctest::Contains("prediction 2"), Error);
}

TEST_CASE("metrics: harmonic mean") {
    CHECK(harmonic_mean(0, 0) == 0);
    CHECK(harmonic_mean(50, 0) == 0);
    CHECK(harmonic_mean(60, 60) == doctest::Approx(60));
    CHECK(harmonic_mean(86.96, 80.73) == doctest::Approx(83.72927187071382).epsilon(1e-12));
}

TEST_CASE("metrics: JSON carries names, percentages and the count") {
    Metrics m = compute_metrics({0, 0, 2}, {0, 1, 2}, 3);
    const nlohmann::ordered_json json = to_json(m, {"T-shirt/top", "Trouser", "Pullover"});
    CHECK(json["n"] == 3);
    CHECK(json["accuracy"].get<double>() == doctest::Approx(200.0 / 3));
    CHECK(json["error_rate"].get<double>() == doctest::Approx(100.0 / 3));
    CHECK(json["per_class"].dump() == R"({"T-shirt/top":50.0,"Pullover":100.0})");
    CHECK(json.contains("macro_f1"));
    CHECK_FALSE(json.contains("unreadable"));
    m.unreadable = 2;
    CHECK(to_json(m, {"a", "b", "c"})["unreadable"] == 2);
    CHECK_THROWS_WITH_AS(to_json(m, {"a"}), doctest::Contains("1 class names for 3 classes"), Error);
}

}  // namespace

}  // namespace metrics_test
