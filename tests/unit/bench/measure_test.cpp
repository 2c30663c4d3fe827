// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <CLI/CLI.hpp>
#include <bench/support/measure.hpp>

#include <sstream>

namespace measure_test {

using namespace promptkd::bench;

TEST_CASE("bench: the median of an even number of steps is the mean of the middle two") {
    CHECK(summarize({4, 1, 3, 2}).median == doctest::Approx(2.5));
    const Timings odd = summarize({5, 1, 3});
    CHECK(odd.median == 3);
    CHECK(odd.min == 1);
    CHECK(odd.max == 5);
    CHECK_THROWS_AS(summarize({}), promptkd::Error);
}

TEST_CASE("bench: one untimed step, then the timed ones") {
    int steps = 0;
    const Timings timings = measure([&] { ++steps; }, 4);
    CHECK(steps == 5);
    CHECK(timings.min >= 0);
    CHECK(timings.min <= timings.median);
    CHECK(timings.median <= timings.max);
}

TEST_CASE("bench: options and the fields of the report") {
    StepOptions options;
    CLI::App app;
    add_step_options(app, options, {"encode_image", "promptkd"});
    app.parse("--task promptkd --batch 4 --dtype bf16 --published");
    const nlohmann::ordered_json report = step_report(options, summarize({2}), {{"device", "cpu"}});
    CHECK(report.at("task") == "promptkd");
    CHECK(report.at("teacher") == "ViT-L/14");
    CHECK(report.at("batch") == 4);
    CHECK(report.at("published") == true);
    CHECK(report.at("seconds_per_step") == 2.0);
    CHECK(report.at("peak_rss_mb") > 0);
    CHECK(report.at("device") == "cpu");
    options.task = "encode_image";
    CHECK(step_report(options, summarize({2})).at("teacher").is_null());
}

TEST_CASE("bench: a served step answers each request with as many times, after one untimed step") {
    int steps = 0;
    std::istringstream in("measure 3\nmeasure 1\n");
    std::ostringstream out;
    serve(
        in, out, [&] { ++steps; },
        [&] {
            return nlohmann::ordered_json{{"steps", steps}};
        });
    CHECK(steps == 6);
    std::istringstream lines(out.str());
    std::vector<nlohmann::json> answers;
    for (std::string line; std::getline(lines, line);) answers.push_back(nlohmann::json::parse(line));
    REQUIRE(answers.size() == 3);
    CHECK(answers[0] == nlohmann::json{{"ready", true}});
    CHECK(answers[1].at("seconds").size() == 3);
    CHECK(answers[1].at("steps") == 4);
    CHECK(answers[2].at("seconds").size() == 1);
    CHECK(answers[2].at("steps") == 6);
}

TEST_CASE("bench: what is no request is refused") {
    CHECK(steps_asked_for("measure 32") == 32);
    for (const char* line :
         {"", "measure", "measure ", "measure 0", "measure -1", "measure 3 4", "measure 9999999", "stop"})
        CHECK_THROWS_WITH_AS(steps_asked_for(line), doctest::Contains("expected: measure N"), promptkd::Error);
}

TEST_CASE("bench: wrong options are refused") {
    for (const char* line : {"--task dance", "--task promptkd --batch 0", "--task promptkd --dtype fp8",
                             "--task promptkd --attention quick", ""}) {
        StepOptions options;
        CLI::App app;
        add_step_options(app, options, {"promptkd"});
        CHECK_THROWS_AS(app.parse(line), CLI::ParseError);
    }
    CHECK_THROWS_AS(model_size("ViT-H/15"), promptkd::Error);
    CHECK(model_size("ViT-L/14").vision_layers == 24);
}

}  // namespace measure_test
