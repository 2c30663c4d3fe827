// SPDX-License-Identifier: Apache-2.0
#include "support/devices.hpp"

#include <promptkd/optim/loss_scale.hpp>
#include <promptkd/optim/optimizer.hpp>

#include <doctest/doctest.h>

#include <limits>

namespace loss_scale_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

constexpr Index count = 9001;  // three parts, the last one short

template <class D>
struct Trained {
    explicit Trained(OptimizerKind kind) : params(device) {
        params.add("a", {count});
        params.bind();
        OptimizerConfig config;
        config.kind = kind;
        optimizer = make_optimizer(params, config);
    }
    std::vector<typename D::Scalar> read(const typename D::Scalar* p) {
        std::vector<typename D::Scalar> host(static_cast<std::size_t>(count));
        device.download(host.data(), p, host.size() * sizeof(typename D::Scalar));
        return host;
    }
    void write(typename D::Scalar* p, const std::vector<double>& values) {
        const auto host = as<typename D::Scalar>(values);
        device.upload(p, host.data(), host.size() * sizeof(typename D::Scalar));
        device.synchronize();
    }
    D device = make_device<D>();
    ParamSet<D> params;
    std::unique_ptr<Optimizer<D>> optimizer;
};

}  // namespace

TEST_CASE_TEMPLATE("loss scale: gradients come back, an overflow skips the step and halves the scale", D,
                   PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    for (const OptimizerKind kind : {OptimizerKind::sgd, OptimizerKind::adamw}) {
        Trained<D> t(kind), plain(kind);
        LossScale<D> scale(t.device, count, {256, 512, 2});
        const std::vector<double> g = numbers(count, 1), start = numbers(count, 2);
        t.write(t.params.values(), start);
        plain.write(plain.params.values(), start);

        t.write(t.params.gradients(), g);
        plain.write(plain.params.gradients(), g);
        scale.scale(t.params.gradients(), count);
        CHECK(difference(t.read(t.params.gradients()), [&] {
                  std::vector<double> wide = g;
                  for (double& v : wide) v *= 256;
                  return wide;
              }()) < rounding<T>);
        scale.unscale(t.params.gradients(), count);
        t.optimizer->step(0.1, scale.skip());
        plain.optimizer->step(0.1);
        const auto after = t.read(t.params.values());
        CHECK(after == plain.read(plain.params.values()));  // powers of two: to the last bit
        CHECK(scale.value() == 256);

        for (const double bad : {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
            std::vector<double> hostile = g;
            hostile[bad > 0 ? 0 : count - 1] = bad;
            const double before = scale.value();
            t.write(t.params.gradients(), hostile);
            scale.unscale(t.params.gradients(), count);
            t.optimizer->step(0.1, scale.skip());
            CHECK(t.read(t.params.values()) == after);
            CHECK(scale.value() == before / 2);
        }
        CHECK(scale.skipped() == 2);

        // The moments were left alone too: the next good step is the plain optimizer's.
        if (kind == OptimizerKind::sgd) {  // a skipped step counts in Adam's t
            t.write(t.params.gradients(), g);
            plain.write(plain.params.gradients(), g);
            scale.scale(t.params.gradients(), count);
            scale.unscale(t.params.gradients(), count);
            t.optimizer->step(0.1, scale.skip());
            plain.optimizer->step(0.1);
            CHECK(t.read(t.params.values()) == plain.read(plain.params.values()));
        }
    }
}

TEST_CASE_TEMPLATE("loss scale: grows after clean steps up to its bound, and resumes", D, PROMPTKD_TEST_DEVICES) {
    Trained<D> t(OptimizerKind::sgd);
    LossScale<D> scale(t.device, count, {256, 512, 3});
    std::vector<double> seen;
    for (int step = 0; step < 9; ++step) {
        scale.unscale(t.params.gradients(), count);
        seen.push_back(scale.value());
    }
    CHECK(seen == std::vector<double>{256, 256, 512, 512, 512, 512, 512, 512, 512});
    TensorMap state;
    scale.save(state);
    LossScale<D> other(t.device, count);
    other.load(state);
    CHECK(other.value() == 512);
    CHECK_THROWS_AS(LossScale<D>(t.device, count, {0.5, 512, 3}), Error);
}

}  // namespace loss_scale_test
