// SPDX-License-Identifier: Apache-2.0
#include "support/devices.hpp"
#include "support/thread_ranks.hpp"

#include <promptkd/op/batch_norm.hpp>
#include <promptkd/op/norm.hpp>

#include <doctest/doctest.h>

#include <mutex>

namespace norm_test {

using namespace promptkd;
using namespace promptkd::test;

namespace {

using Values = std::vector<double>;

/// One value a row or column, `count` of them: mean and biased variance of x[first + i·step].
struct Moments {
    double mean = 0, variance = 0;
    Moments(const Values& x, Index first, Index step, Index count) {
        for (Index i = 0; i < count; ++i)
            mean += x[static_cast<std::size_t>(first + i * step)] / static_cast<double>(count);
        for (Index i = 0; i < count; ++i) {
            const double c = x[static_cast<std::size_t>(first + i * step)] - mean;
            variance += c * c / static_cast<double>(count);
        }
    }
    double reciprocal() const { return 1 / std::sqrt(variance + 1e-5); }
};

/// Rows of x are `stride` apart.
Values layer_norm(const Values& x, Index stride, const Values& w, const Values& b, Index rows, Index d) {
    Values y;
    for (Index i = 0; i < rows; ++i) {
        const Moments m(x, i * stride, 1, d);
        for (Index j = 0; j < d; ++j) {
            const auto c = static_cast<std::size_t>(j);
            y.push_back((x[static_cast<std::size_t>(i * stride + j)] - m.mean) * m.reciprocal() * w[c] + b[c]);
        }
    }
    return y;
}

Values batch_norm(const Values& x, const Values& w, const Values& b, Index rows, Index d) {
    Values y(x.size());
    for (Index j = 0; j < d; ++j) {
        const Moments m(x, j, d, rows);
        for (Index i = 0; i < rows; ++i) {
            const auto at = static_cast<std::size_t>(i * d + j), c = static_cast<std::size_t>(j);
            y[at] = (x[at] - m.mean) * m.reciprocal() * w[c] + b[c];
        }
    }
    return y;
}

Values normalized(const Values& x, Index rows, Index d) {
    Values y = x;
    for (Index i = 0; i < rows; ++i) {
        double square = 0;
        for (Index j = 0; j < d; ++j)
            square += x[static_cast<std::size_t>(i * d + j)] * x[static_cast<std::size_t>(i * d + j)];
        for (Index j = 0; j < d; ++j) y[static_cast<std::size_t>(i * d + j)] /= std::sqrt(square);
    }
    return y;
}

struct Size {
    Index rows, d, stride;

