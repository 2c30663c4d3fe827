// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/rng.hpp>
#include <promptkd/nn/frozen.hpp>
#include <promptkd/op/elementwise.hpp>

#include <optional>
#include <type_traits>

namespace promptkd::detail {

/// y = (or +=) x∘m/(1 − p), m the mask of an InputDropout.
template <class E>
struct DropInputs {
    const E* x;
    E* y;
    Index columns, x_stride, y_stride;
    InputDropout dropout;
    bool add;

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const E* in = x + row * x_stride;
        E* out = y + row * y_stride;
        const Index first = row * columns;
        const InputDropout d = dropout;
        const bool accumulate = add;
        using Wide = std::conditional_t<std::is_same_v<E, double>, double, float>;
        const Wide factor = static_cast<Wide>(1 / (1 - d.probability));
        team.items(columns, [=](Index j) {
            const auto at = static_cast<std::uint64_t>(first + j);
            const Philox draw(d.seed, (static_cast<std::uint64_t>(d.step) << 32) | (at >> 2), d.stream);
            const bool kept = (draw.word[at & 3] >> 8) * (1.0 / 16777216.0) >= d.probability;
            const Wide value = kept ? static_cast<Wide>(in[j]) * factor : Wide(0);
            out[j] = static_cast<E>(accumulate ? static_cast<Wide>(out[j]) + value : value);
        });
    }
};

/// The products of a Linear's low-rank update, for activations of type E. A and B are the device's Scalar; where E is a
/// 16-bit type they are rounded to it first, so that both factors of a product have one type. One object serves one
/// batch: the x and dy of its calls are the same.
template <Device D, class E>
class LowRankProduct {
public:
    using T = typename D::Scalar;

    /// What is taken from the workspace is released with this.
    LowRankProduct(const Workspace<D>& w, const Linear<T>& layer)
        : scope_(w), w_(w), layer_(layer), update_(layer.low_rank), rows_(layer.outputs() / update_.parts) {}

    /// y += scale·(x·Aᵀ)·Bᵀ
    void add_to_outputs(Matrix<const E> x, Matrix<E> y) {
        const Matrix<E> h = reduced(x);
        const Matrix<const E> b = factor_b();
        for (Index p = 0; p < update_.parts; ++p) {
            Gemm g = matrix_product(operand(part_of(h, p)), transposed(rows_of(b, p)), update_.rank,
                                    y.column_range(p * rows_, rows_));
            g.alpha = update_.scale;
            g.beta = 1;
            w_.device.gemm(g);
        }
    }

    /// dx += scale·(dy·B)·A
    void add_to_input_gradient(Matrix<const E> dy, Matrix<E> dx) {
        const Matrix<E> d_h = reduced_gradient(dy);
        const bool drops = update_.dropout.probability > 0;
        const Matrix<E> to = drops ? scratch<E>(w_, dx.rows, dx.columns) : dx;
        Gemm g = matrix_product(operand(d_h), operand(factor_a()), d_h.columns, to);
        g.beta = drops ? 0 : 1;
        w_.device.gemm(g);
        if (drops) drop(to, dx, true);
    }

    /// dB += scale·dyᵀ·(x·Aᵀ), dA += scale·(dy·B)ᵀ·x
    void add_gradients(Matrix<const E> given, Matrix<const E> dy) {
        const Matrix<const E> x = input(given);
        const Matrix<E> h = projected(x);
        for (Index p = 0; p < update_.parts; ++p) {
            const Matrix<T> gradients{update_.b_gradient + p * rows_ * update_.rank, rows_, update_.rank};
            Gemm g = matrix_product(transposed(dy.column_range(p * rows_, rows_)), operand(part_of(h, p)), dy.rows,
                                    gradients);
            g.alpha = update_.scale;
            g.beta = 1;
            w_.device.gemm(g);
        }
        const Matrix<E> d_h = reduced_gradient(dy);
        const Matrix<T> gradients{update_.a_gradient, d_h.columns, layer_.inputs()};
        Gemm g = matrix_product(transposed(d_h), operand(x), x.rows, gradients);
        g.beta = 1;
        w_.device.gemm(g);
    }

private:
    /// h (rows, parts·rank) = x·Aᵀ, of x with dropout.
    Matrix<E> reduced(Matrix<const E> x) { return projected(input(x)); }

    /// x, or a copy of it with dropout.
    Matrix<const E> input(Matrix<const E> x) {
        if (update_.dropout.probability == 0) return x;
        const Matrix<E> dropped = scratch<E>(w_, x.rows, x.columns);
        drop(x, dropped, false);
        return dropped;
    }

    void drop(Matrix<const E> x, Matrix<E> y, bool add) {
        w_.device.rows(x.rows, 8 * x.columns,
                       DropInputs<E>{x.data, y.data, x.columns, x.ld, y.ld, update_.dropout, add});
    }

    Matrix<E> projected(Matrix<const E> x) {
        const Matrix<E> h = scratch<E>(w_, x.rows, update_.parts * update_.rank);
        w_.device.gemm(matrix_product(operand(x), transposed(factor_a()), layer_.inputs(), h));
        return h;
    }

    /// dh (rows, parts·rank) = scale·dy·B, computed once.
    Matrix<E> reduced_gradient(Matrix<const E> dy) {
        if (!d_h_) d_h_ = compute_reduced_gradient(dy);
        return *d_h_;
    }

    Matrix<E> compute_reduced_gradient(Matrix<const E> dy) {
        const Matrix<E> d_h = scratch<E>(w_, dy.rows, update_.parts * update_.rank);
        const Matrix<const E> b = factor_b();
        for (Index p = 0; p < update_.parts; ++p) {
            Gemm g = matrix_product(operand(dy.column_range(p * rows_, rows_)), operand(rows_of(b, p)), rows_,
                                    part_of(d_h, p));
            g.alpha = update_.scale;
            w_.device.gemm(g);
        }
        return d_h;
    }

    /// The columns of part p of h.
    template <class M>
    Matrix<M> part_of(Matrix<M> h, Index p) const {
        return h.column_range(p * update_.rank, update_.rank);
    }
    /// The rows of part p of B.
    Matrix<const E> rows_of(Matrix<const E> b, Index p) const {
        return {b.data + p * rows_ * update_.rank, rows_, update_.rank};
    }

    Matrix<const E> factor_a() { return factor(update_.a, update_.parts * update_.rank, layer_.inputs()); }
    Matrix<const E> factor_b() { return factor(update_.b, layer_.outputs(), update_.rank); }

    /// A matrix of the update in the activations' type.
    Matrix<const E> factor(const T* values, Index rows, Index columns) {
        if constexpr (std::is_same_v<E, T>) {
            return {values, rows, columns};
        } else {
            const Matrix<E> narrow = scratch<E>(w_, rows, columns);
            convert(w_.device, values, narrow.data, narrow.count());
            return narrow;
        }
    }

    WorkspaceScope<D> scope_;
    const Workspace<D> w_;
    const Linear<T>& layer_;
    const LowRank<T>& update_;
    Index rows_;
    std::optional<Matrix<E>> d_h_;
};

}  // namespace promptkd::detail
