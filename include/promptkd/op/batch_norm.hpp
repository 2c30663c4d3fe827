// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/memory.hpp>
#include <promptkd/device/parallel/communicator.hpp>
#include <promptkd/op/elementwise.hpp>

#include <cmath>

namespace promptkd {

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
        const V r = lane.fill(T(1)) / sqrt(lane.value(v + lane.fill(T(1e-5))));
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
        const V r = lane.load(weight) / sqrt(lane.value(lane.load(variance) + lane.fill(T(1e-5))));
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
        const V r = lane.load(weight) / sqrt(lane.value(lane.load(variance) + lane.fill(T(1e-5))));
        const V n = lane.fill(T(1) / count);
        for (Index i = 0; i < rows; ++i) {
            const V h = lane.load(x_hat + i * d);
            lane.store(grad + i * d, lane.value(r * (lane.load(grad + i * d) - (s + h * p) * n)));
        }
    }
};

}  // namespace detail

/// The parameters and running statistics of a BatchNorm over `d` columns (eps 1e-5).
template <class T>
struct BatchNormView {
    const T *weight, *bias;
    T *running_mean, *running_variance;
    Index d;
};

/// Batch normalisation in training: x̂ = (x − mean)/√(var + eps) with the batch's own (biased) statistics, y = x̂·weight
/// + bias; running ← 0.9·running + 0.1·batch, the variance unbiased. Saves x̂ (rows × d), mean and variance (d) for the
/// backward pass. With several ranks (`parallel`), the batch is the rows of all of them: with n_r of N rows on rank r,
/// mean = Σ n_r/N·m_r and var = Σ n_r/N·(var_r + (m_r − mean)²).
template <Device D, class T>
void batch_norm_forward(D& device, Arena<D>& arena, const BatchNormView<T>& bn, const T* x, T* x_hat, T* mean,
                        T* variance, T* y, Index rows, const DataParallel<D>& parallel = {}) {
    if (parallel.ranks.alone()) {
        device.map(bn.d, detail::BatchNormSums<T>{x, mean, variance, rows, bn.d});
    } else {
        typename Arena<D>::Scope scope(arena);
        T* own = arena.template scratch<T>(bn.d);
        const T share = static_cast<T>(parallel.share(rows));
        device.map(bn.d, detail::BatchNormSums<T>{x, own, variance, rows, bn.d});
        device.copy(mean, own, static_cast<std::size_t>(bn.d) * sizeof(T));
        scale(device, parallel.share(rows), mean, bn.d);
        parallel.ranks.all_reduce_sum(device, mean, bn.d);
        device.map(bn.d, detail::BatchNormVarianceShare<T>{own, mean, variance, share});
        parallel.ranks.all_reduce_sum(device, variance, bn.d);
    }
    const T n = static_cast<T>(parallel.all_rows(rows));
    device.map(bn.d,
               detail::BatchNormForward<T>{x, bn.weight, bn.bias, mean, variance, bn.running_mean, bn.running_variance,
                                           x_hat, y, rows, bn.d, T(0.1), n > T(1) ? n / (n - T(1)) : T(1)});
}

/// y = (x − running mean)/√(running variance + eps)·weight + bias.
template <Device D, class T>
void batch_norm_inference(D& device, const BatchNormView<T>& bn, const T* x, T* y, Index rows) {
    device.map(bn.d, detail::BatchNormInference<T>{x, bn.weight, bn.bias, bn.running_mean, bn.running_variance, y, rows,
                                                   bn.d});
}

/// Gradients: d_weight += Σ dy·x̂, d_bias += Σ dy over this rank's rows, and in place dx = weight/√(var + eps)·(dy −
/// (Σdy + x̂·Σ dy·x̂)/rows), with sums and rows of all ranks. `sums` is scratch for 2d values.
template <Device D, class T>
void batch_norm_backward(D& device, const BatchNormView<T>& bn, const T* x_hat, const T* variance, T* sums, T* grad,
                         T* d_weight, T* d_bias, Index rows, const DataParallel<D>& parallel = {}) {
    device.map(bn.d, detail::BatchNormBackwardSums<T>{x_hat, grad, sums, sums + bn.d, d_weight, d_bias, rows, bn.d});
    parallel.ranks.all_reduce_sum(device, sums, 2 * bn.d);
    device.map(bn.d, detail::BatchNormBackward<T>{x_hat, bn.weight, variance, sums, sums + bn.d, grad, rows, bn.d,
                                                  static_cast<T>(parallel.all_rows(rows))});
}

}  // namespace promptkd
