// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/eigen.hpp>
#include <promptkd/core/error.hpp>
#include <promptkd/device/gemm.hpp>

#include <cstdlib>
#include <memory>

namespace promptkd::detail {

/// Memory that only grows: what a thread needs for packing and widening, allocated in the first steps and then reused.
template <class T>
class GrowingBuffer {
public:
    T* at_least(Index n) {
        if (n > size_) {
            data_.reset(
                static_cast<T*>(std::aligned_alloc(64, (static_cast<std::size_t>(n) * sizeof(T) + 63) / 64 * 64)));
            require(data_ != nullptr, "out of memory: ", n, " elements of work space");
            size_ = n;
        }
        return data_.get();
    }

private:
    struct Free {
        void operator()(T* p) const { std::free(p); }
    };
    std::unique_ptr<T, Free> data_;
    Index size_ = 0;
};

/// Eigen's packing blocks in memory that outlives the product (Eigen's own would allocate in every call).
template <class T>
class ProductBlocking : public Eigen::internal::level3_blocking<T, T> {
    using Base = Eigen::internal::level3_blocking<T, T>;

public:
    void prepare(Index rows, Index columns, Index depth) {
        Eigen::Index kc = depth, mc = rows, nc = columns;
        Eigen::internal::computeProductBlockingSizes<T, T>(kc, mc, nc, Eigen::Index(1));
        Base::m_kc = kc, Base::m_mc = mc, Base::m_nc = nc;
        Base::m_blockA = a_.at_least(kc * mc);
        Base::m_blockB = b_.at_least(kc * nc);
    }

private:
    GrowingBuffer<T> a_, b_;
};

/// What one thread needs to compute blocks of products in type T.
template <class T>
struct ProductThread {
    ProductBlocking<T> blocking;
    GrowingBuffer<T> wide_a, wide_b, wide_c;
};

/// to[i] = from[i] widened to T, i < n; Eigen converts 16-bit types with the processor's own instructions.
template <class T>
void widen(const void* from, DType type, Index first, Index n, T* to) {
    Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>> wide(to, n);
    const auto run = [&](auto tag) {
        using W = decltype(tag);
        wide = Eigen::Map<const Eigen::Array<W, Eigen::Dynamic, 1>>(static_cast<const W*>(from) + first, n)
                   .template cast<T>();
    };
    if (type == DType::f16)
        run(Eigen::half{});
    else if (type == DType::bf16)
        run(Eigen::bfloat16{});
    else
        fail("product: a factor of type ", name_of(type), " cannot be used on a device that computes in ",
             name_of(dtype_of<T>));
}

/// A stored matrix of type T as Eigen's product sees it: pointer, leading dimension, stored transposed or not.
template <class T>
struct Stored {
    const T* data;
    Index ld;
    bool transposed;
};

/// C(m×n) += alpha·A(m×k)·B(k×n), row-major, through Eigen's product kernel. Row-major C is column-major Cᵀ = Bᵀ·Aᵀ.
template <class T>
void accumulate_product(Index m, Index n, Index k, Stored<T> a, Stored<T> b, T* c, Index ldc, T alpha,
                        ProductBlocking<T>& blocking) {
    blocking.prepare(n, m, k);
    const auto run = [&](auto b_order, auto a_order) {
        Eigen::internal::general_matrix_matrix_product<Eigen::Index, T, decltype(b_order)::value, false, T,
                                                       decltype(a_order)::value, false, Eigen::ColMajor,
                                                       1>::run(n, m, k, b.data, b.ld, a.data, a.ld, c, 1, ldc, alpha,
                                                               blocking);
    };
    using Row = std::integral_constant<int, Eigen::RowMajor>;
    using Column = std::integral_constant<int, Eigen::ColMajor>;
    if (b.transposed)
        a.transposed ? run(Row{}, Row{}) : run(Row{}, Column{});
    else
        a.transposed ? run(Column{}, Row{}) : run(Column{}, Column{});
}

/// The block [row0, row0+rows) × [column0, column0+columns) of the factor that `x` describes, in type T: a view where
/// it is stored in T, else a widened copy in `buffer`.
template <class T>
Stored<T> block_of(const Operand& x, const void* base, Index row0, Index rows, Index column0, Index columns,
                   GrowingBuffer<T>& buffer) {
    const Index first = x.transposed ? column0 * x.ld + row0 : row0 * x.ld + column0;
    if (x.type == dtype_of<T>) return {static_cast<const T*>(base) + first, x.ld, x.transposed};
    const Index lines = x.transposed ? columns : rows, length = x.transposed ? rows : columns;
    T* wide = buffer.at_least(lines * length);
    for (Index i = 0; i < lines; ++i) widen(base, x.type, first + i * x.ld, length, wide + i * length);
    return {wide, length, x.transposed};
}

/// One block of C = α·A·B + β·C (+ bias, + residual), see Gemm.
template <class T>
class ProductBlock {
public:
    ProductBlock(const Gemm& gemm, Index outer, Index batch, ProductThread<T>& thread)
        : g_(gemm),
          thread_(thread),
          a_(gemm.a.at(outer, batch)),
          b_(gemm.b.at(outer, batch)),
          offset_(gemm.offset_c(outer, batch)) {}

