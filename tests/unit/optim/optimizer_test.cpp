// SPDX-License-Identifier: Apache-2.0
#include "support/devices.hpp"

#include <promptkd/optim/adam.hpp>
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

}  // namespace optimizer_test
