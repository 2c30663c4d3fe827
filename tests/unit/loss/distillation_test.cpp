// SPDX-License-Identifier: Apache-2.0
#include "support/devices.hpp"

#include <doctest/doctest.h>

#include <promptkd/loss/distillation.hpp>

namespace distillation_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

using Values = std::vector<double>;

Values log_softmax(const Values& logits, Index row, Index classes, double temperature) {
    Values out;
    double total = 0;
    for (Index j = 0; j < classes; ++j)
        out.push_back(logits[static_cast<std::size_t>(row * classes + j)] / temperature);
    for (const double v : out) total += std::exp(v);
    for (double& v : out) v -= std::log(total);
    return out;
}

double reference_loss(const Values& teacher, const Values& student, Index rows, Index classes, double temperature,
                      double kd_weight) {
    double total = 0;
    for (Index i = 0; i < rows; ++i) {
        const Values t = log_softmax(teacher, i, classes, temperature),
                     s = log_softmax(student, i, classes, temperature);
        for (std::size_t j = 0; j < t.size(); ++j) total += std::exp(t[j]) * (t[j] - s[j]);
    }
    return kd_weight * temperature * temperature * total / static_cast<double>(rows * classes);
}

}  // namespace

TEST_CASE_TEMPLATE("distillation loss and its gradient", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    Arena<D> arena(device);
    const Workspace<D> w{device, arena};
    for (const double temperature : {1.0, 2.5})
        for (const Index classes : {2, 16, 43}) {
            const Index rows = 5;
            const Values teacher = numbers(rows * classes, 1, 3), student = numbers(rows * classes, 2, 3);
            Tensor<D> t(device, teacher), s(device, student), gradient(device, student);
            Buffer<D, T> loss(device, 1);
            const auto run = [&](Tensor<D>& into, Accumulate accumulate) {
                planned(w, [&] {
                    distillation_loss(w, t.matrix(rows, classes), s.matrix(rows, classes), into.matrix(rows, classes),
                                      loss.data(), {temperature, 1000, accumulate});
                });
            };
            run(gradient, Accumulate::no);
            const auto at = [&](const Values& x) {
                return reference_loss(teacher, x, rows, classes, temperature, 1000);
            };
            CHECK(difference(loss.to_host(), {at(student)}) < rounding<T>);
            CHECK(difference(gradient.to_host(), numeric_gradient(student, at)) < std::max(1e-8, rounding<T>));
            const Values before = numbers(rows * classes, 3);
            Values want = numeric_gradient(student, at);
            for (std::size_t i = 0; i < want.size(); ++i) want[i] += before[i];
            Tensor<D> sum(device, before);  // added to the gradient and to the loss
            run(sum, Accumulate::yes);
            CHECK(difference(sum.to_host(), want) < std::max(1e-8, rounding<T>));
            CHECK(difference(loss.to_host(), {2 * at(student)}) < rounding<T>);
        }
}

TEST_CASE_TEMPLATE("distillation loss of equal and of extreme logits", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    Arena<D> arena(device);
    const Workspace<D> w{device, arena};
    const Values equal = {80, -80, 3}, opposite = {-80, 80, 3};
    for (const Values& student : {equal, opposite}) {
        Tensor<D> t(device, equal), s(device, student), gradient(device, student);
        Buffer<D, T> loss(device, 1);
        planned(w, [&] {
            distillation_loss(w, t.matrix(1, 3), s.matrix(1, 3), gradient.matrix(1, 3), loss.data(), {1, 3});
        });
        CHECK(difference(loss.to_host(), {student == equal ? 0.0 : 160.0}) < 1e-5);
    }
}

}  // namespace distillation_test
