// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/memory.hpp>
#include <promptkd/device/parallel/communicator.hpp>
#include <promptkd/op/elementwise.hpp>

#include <cmath>
#include <concepts>
#include <type_traits>
#include <vector>

namespace promptkd {

/// ε of BatchNorm, and the share of a batch in its running statistics.
inline constexpr double batch_norm_epsilon = 1e-5;
/// Share of a batch's statistics in the running ones.
inline constexpr double batch_norm_momentum = 0.1;

/// What BatchNorm with running statistics does to each channel: y = x·factor + shift.
struct BatchNormAffine {
    std::vector<double> factor;  ///< γ/√(σ² + ε)
    std::vector<double> shift;   ///< β − μ·factor
};

/// Of weight γ, bias β and the running mean μ and variance σ², a value a channel.
inline BatchNormAffine batch_norm_affine(const std::vector<double>& weight, const std::vector<double>& bias,
                                         const std::vector<double>& mean, const std::vector<double>& variance) {
    BatchNormAffine affine;
    for (std::size_t i = 0; i < weight.size(); ++i) {
        affine.factor.push_back(weight[i] / std::sqrt(variance[i] + batch_norm_epsilon));
        affine.shift.push_back(bias[i] - mean[i] * affine.factor.back());
    }
    return affine;
}

namespace detail {

// One lane is one or several columns: consecutive columns are consecutive in memory, so the walk down the rows
// vectorises.

template <class T>
struct BatchNormSums {
    const T* x;
    T *sum, *square;
    Index rows, d;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        using V = typename Lane::Value;
        V total = lane.fill(T(0));
        for (Index i = 0; i < rows; ++i) total = total + lane.load(x + i * d);
        const V mean = total / lane.fill(static_cast<T>(rows));
        V spread = lane.fill(T(0));
        for (Index i = 0; i < rows; ++i) {
            const V c = lane.load(x + i * d) - mean;
            spread = spread + c * c;
        }
        lane.store(sum, mean);
        lane.store(square, lane.value(spread / lane.fill(static_cast<T>(rows))));
    }
};

/// Of several ranks: the part of the variance that this rank's rows contribute. Spread around the common mean, var + (m
/// − mean)², has no cancellation, which Σx² − (Σx)²/n would.
template <class T>
struct BatchNormVarianceShare {
    const T *own, *mean;
    T* variance;
    T share;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        const LaneValue<Lane> shift = lane.load(own) - lane.load(mean);
        lane.store(variance, lane.value((lane.load(variance) + shift * shift) * share));
    }
};

template <class T>
struct BatchNormForward {
    const T *x, *weight, *bias;
    T *mean, *variance, *running_mean, *running_variance, *x_hat, *y;
    Index rows, d;
    T momentum, unbiased_by;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        using V = typename Lane::Value;
        using std::sqrt;
        const V m = lane.load(mean), v = lane.load(variance);
        const V keep = lane.fill(T(1) - momentum), take = lane.fill(momentum);
        const V unbiased = v * lane.fill(unbiased_by);
        lane.store(running_mean, lane.value(keep * lane.load(running_mean) + take * m));
        lane.store(running_variance, lane.value(keep * lane.load(running_variance) + take * unbiased));
        const V r = lane.fill(T(1)) / sqrt(lane.value(v + lane.fill(T(batch_norm_epsilon))));
        const V w = lane.load(weight), b = lane.load(bias);
        for (Index i = 0; i < rows; ++i) {
            const V h = (lane.load(x + i * d) - m) * r;
            lane.store(x_hat + i * d, h);
            lane.store(y + i * d, lane.value(h * w + b));
        }
    }
};

template <class T>
struct BatchNormInference {
    const T *x, *weight, *bias, *mean, *variance;
    T* y;
    Index rows, d;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        using V = typename Lane::Value;
        using std::sqrt;
        const V r = lane.load(weight) / sqrt(lane.value(lane.load(variance) + lane.fill(T(batch_norm_epsilon))));
        const V m = lane.load(mean), b = lane.load(bias);
        for (Index i = 0; i < rows; ++i) lane.store(y + i * d, lane.value((lane.load(x + i * d) - m) * r + b));
    }
};

template <class T>
struct BatchNormBackwardSums {
    const T *x_hat, *dy;
    T *sum, *dot, *d_weight, *d_bias;
    Index rows, d;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        using V = typename Lane::Value;
        V s = lane.fill(T(0)), p = lane.fill(T(0));
        for (Index i = 0; i < rows; ++i) {
            const V g = lane.load(dy + i * d);
            s = s + g;
            p = p + g * lane.load(x_hat + i * d);
        }
        lane.store(sum, s);
        lane.store(dot, p);
        lane.store(d_weight, lane.value(lane.load(d_weight) + p));
        lane.store(d_bias, lane.value(lane.load(d_bias) + s));
    }
};

template <class T>
struct BatchNormBackward {
    const T *x_hat, *weight, *variance, *sum, *dot;
    T* grad;  // dy on entry, dx on exit
    Index rows, d;
    T count;
    template <class Lane>
    PROMPTKD_HD void operator()(const Lane& lane) const {
        using V = typename Lane::Value;
        using std::sqrt;
        const V s = lane.load(sum), p = lane.load(dot);
        const V r = lane.load(weight) / sqrt(lane.value(lane.load(variance) + lane.fill(T(batch_norm_epsilon))));
        const V n = lane.fill(T(1) / count);
        for (Index i = 0; i < rows; ++i) {
            const V h = lane.load(x_hat + i * d);
            lane.store(grad + i * d, lane.value(r * (lane.load(grad + i * d) - (s + h * p) * n)));
        }
    }
};

}  // namespace detail

