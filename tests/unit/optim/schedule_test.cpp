// SPDX-License-Identifier: Apache-2.0
#include <promptkd/optim/schedule.hpp>

#include <doctest/doctest.h>
#include <golden/numbers_case.hpp>

#include <limits>

namespace schedule_test {

namespace {

using namespace promptkd;

TEST_CASE("schedule: published learning rates, metrics and harmonic means") {
    test::Report report("numbers");
    test::check_numbers(std::string(PROMPTKD_TEST_DATA) + "/golden/numbers.json", report);
    CHECK(report.failures() == 0);
    CHECK(report.comparisons() > 100);
}

TEST_CASE("schedule: the default is PromptKD's recipe") {
    const ScheduleConfig config;
    CHECK(learning_rate(config, 0) == 1e-5);
    CHECK(learning_rate(config, 1) == 0.005);
    CHECK(learning_rate(config, 11) == doctest::Approx(0.0025).epsilon(1e-12));
    CHECK(learning_rate(config, 19) > 1e-4);  // over max_epoch, so the end is not 0
}

TEST_CASE("schedule: no warm-up starts the schedule at epoch 0") {
    ScheduleConfig config;
    config.warmup = Warmup::none;
    CHECK(learning_rate(config, 0) == config.lr);
    config.warmup = Warmup::constant;
    config.warmup_epoch = -1;
    CHECK(learning_rate(config, 0) == config.lr);
}

TEST_CASE("schedule: linear warm-up starts at its minimum") {
    ScheduleConfig config;
    config.warmup = Warmup::linear;
    config.warmup_epoch = 4;
    config.warmup_min_lr = 1e-6;
    config.schedule = Schedule::constant;
    CHECK(learning_rate(config, 0) == 1e-6);
    CHECK(learning_rate(config, 1) == doctest::Approx(config.lr / 4));
    CHECK(learning_rate(config, 3) == doctest::Approx(config.lr * 3 / 4));
    CHECK(learning_rate(config, 4) == config.lr);
    CHECK(learning_rate(config, 100) == config.lr);
}

TEST_CASE("schedule: single_step without a length keeps the rate for max_epoch epochs") {
    ScheduleConfig config;
    config.warmup = Warmup::none;
    config.schedule = Schedule::single_step;
    config.max_epoch = 3;
    CHECK(learning_rate(config, 2) == config.lr);
    CHECK(learning_rate(config, 3) == doctest::Approx(config.lr * 0.1));
    config.steps = {-1};
    CHECK(learning_rate(config, 2) == config.lr);
}

TEST_CASE("schedule: names round trip, others are refused with the list") {
    for (const Schedule s : {Schedule::constant, Schedule::cosine, Schedule::single_step, Schedule::multi_step})
        CHECK(parse_schedule(name_of(s)) == s);
    for (const Warmup w : {Warmup::none, Warmup::constant, Warmup::linear}) CHECK(parse_warmup(name_of(w)) == w);
    CHECK_THROWS_WITH_AS(parse_schedule("cosin"), doctest::Contains("'cosin'; known: cosine"), Error);
    CHECK_THROWS_WITH_AS(parse_warmup(""), doctest::Contains("known: none"), Error);
}

TEST_CASE("schedule: senseless configurations are refused") {
    const auto refused = [](auto&& change) {
        ScheduleConfig config;
        validate(config);
        change(config);
        CHECK_THROWS_AS(validate(config), Error);
    };
    refused([](ScheduleConfig& c) { c.lr = 0; });
    refused([](ScheduleConfig& c) { c.lr = std::numeric_limits<double>::quiet_NaN(); });
    refused([](ScheduleConfig& c) { c.max_epoch = 0; });
    refused([](ScheduleConfig& c) { c.gamma = -1; });
    refused([](ScheduleConfig& c) { c.warmup_cons_lr = -1; });
    refused([](ScheduleConfig& c) { c.schedule = Schedule::multi_step; });
    refused([](ScheduleConfig& c) {
        c.schedule = Schedule::single_step;
        c.steps = {1, 2};
    });
}

}  // namespace

TEST_CASE("cosine by step, times a linear warm-up") {
    ScheduleConfig config;
    config.schedule = Schedule::cosine_by_step;
    config.lr = 0.003;
    config.warmup_steps = 50;
    const double pi = std::acos(-1.0);
    for (const Index step : {0, 1, 49, 50, 150, 199}) {
        const double cosine = 0.5 * (1 + std::cos(pi * static_cast<double>(step) / 200));
        const double warm = std::min(1.0, static_cast<double>(step + 1) / 50);
        CHECK(learning_rate(config, 7, step, 200) == doctest::Approx(0.003 * cosine * warm));
    }
    config.warmup_steps = 0;
    config.last_lr = 1e-6;
    CHECK(learning_rate(config, 0, 0, 10) == doctest::Approx(0.003));
    CHECK(learning_rate(config, 0, 10, 10) == doctest::Approx(1e-6));
    config.schedule = Schedule::cosine;
    CHECK(learning_rate(config, 3, 999, 1000) == learning_rate(config, 3));
    CHECK(parse_schedule("cosine_by_step") == Schedule::cosine_by_step);
}

}  // namespace schedule_test