    void compute(Index row0, Index rows, Index column0, Index columns) {
        if (g_.c_type == dtype_of<T>) {
            T* c = static_cast<T*>(g_.c) + offset_ + row0 * g_.ldc + column0;
            start(static_cast<const T*>(g_.residual), static_cast<const T*>(g_.c), c, g_.ldc, row0, rows, column0,
                  columns);
            multiply(c, g_.ldc, row0, rows, column0, columns);
        } else if (g_.c_type == DType::f16) {
            narrow<half>(row0, rows, column0, columns);
        } else {
            require(g_.c_type == DType::bf16, "product: a result of type ", name_of(g_.c_type), " is not supported");
            narrow<bf16>(row0, rows, column0, columns);
        }
    }

private:
    /// c ← β·C + residual + bias, from which the product then accumulates.
    template <class C>
    void start(const C* residual, const C* old, T* c, Index ld, Index row0, Index rows, Index column0, Index columns) {
        const T beta = static_cast<T>(g_.beta);
        const T* bias = g_.bias ? static_cast<const T*>(g_.bias) + column0 : nullptr;
        for (Index i = 0; i < rows; ++i) {
            T* line = c + i * ld;
            const Index at = offset_ + (row0 + i) * g_.ldc + column0;
            if (beta != T(0)) {
                for (Index j = 0; j < columns; ++j) line[j] = beta * static_cast<T>(old[at + j]);
            } else if (residual) {
                const C* from = residual + at;
                if (bias)
                    for (Index j = 0; j < columns; ++j) line[j] = static_cast<T>(from[j]) + bias[j];
                else if (static_cast<const void*>(from) != static_cast<const void*>(line))
                    for (Index j = 0; j < columns; ++j) line[j] = static_cast<T>(from[j]);
            } else {
                for (Index j = 0; j < columns; ++j) line[j] = bias ? bias[j] : T(0);
            }
        }
    }

    void multiply(T* c, Index ld, Index row0, Index rows, Index column0, Index columns) {
        const Stored<T> a = block_of<T>(g_.a, a_, row0, rows, 0, g_.k, thread_.wide_a);
        const Stored<T> b = block_of<T>(g_.b, b_, 0, g_.k, column0, columns, thread_.wide_b);
        accumulate_product(rows, columns, g_.k, a, b, c, ld, static_cast<T>(g_.alpha), thread_.blocking);
    }

    template <class C>
    void narrow(Index row0, Index rows, Index column0, Index columns) {
        T* wide = thread_.wide_c.at_least(rows * columns);
        start(static_cast<const C*>(g_.residual), static_cast<const C*>(g_.c), wide, columns, row0, rows, column0,
              columns);
        multiply(wide, columns, row0, rows, column0, columns);
        C* c = static_cast<C*>(g_.c) + offset_ + row0 * g_.ldc + column0;
        for (Index i = 0; i < rows; ++i)
            for (Index j = 0; j < columns; ++j) c[i * g_.ldc + j] = C(static_cast<float>(wide[i * columns + j]));
    }

    const Gemm& g_;
    ProductThread<T>& thread_;
    const void *a_, *b_;
    Index offset_;
};

}  // namespace promptkd::detail
