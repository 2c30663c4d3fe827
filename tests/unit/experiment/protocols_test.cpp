// SPDX-License-Identifier: Apache-2.0
#include <promptkd/data/benchmark_table.hpp>
#include <promptkd/evaluate/metrics.hpp>
#include <promptkd/experiment/protocols.hpp>
#include <promptkd/experiment/published.hpp>
#include <promptkd/experiment/recipes.hpp>

#include <doctest/doctest.h>

#include <cmath>

namespace protocols_test {

using namespace promptkd;

TEST_CASE("published: the rows average to the printed averages") {
    const double averages[6][3] = {{69.34, 74.22, 71.70}, {82.69, 63.22, 71.66}, {80.47, 71.69, 75.83},
                                   {82.28, 75.14, 78.55}, {84.26, 76.10, 79.97}, {86.96, 80.73, 83.73}};
    for (int m = 0; m < 6; ++m) {
        const auto method = static_cast<PublishedMethod>(m);
        CAPTURE(name_of(method));
        double base = 0, novel = 0;
        int n = 0;
        for (const BenchmarkInfo& benchmark : benchmarks()) {
            const auto row = published_accuracy(benchmark.name, method);
            if (!row) continue;
            CAPTURE(benchmark.name);
            base += row->base;
            novel += row->novel;
            ++n;
            const bool odd = method == PublishedMethod::promptkd &&
                             (benchmark.name == "stanford_cars" || benchmark.name == "ucf101");
            CHECK(std::abs(harmonic_mean(row->base, row->novel) - row->harmonic_mean) < (odd ? 0.3 : 0.011));
        }
        CHECK(n == 11);
        CHECK(std::abs(base / n - averages[m][0]) < 0.0151);
        CHECK(std::abs(novel / n - averages[m][1]) < 0.0151);
        CHECK(std::abs(harmonic_mean(averages[m][0], averages[m][1]) - averages[m][2]) < 0.0151);
    }
    CHECK_FALSE(published_accuracy("imagenetv2", PublishedMethod::clip));
    CHECK_FALSE(published_cross_dataset(PublishedMethod::clip));
    CHECK(published_cross_dataset(PublishedMethod::promptkd).value() == 71.33);
    CHECK(published_domain_generalization(PublishedMethod::promptkd).value() == 71.47);
    CHECK_FALSE(published_domain_generalization(PublishedMethod::maple));
}

TEST_CASE("protocols: names and published recipes") {
    for (int i = 0; i < 4; ++i) {
        const auto protocol = static_cast<Protocol>(i);
        CHECK(parse_protocol(name_of(protocol)) == protocol);
    }
    CHECK_THROWS_WITH_AS(parse_protocol("all"), doctest::Contains("cross-dataset"), Error);
    const auto recipe = [](Protocol p, const char* learner, const char* data, LearnerRole role = LearnerRole::alone) {
        return protocol_recipe(p, learner, 16, data, role);
    };
    const Recipe teacher = recipe(Protocol::base_to_novel, "promptsrc", "dtd", LearnerRole::teacher);
    CHECK(teacher.lr == 0.005);
    CHECK(teacher.batch == 8);
    CHECK(teacher.option("gaussian-mean") == 15);
    CHECK(recipe(Protocol::base_to_novel, "promptsrc", "dtd").lr == 0.0025);
    const Recipe cross = recipe(Protocol::cross_dataset, "promptsrc", "imagenet");
    CHECK(cross.depth == 3);
    CHECK(cross.option("gaussian-mean") == 6);
    CHECK(cross.option("gaussian-deviation") == 10);
    const Recipe few = recipe(Protocol::few_shot, "promptsrc", "food101"),
                 late = recipe(Protocol::few_shot, "promptsrc", "eurosat");
    CHECK(few.epochs == 50);
    CHECK(few.option("gaussian-mean") == 30);
    CHECK(late.option("gaussian-mean") == 45);
    CHECK(late.option("gaussian-deviation") == 5);
    const Recipe maple = recipe(Protocol::domain_generalization, "maple", "imagenet");
    CHECK(maple.epochs == 2);
    CHECK(maple.lr == 0.0026);
    CHECK(maple.depth == 3);
    CHECK(recipe(Protocol::few_shot, "coop", "imagenet").epochs == 50);
    CHECK(recipe(Protocol::few_shot, "coop", "dtd").epochs == 200);

    CHECK(distillation_recipe(Protocol::base_to_novel, "dtd").kd_weight == 200);
    CHECK(distillation_recipe(Protocol::cross_dataset, "dtd").kd_weight == 1000);
    CHECK(distillation_recipe(Protocol::cross_dataset, "dtd").depth == 3);
    CHECK(distillation_recipe(Protocol::base_to_novel, "eurosat").kd_weight == 1000);
    CHECK(distillation_recipe(Protocol::base_to_novel, "eurosat").depth == 9);
    CHECK(distillation_recipe(Protocol::base_to_novel, "imagenet").batch == 256);
}

}  // namespace protocols_test
