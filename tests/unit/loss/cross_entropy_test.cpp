// SPDX-License-Identifier: Apache-2.0
#include "support/devices.hpp"

#include <promptkd/loss/cross_entropy.hpp>

#include <doctest/doctest.h>

namespace cross_entropy_test {

using namespace promptkd;
using namespace promptkd::test;

TEST_CASE_TEMPLATE("cross-entropy and its gradient", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    using Values = std::vector<double>;
    D device = make_device<D>();
    Arena<D> arena(device);
    const Workspace<D> w{device, arena};
    for (const Index classes : {2, 16, 43}) {
        const Index rows = 4;
        const std::vector<std::int32_t> labels = {0, 1, static_cast<std::int32_t>(classes - 1), 1};
        const Values logits = numbers(rows * classes, 1, 4);
        const auto at = [&](const Values& x) {
            double total = 0;
            for (Index i = 0; i < rows; ++i) {
                double sum = 0;
                for (Index j = 0; j < classes; ++j) sum += std::exp(x[static_cast<std::size_t>(i * classes + j)]);
                total += std::log(sum) - x[static_cast<std::size_t>(i * classes + labels[static_cast<std::size_t>(i)])];
            }
            return total / 8;
        };
        Tensor<D> x(device, logits), gradient(device, logits), loss(device, {3.0});
        Buffer<D, std::int32_t> truth(device, labels);
        const auto run = [&](const CrossEntropyOptions& options) {
            planned(w, [&] {
                cross_entropy_loss(w, x.matrix(rows, classes), truth.data(), gradient.matrix(rows, classes),
                                   loss.data(), options);
            });
        };
        run({8, Accumulate::yes});
        CHECK(difference(loss.to_host(), {at(logits) + 3}) < rounding<T>);
        CHECK(difference(gradient.to_host(), numeric_gradient(logits, at)) < std::max(1e-8, rounding<T>));
        run({});
        CHECK(difference(loss.to_host(), {2 * at(logits)}) < rounding<T>);
    }
}

}  // namespace cross_entropy_test