    template <class T>
    Matrix<T> of(T* data) const {
        return {data, rows, d, stride};
    }
    template <class D>
    Matrix<typename D::Scalar> of(Tensor<D>& x) const {
        return of(x.data());
    }
};
const Size sizes[] = {{1, 5, 5}, {7, 48, 48}, {3, 33, 70}, {9, 64, 192}};

}  // namespace

TEST_CASE_TEMPLATE("layer norm forward", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    for (const Size s : sizes) {
        Values x = numbers(s.rows * s.stride, 1, 2);
        for (double& v : x) v += 3;
        const Values w = numbers(s.d, 2), b = numbers(s.d, 3);
        Tensor<D> in(device, x), weight(device, w), bias(device, b);
        Buffer<D, T> y(device, s.rows * s.d), mean(device, s.rows), rstd(device, s.rows);
        const LayerNormWeights<T> norm{weight.data(), bias.data()};
        const RowMoments<T> moments{mean.data(), rstd.data()};
        const Matrix<const T> rows = s.of(in);
        layer_norm_forward(device, rows, norm, y.matrix(s.rows, s.d), moments);
        const Values want = layer_norm(x, s.stride, w, b, s.rows, s.d);
        CHECK(difference(y.to_host(), want) < rounding<T>);
        Values means, reciprocals;
        for (Index i = 0; i < s.rows; ++i) {
            const Moments m(x, i * s.stride, 1, s.d);
            means.push_back(m.mean);
            reciprocals.push_back(m.reciprocal());
        }
        CHECK(difference(mean.to_host(), means) < rounding<T>);
        CHECK(difference(rstd.to_host(), reciprocals) < rounding<T>);
        if (s.stride != s.d) continue;
        layer_norm_forward(device, rows, norm, s.of(in));
        CHECK(difference(in.to_host(), want) < rounding<T>);
    }
}

TEST_CASE_TEMPLATE("layer norm backward", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    for (const Size s : sizes) {
        const Values x = numbers(s.rows * s.stride, 4, 2), w = numbers(s.d, 5), b = numbers(s.d, 6),
                     dy = numbers(s.rows * s.d, 7);
        const auto gradient =
            numeric_gradient(x, [&](const Values& v) { return dot(layer_norm(v, s.stride, w, b, s.rows, s.d), dy); });
        Tensor<D> in(device, x), weight(device, w), bias(device, b), d(device, dy);
        Buffer<D, T> y(device, s.rows * s.d), mean(device, s.rows), rstd(device, s.rows);
        const LayerNormWeights<T> norm{weight.data(), bias.data()};
        const RowMoments<T> moments{mean.data(), rstd.data()};
        const Matrix<const T> rows = s.of(in);
        layer_norm_forward(device, rows, norm, y.matrix(s.rows, s.d), moments);
        for (const Accumulate accumulate : {Accumulate::no, Accumulate::yes}) {
            const Values before = numbers(s.rows * s.stride, 8);
            Values want = before;  // what lies between the rows stays
            for (Index i = 0; i < s.rows * s.stride; ++i) {
                const auto at = static_cast<std::size_t>(i);
                if (i % s.stride < s.d) want[at] = gradient[at] + (accumulate == Accumulate::yes ? before[at] : 0);
            }
            Tensor<D> dx(device, before);
            layer_norm_backward(device, norm, {rows, moments}, d.matrix(s.rows, s.d), s.of(dx), accumulate);
            CHECK(difference(dx.to_host(), want) < std::max(1e-8, 2 * rounding<T>));
        }
        if (s.stride != s.d) continue;
        layer_norm_backward(device, norm, {rows, moments}, d.matrix(s.rows, s.d), d.matrix(s.rows, s.d));
        CHECK(difference(d.to_host(), gradient) < std::max(1e-8, 2 * rounding<T>));
    }
}

TEST_CASE_TEMPLATE("normalisation to unit length forward and backward", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    for (const Size s : sizes) {
        const Values x = numbers(s.rows * s.d, 9), dy = numbers(s.rows * s.d, 10);
        Tensor<D> in(device, x), d(device, dy);
        Buffer<D, T> inverse(device, s.rows);
        normalize_forward(device, in.matrix(s.rows, s.d), in.matrix(s.rows, s.d), inverse.data());
        CHECK(difference(in.to_host(), normalized(x, s.rows, s.d)) < rounding<T>);
        normalize_backward(device, in.matrix(s.rows, s.d), inverse.data(), d.matrix(s.rows, s.d));
        const auto want = numeric_gradient(x, [&](const Values& v) { return dot(normalized(v, s.rows, s.d), dy); });
        CHECK(difference(d.to_host(), want) < std::max(1e-8, 2 * rounding<T>));
    }
}

TEST_CASE_TEMPLATE("batch norm in training: outputs, running statistics, gradients", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    for (const Size s : {Size{4, 5, 0}, Size{8, 48, 0}, Size{5, 33, 0}}) {
        const Values x = numbers(s.rows * s.d, 11, 2), w = numbers(s.d, 12), b = numbers(s.d, 13),
                     dy = numbers(s.rows * s.d, 14);
        const Values old_mean = numbers(s.d, 15);
        Tensor<D> in(device, x), weight(device, w), bias(device, b), running_mean(device, old_mean),
            running_variance(device, Values(w.size(), 1.0));
        Tensor<D> grad(device, dy), d_weight(device, w), d_bias(device, b);  // gradients add to what is there
        Buffer<D, T> x_hat(device, s.rows * s.d), variance(device, s.d);
        const BatchNormView<T> bn{weight.data(), bias.data(),     running_mean.data(), running_variance.data(),
                                  s.d,           d_weight.data(), d_bias.data()};
        const BatchNormTape<T> tape{x_hat.matrix(s.rows, s.d), variance.data()};
        Arena<D> arena(device);
        const Workspace<D> workspace{device, arena};
        planned(workspace,
                [&] { batch_norm_forward(workspace, bn, in.matrix(s.rows, s.d), tape, in.matrix(s.rows, s.d)); });
        CHECK(difference(in.to_host(), batch_norm(x, w, b, s.rows, s.d)) < 2 * rounding<T>);
        Values means, variances;
        for (Index j = 0; j < s.d; ++j) {
            const Moments m(x, j, s.d, s.rows);
            means.push_back(0.9 * old_mean[static_cast<std::size_t>(j)] + 0.1 * m.mean);
            variances.push_back(0.9 + 0.1 * m.variance * static_cast<double>(s.rows) /
                                          static_cast<double>(s.rows - 1));  // unbiased
        }
        CHECK(difference(running_mean.to_host(), means) < rounding<T>);
        CHECK(difference(running_variance.to_host(), variances) < rounding<T>);

        planned(workspace, [&] { batch_norm_backward(workspace, bn, tape, grad.matrix(s.rows, s.d)); });
        const double bound = std::max(1e-7, 10 * rounding<T>);
        const auto loss = [&](const Values& v, const Values& scale, const Values& shift) {
            return dot(batch_norm(v, scale, shift, s.rows, s.d), dy);
        };
        CHECK(difference(grad.to_host(), numeric_gradient(
                                             x, [&](const Values& v) { return loss(v, w, b); }, 1e-4)) < bound);
        Values want = numeric_gradient(w, [&](const Values& v) { return loss(x, v, b); });
        for (std::size_t j = 0; j < w.size(); ++j) want[j] += w[j];
        CHECK(difference(d_weight.to_host(), want) < bound);
        want = numeric_gradient(b, [&](const Values& v) { return loss(x, w, v); });
        for (std::size_t j = 0; j < b.size(); ++j) want[j] += b[j];
        CHECK(difference(d_bias.to_host(), want) < bound);
    }
}

TEST_CASE_TEMPLATE("batch norm over the rows of several ranks is batch norm over all rows", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    constexpr Index rows = 11, d = 37;
    for (const int size : {2, 3}) {
        for (const double offset : {0.0, 300.0}) {  // far from zero, sums of squares would lose everything
            Values x = numbers(rows * d, 21, 2);
            for (double& v : x) v += offset;
            const Values w = numbers(d, 22), b = numbers(d, 23), dy = numbers(rows * d, 24);
            // x as the device holds it: the reference must see the same rounding
            const std::vector<T> held = as<T>(x);
            x.assign(held.begin(), held.end());
            const Values y = batch_norm(x, w, b, rows, d);
            const auto loss = [&](const Values& v, const Values& scale, const Values& shift) {
                return dot(batch_norm(v, scale, shift, rows, d), dy);
            };
            const Values dx = numeric_gradient(
                x, [&](const Values& v) { return loss(v, w, b); }, 1e-4);
            const Values dw = numeric_gradient(w, [&](const Values& v) { return loss(x, v, b); });

            std::vector<T> got_y(x.size()), got_dx(x.size()), got_dw(w.size()), got_variance;
            std::mutex mutex;
            as_ranks<D>(size, [&](const Ranks<D>& ranks, int rank) {
                const Slice s = slice_of(rows, rank, size);
                const auto part = [&](const Values& v) {
                    return Values(v.begin() + s.first * d, v.begin() + (s.first + s.count) * d);
                };
                D device = make_device<D>();
                Tensor<D> in(device, part(x)), weight(device, w), bias(device, b), grad(device, part(dy)),
                    running_mean(device, Values(w.size(), 0.0)), running_variance(device, Values(w.size(), 1.0)),
                    d_weight(device, Values(w.size(), 0.0)), d_bias(device, Values(w.size(), 0.0));
                Buffer<D, T> x_hat(device, s.count * d), variance(device, d);
                const BatchNormView<T> bn{
                    weight.data(),   bias.data(),  running_mean.data(), running_variance.data(), d,
                    d_weight.data(), d_bias.data()};
                const BatchNormTape<T> tape{x_hat.matrix(s.count, d), variance.data()};
                const DataParallel<D> parallel{ranks, rows, false};
                Arena<D> arena(device);
                const Workspace<D> workspace{device, arena};
                planned(workspace, [&] {
                    batch_norm_forward(workspace, bn, in.matrix(s.count, d), tape, in.matrix(s.count, d), parallel);
                });
                planned(workspace,
                        [&] { batch_norm_backward(workspace, bn, tape, grad.matrix(s.count, d), parallel); });
                ranks.all_reduce_sum(device, d_weight.data(), d);  // as the trainer does
                const std::vector<T> my_y = in.to_host(), my_dx = grad.to_host();
                const std::lock_guard lock(mutex);
                std::copy(my_y.begin(), my_y.end(), got_y.begin() + s.first * d);
                std::copy(my_dx.begin(), my_dx.end(), got_dx.begin() + s.first * d);
                if (rank != 0) return;
                got_dw = d_weight.to_host();
                got_variance = running_variance.to_host();
            });
            const double far = 1 + offset;  // rounding of x − mean
            CHECK(difference(got_y, y) < 2 * rounding<T> * far);
            CHECK(difference(got_dx, dx) < std::max(1e-7 * far, 10 * rounding<T> * far));
            CHECK(difference(got_dw, dw) < std::max(1e-7, 10 * rounding<T> * far));
            Values variances;
            for (Index j = 0; j < d; ++j)
                variances.push_back(0.9 +
                                    0.1 * Moments(x, j, d, rows).variance * static_cast<double>(rows) / (rows - 1));
            CHECK(difference(got_variance, variances) < rounding<T> * std::sqrt(far));
        }
    }
}

TEST_CASE_TEMPLATE("batch norm in inference", D, PROMPTKD_TEST_DEVICES) {
    using T = typename D::Scalar;
    D device = make_device<D>();
    const Index rows = 6, d = 37;
    Values variance = numbers(d, 16);
    for (double& v : variance) v = v * v + 0.25;
    const Values x = numbers(rows * d, 17), w = numbers(d, 18), b = numbers(d, 19), mean = numbers(d, 20);
    Values want;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const std::size_t j = i % static_cast<std::size_t>(d);
        want.push_back((x[i] - mean[j]) / std::sqrt(variance[j] + 1e-5) * w[j] + b[j]);
    }
    Tensor<D> y(device, x), weight(device, w), bias(device, b), running_mean(device, mean),
        running_variance(device, variance);
    const BatchNormView<T> bn{weight.data(), bias.data(), running_mean.data(), running_variance.data(), d};
    batch_norm_inference(device, bn, y.matrix(rows, d), y.matrix(rows, d));
    CHECK(difference(y.to_host(), want) < rounding<T>);
    CHECK(difference(running_mean.to_host(), mean) == 0);
}

}  // namespace norm_test