/// The parameters and running statistics of a BatchNorm over `d` columns. d_weight and d_bias: where its gradients are
/// added; only the backward pass needs them.
template <class T>
struct BatchNormView {
    const T* weight = nullptr;      ///< (d)
    const T* bias = nullptr;        ///< (d)
    T* running_mean = nullptr;      ///< (d)
    T* running_variance = nullptr;  ///< (d), unbiased
    Index d = 0;                    ///< columns
    T* d_weight = nullptr;          ///< gradient of weight
    T* d_bias = nullptr;            ///< gradient of bias
};

/// What the forward pass of a BatchNorm in training saves: x̂ (rows, d) and the batch's variance (d).
template <class T>
struct BatchNormTape {
    Matrix<T> x_hat;        ///< (rows, d)
    T* variance = nullptr;  ///< (d), of the batch
};

/// Batch normalisation in training: x̂ = (x − mean)/√(var + ε) with the batch's own (biased) statistics, y = x̂·weight +
/// bias for x and y (rows, d); running ← 0.9·running + 0.1·batch, the variance unbiased. y may be x. With several ranks
/// (`parallel`), the batch is the rows of all of them: with n_r of N rows on rank r, mean = Σ n_r/N·m_r and var =
/// Σ n_r/N·(var_r + (m_r − mean)²). Throws Error for a single row, whose result would be bias whatever it is (PyTorch
/// refuses it too).
template <Device D, class T>
void batch_norm_forward(const Workspace<D>& w, const BatchNormView<T>& bn, ConstMatrix<T> x,
                        const BatchNormTape<T>& tape, Matrix<T> y, const DataParallel<D>& parallel = {}) {
    require_contiguous(x, y.rows, bn.d, "BatchNorm: x");
    require_contiguous(y, x.rows, bn.d, "BatchNorm: y");
    require_contiguous(tape.x_hat, x.rows, bn.d, "BatchNorm: the normalised x");
    require(parallel.all_rows(x.rows) > 1,
            "BatchNorm in training sees one image alone, so its result would not depend on the image; take two or more "
            "images a step (and a part of it)");
    D& device = w.device;
    const WorkspaceScope scope(w);
    T* mean = scratch<T>(w, bn.d);
    if (parallel.ranks.alone()) {
        device.map(bn.d, detail::BatchNormSums<T>{x.data, mean, tape.variance, x.rows, bn.d});
    } else {  // this is where the statistics are reduced over the ranks
        T* own = scratch<T>(w, bn.d);
        const T share = static_cast<T>(parallel.share(x.rows));
        device.map(bn.d, detail::BatchNormSums<T>{x.data, own, tape.variance, x.rows, bn.d});
        device.copy(mean, own, static_cast<std::size_t>(bn.d) * sizeof(T));
        scale(device, parallel.share(x.rows), mean, bn.d);
        parallel.ranks.all_reduce_sum(device, mean, bn.d);
        device.map(bn.d, detail::BatchNormVarianceShare<T>{own, mean, tape.variance, share});
        parallel.ranks.all_reduce_sum(device, tape.variance, bn.d);
    }
    const T n = static_cast<T>(parallel.all_rows(x.rows));
    device.map(bn.d, detail::BatchNormForward<T>{x.data, bn.weight, bn.bias, mean, tape.variance, bn.running_mean,
                                                 bn.running_variance, tape.x_hat.data, y.data, x.rows, bn.d,
                                                 T(batch_norm_momentum), n / (n - T(1))});
}

/// y = (x − running mean)/√(running variance + ε)·weight + bias for x and y (rows, d); y may be x.
template <Device D, class S, class T>
requires std::same_as<std::remove_const_t<S>, T>
void batch_norm_inference(D& device, const BatchNormView<S>& bn, ConstMatrix<T> x, Matrix<T> y) {
    require_contiguous(x, y.rows, bn.d, "BatchNorm: x");
    require_contiguous(y, x.rows, bn.d, "BatchNorm: y");
    device.map(bn.d, detail::BatchNormInference<T>{x.data, bn.weight, bn.bias, bn.running_mean, bn.running_variance,
                                                   y.data, x.rows, bn.d});
}

/// Gradients: bn.d_weight += Σ dy·x̂, bn.d_bias += Σ dy over this rank's rows, and in place dx = weight/√(var + ε)·(dy −
/// (Σdy + x̂·Σ dy·x̂)/rows), with sums and rows of all ranks: `grad` (rows, d) is dy on entry, dx on exit.
template <Device D, class T>
void batch_norm_backward(const Workspace<D>& w, const BatchNormView<T>& bn, const BatchNormTape<T>& tape,
                         Matrix<T> grad, const DataParallel<D>& parallel = {}) {
    require_contiguous(grad, tape.x_hat.rows, bn.d, "gradient of BatchNorm");
    D& device = w.device;
    const WorkspaceScope scope(w);
    T* sums = scratch<T>(w, 2 * bn.d);
    T* dots = sums + bn.d;
    device.map(bn.d, detail::BatchNormBackwardSums<T>{tape.x_hat.data, grad.data, sums, dots, bn.d_weight, bn.d_bias,
                                                      grad.rows, bn.d});
    parallel.ranks.all_reduce_sum(device, sums, 2 * bn.d);
    device.map(bn.d, detail::BatchNormBackward<T>{tape.x_hat.data, bn.weight, tape.variance, sums, dots, grad.data,
                                                  grad.rows, bn.d, static_cast<T>(parallel.all_rows(grad.rows))});
}

}  // namespace promptkd
