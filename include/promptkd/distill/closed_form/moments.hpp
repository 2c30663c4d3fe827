// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/memory.hpp>
#include <promptkd/device/parallel/communicator.hpp>
#include <promptkd/op/wide_sums.hpp>

#include <initializer_list>
#include <utility>
#include <vector>

namespace promptkd {

namespace detail {

/// The sums of another part of the images, which must be `same` in their sizes; `what` names them in the error.
inline void merge_sums(bool same, const char* what,
                       std::initializer_list<std::pair<std::vector<double>*, const std::vector<double>*>> sums) {
    require(same, what, " of different sizes cannot be added: they belong to different runs");
    for (const auto& [to, from] : sums)
        for (std::size_t i = 0; i < to->size(); ++i) (*to)[i] += (*from)[i];
}

}  // namespace detail

/// Pass 1 of a closed-form fit: N, Σx and Σx·xᵀ of the student's raw features x (e_s), in double. Additive over blocks,
/// shards and processes; the sums' bits depend on the order of the images and the size of the blocks alone.
struct FeatureMoments {
    Index width = 0;             ///< e_s
    Index images = 0;            ///< N
    std::vector<double> sum;     ///< Σx (e_s)
    std::vector<double> square;  ///< Σx·xᵀ (e_s, e_s)

    /// Adds the images of another part. Throws Error when the widths differ.
    void merge(const FeatureMoments& other) {
        detail::merge_sums(width == other.width, "moments", {{&sum, &other.sum}, {&square, &other.square}});
        images += other.images;
    }

    /// m = Σx/N
    std::vector<double> mean() const {
        std::vector<double> m = sum;
        for (double& value : m) value /= static_cast<double>(images);
        return m;
    }

    /// Throws Error when all images have equal features, up to rounding: nothing can be fitted to them.
    void require_variation() const {
        const std::vector<double> c = scatter();
        double trace = 0, size = 0;
        for (Index i = 0; i < width; ++i) {
            trace += c[static_cast<std::size_t>(i * width + i)];
            size += square[static_cast<std::size_t>(i * width + i)];
        }
        require(trace > 1e-10 * size, "the student's features of all ", images,
                " images are equal; nothing can be fitted to them");
    }

    /// C = Σx·xᵀ − N·m·mᵀ (e_s, e_s)
    std::vector<double> scatter() const {
        const std::vector<double> m = mean();
        std::vector<double> c = square;
        for (Index i = 0; i < width; ++i)
            for (Index j = 0; j < width; ++j)
                c[static_cast<std::size_t>(i * width + j)] -=
                    static_cast<double>(images) * m[static_cast<std::size_t>(i)] * m[static_cast<std::size_t>(j)];
        return c;
    }
};

namespace detail {

/// The sum of all ranks' `mine`, in the order of the ranks, on every rank.
template <Device D>
std::vector<double> add_ranks(D& device, const Ranks<D>& ranks, std::vector<double> mine) {
    if (ranks.alone()) return mine;
    std::vector<double> total(mine.size(), 0.0);
    for (int root = 0; root < ranks.size(); ++root) {
        Buffer<D, double> part(device, mine);
        ranks.broadcast(device, part.data(), mine.size() * sizeof(double), root);
        const std::vector<double> found = part.to_host();
        for (std::size_t i = 0; i < total.size(); ++i) total[i] += found[i];
    }
    return total;
}

/// Σ aᵀ·b in double over blocks of rows whose products the device computes in its own type, in panels of columns. With
/// b = a only the lower triangle is computed. Several ranks divide the panels: each sums its own over all blocks, so
/// that the bits are those of one process.
template <Device D>
class CrossProducts {
public:
    using T = typename D::Scalar;

    /// Panel k belongs to the rank (k + `shift`) modulo their number.
    CrossProducts(D& device, Index rows, Index columns, const Ranks<D>& ranks = {}, Index shift = 0)
        : device_(device),
          ranks_(ranks),
          shift_(shift),
          rows_(rows),
          columns_(columns),
          total_(device, rows * columns),
          product_(device, rows * std::min(columns, panel)) {
        device.zero(total_.data(), static_cast<std::size_t>(rows * columns) * sizeof(double));
    }

    /// total += aᵀ·b, a (n, rows), b (n, columns).
    void add(const T* a, const T* b, Index n) {
        for (Index first = 0; first < columns_; first += panel)
            if (is_mine(first)) add_panel(a, b, n, 0, first);
    }

    /// total += aᵀ·a in its lower triangle.
    void add_square(const T* a, Index n) {
        for (Index first = 0; first < columns_; first += panel)
            if (is_mine(first)) add_panel(a, a, n, first, first);
    }

    /// The sum on the host; `symmetric`: the upper triangle is filled in from the lower.
    std::vector<double> to_host(bool symmetric) const {
        std::vector<double> total = add_ranks(device_, ranks_, total_.to_host());
        if (symmetric)
            for (Index i = 0; i < rows_; ++i)
                for (Index j = i + 1; j < columns_; ++j)
                    total[static_cast<std::size_t>(i * columns_ + j)] =
                        total[static_cast<std::size_t>(j * columns_ + i)];
        return total;
    }

private:
    static constexpr Index panel = 512;

    bool is_mine(Index column) const { return (column / panel + shift_) % ranks_.size() == ranks_.rank(); }

    /// Columns [column, column + panel) of the rows from `row` on.
    void add_panel(const T* a, const T* b, Index n, Index row, Index column) {
        const Index width = std::min(panel, columns_ - column);
        Gemm g;
        g.m = rows_ - row;
        g.n = width;
        g.k = n;
        g.a = transposed(a + row, rows_);
        g.b = operand(b + column, columns_);
        g.c = product_.data();
        g.c_type = dtype_of<T>;
        g.ldc = width;
        device_.gemm(g);
        add_wide(device_, static_cast<const T*>(product_.data()), total_.data() + row * columns_ + column, columns_,
                 rows_ - row, width);
    }

    D& device_;
    Ranks<D> ranks_;
    Index shift_, rows_, columns_;
    Buffer<D, double> total_;
    Buffer<D, T> product_;
};

}  // namespace detail

/// Gathers FeatureMoments from blocks of features in device memory.
template <Device D>
class MomentSums {
public:
    using T = typename D::Scalar;

    /// For features of `width` values. Every one of `ranks` adds the same blocks.
    MomentSums(D& device, Index width, const Ranks<D>& ranks = {})
        : device_(device), width_(width), square_(device, width, width, ranks), sum_(device, width) {
        device.zero(sum_.data(), static_cast<std::size_t>(width) * sizeof(double));
    }

    /// x (n, e_s)
    void add(const T* x, Index n) {
        square_.add_square(x, n);
        add_wide_column_sums(device_, x, sum_.data(), n, width_);
        images_ += n;
    }

    /// The sums so far, on the host.
    FeatureMoments result() const { return {width_, images_, sum_.to_host(), square_.to_host(true)}; }

private:
    D& device_;
    Index width_, images_ = 0;
    detail::CrossProducts<D> square_;
    Buffer<D, double> sum_;
};

}  // namespace promptkd
