// SPDX-License-Identifier: Apache-2.0
#include <promptkd/experiment/distillation_spec.hpp>
#include <promptkd/experiment/seeds.hpp>
#include <promptkd/experiment/training_spec.hpp>

#include <doctest/doctest.h>

namespace seeds_test {

using namespace promptkd;

TEST_CASE("seeds: each run has its seed, its folder and its identity, and is reported before the next one") {
    TrainingSpec spec;
    spec.loop.out = "learned";
    spec.loop.identity = {{"seed", 1}, {"lr", 0.5}};
    std::vector<std::string> events;
    const auto run = [&](const TrainingSpec& one) {
        events.push_back("run " + one.loop.out + " " + one.loop.identity.dump());
        return one.loop.seed * 10;
    };
    const auto done = [&](const auto& found) { events.push_back("done " + std::to_string(found.seed)); };
    const auto runs = run_over_seeds(spec, {3, 2}, run, done);
    CHECK(events == std::vector<std::string>{"run learned/seed3 {\"lr\":0.5,\"seed\":3}", "done 3",
                                             "run learned/seed2 {\"lr\":0.5,\"seed\":2}", "done 2"});
    REQUIRE(runs.size() == 2);
    CHECK(runs[1].seed == 2);
    CHECK(runs[1].out == "learned/seed2");
    CHECK(runs[1].outcome == 20);
    events.clear();
    run_over_seeds(spec, {7}, run, done);
    CHECK(events[0] == "run learned {\"lr\":0.5,\"seed\":7}");
    CHECK_THROWS_WITH_AS(run_over_seeds(spec, {4, 5, 4}, run, done), doctest::Contains("seed 4 is given twice"), Error);
    CHECK_THROWS_AS(run_over_seeds(spec, {}, run, done), Error);
}

TEST_CASE("seeds: an identity names the seed in its own form, or not at all") {
    DistillationSpec spec;
    spec.loop.identity = {{"seed", "1"}};
    CHECK(with_seed(spec, 5).loop.identity == nlohmann::json{{"seed", "5"}});
    spec.loop.identity = nlohmann::json();
    CHECK(with_seed(spec, 5).loop.identity.empty());
    CHECK(with_seed(spec, 5).loop.seed == 5);
}

}  // namespace seeds_test
