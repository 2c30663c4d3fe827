// SPDX-License-Identifier: Apache-2.0
#include "support/devices.hpp"

#include <promptkd/optim/adam.hpp>
#include <promptkd/optim/gradient_norm.hpp>
#include <promptkd/optim/sgd.hpp>

#include <doctest/doctest.h>

namespace optimizer_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

using Values = std::vector<double>;

constexpr Index count = 53;  // packs and a tail

double rate_of(int step) { return 0.1 / (1 + step); }

/// Five steps of `optimizer` on gradients that `update(p, g, step, i)` also gets; both must end at the same values.
template <class Optimizer, class D, class Config, class Update>
void check_trajectory(const Config& config, const Update& update) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    ParamSet<D> params(device);
    params.add("a", {40});
    params.add("b", {13});
    params.bind();
    Values p = numbers(count, 1);
    std::vector<T> start = as<T>(p);
    device.upload(params.values(), start.data(), start.size() * sizeof(T));
    device.synchronize();
    Optimizer optimizer(params, config);
    for (int step = 0; step < 5; ++step) {
        const Values g = numbers(count, 10 + static_cast<unsigned>(step));
        const std::vector<T> host = as<T>(g);
        device.upload(params.gradients(), host.data(), host.size() * sizeof(T));
        optimizer.step(rate_of(step));
        for (std::size_t i = 0; i < p.size(); ++i) update(p[i], g[i], step, i);
        std::vector<T> got(p.size());
        device.download(got.data(), params.values(), got.size() * sizeof(T));
        CHECK(difference(got, p) < rounding<T>);
    }
}

}  // namespace

TEST_CASE_TEMPLATE("SGD: momentum, decay, dampening, Nesterov", D, PROMPTKD_TEST_DEVICES) {
    for (const SgdConfig& config : {SgdConfig{0.9, 5e-2, 0, false}, SgdConfig{0.9, 0, 0.3, false},
                                    SgdConfig{0.8, 1e-2, 0, true}, SgdConfig{0, 0, 0, false}}) {
        Values moments(count, 0.0);
        check_trajectory<Sgd<D>, D>(config, [&](double& p, double g, int step, std::size_t i) {
            g += config.weight_decay * p;
            double& m = moments[i];
            m = step == 0 ? g : config.momentum * m + (1 - config.dampening) * g;
            p -= rate_of(step) * (config.nesterov ? g + config.momentum * m : m);
        });
    }
}

TEST_CASE_TEMPLATE("Adam and AdamW", D, PROMPTKD_TEST_DEVICES) {
    for (const bool decoupled : {false, true}) {
        const AdamConfig config{0.8, 0.95, 1e-6, 3e-2, decoupled};
        Values first(count, 0.0), second(count, 0.0);
        check_trajectory<Adam<D>, D>(config, [&](double& p, double g, int step, std::size_t i) {
            const double rate = rate_of(step);
            if (decoupled)
                p -= rate * config.weight_decay * p;
            else
                g += config.weight_decay * p;
            first[i] = config.beta_1 * first[i] + (1 - config.beta_1) * g;
            second[i] = config.beta_2 * second[i] + (1 - config.beta_2) * g * g;
            const double m = first[i] / (1 - std::pow(config.beta_1, step + 1)),
                         v = second[i] / (1 - std::pow(config.beta_2, step + 1));
            p -= rate * m / (std::sqrt(v) + config.epsilon);
        });
    }
}

TEST_CASE_TEMPLATE("AdamW: rates by group; one that is 0 leaves everything as it is", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    const std::vector<std::string> names = {"visual.positional_embedding", "visual.proj", "lora.0.A", "VPT"};
    const double factors[] = {0, 0.3, 0.3, 1};
    AdamConfig config;
    config.decoupled = true;
    config.weight_decay = 0.1;
    ParamSet<D> grouped(device);
    for (const std::string& name : names) grouped.add(name, {19});
    grouped.bind();
    const std::vector<RateFactor> rates = {{"visual.positional_embedding", 0}, {"visual.", 0.3}, {"lora.", 0.3}};
    const std::vector<RateGroup> groups = rate_groups(grouped, rates);
    REQUIRE(groups.size() == 2);  // neighbours with one factor are one group, those with 0 none
    CHECK(groups[0].first == 19);
    CHECK(groups[0].count == 38);
    CHECK(groups[1].count == 19);
    Adam<D> optimizer(grouped, config, groups);
    for (std::size_t k = 0; k < names.size(); ++k) grouped.set(names[k], as<T>(numbers(19, static_cast<unsigned>(k))));
    const std::vector<T> g = as<T>(numbers(4 * 19, 9));
    device.upload(grouped.gradients(), g.data(), g.size() * sizeof(T));
    optimizer.step(0.1);
    for (std::size_t k = 0; k < names.size(); ++k) {
        CAPTURE(names[k]);
        ParamSet<D> alone(device);
        alone.add(names[k], {19});
        alone.bind();
        alone.set(names[k], as<T>(numbers(19, static_cast<unsigned>(k))));
        device.upload(alone.gradients(), g.data() + 19 * k, 19 * sizeof(T));
        Adam<D>(alone, config).step(0.1 * factors[k]);
        const std::vector<T> want = alone.values_of(names[k]);
        CHECK(difference(grouped.values_of(names[k]), Values(want.begin(), want.end())) < rounding<T>);
        if (factors[k] == 0) CHECK(grouped.values_of(names[k]) == as<T>(numbers(19, static_cast<unsigned>(k))));
    }
    CHECK_THROWS_WITH_AS(rate_groups(grouped, {{"visual.", -1}}), doctest::Contains("expected 0 or more"), Error);
}

TEST_CASE_TEMPLATE("clipping by the global norm", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    ParamSet<D> params(device);
    params.add("still", {7});
    params.add("a", {5000});
    params.add("b", {13});
    params.bind();
    const std::vector<RateGroup> groups = rate_groups(params, {{"still", 0}, {"a", 0.5}});
    const Values g = numbers(params.size(), 4);
    double square = 0;
    for (std::size_t i = 7; i < g.size(); ++i) square += g[i] * g[i];
    for (const double largest : {1.0, 1e6}) {
        const std::vector<T> host = as<T>(g);
        device.upload(params.gradients(), host.data(), host.size() * sizeof(T));
        device.synchronize();
        GradientNorm<D> norm(params, groups, largest);
        norm.clip();
        CHECK(std::abs(norm.value() - std::sqrt(square)) < 100 * rounding<T>);
        Values want = g;
        for (std::size_t i = 7; i < want.size(); ++i) want[i] *= std::min(1.0, largest / std::sqrt(square));
        Values got;
        for (const char* name : {"still", "a", "b"})
            for (const T value : params.gradients_of(name)) got.push_back(static_cast<double>(value));
        CHECK(difference(got, want) < rounding<T>);
    }
}

}  // namespace optimizer_test
