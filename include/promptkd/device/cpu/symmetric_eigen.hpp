// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/eigen.hpp>
#include <promptkd/core/error.hpp>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <Eigen/Eigenvalues>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <vector>

#if defined(PROMPTKD_WITH_LAPACK)
/// LAPACK's eigen-decomposition of a symmetric matrix by divide and conquer (Fortran interface, 32-bit integers).
extern "C" void dsyevd_(const char* job, const char* triangle, const int* n, double* a, const int* lda, double* w,
                        double* work, const int* work_size, int* integers, const int* integers_size, int* info);
#endif

namespace promptkd {

/// A symmetric matrix as Q·diag(values)·Qᵀ: values ascending, the columns of `vectors` (n, n; row-major) orthonormal.
struct SymmetricEigen {
    Index n = 0;
    std::vector<double> values;
    std::vector<double> vectors;
};

namespace detail {

#if defined(PROMPTKD_WITH_LAPACK)
inline SymmetricEigen lapack_eigen(std::vector<double> matrix, Index size) {
    const int n = static_cast<int>(size);
    SymmetricEigen result{size, std::vector<double>(static_cast<std::size_t>(size)), std::move(matrix)};
    int info = 0;
    int integer_size = -1;
    int work_size = -1;
    double best_work = 0;
    int best_integers = 0;
    dsyevd_("V", "L", &n, result.vectors.data(), &n, result.values.data(), &best_work, &work_size, &best_integers,
            &integer_size, &info);
    work_size = static_cast<int>(best_work);
    integer_size = best_integers;
    std::vector<double> work(static_cast<std::size_t>(work_size));
    std::vector<int> integers(static_cast<std::size_t>(integer_size));
    dsyevd_("V", "L", &n, result.vectors.data(), &n, result.values.data(), work.data(), &work_size, integers.data(),
            &integer_size, &info);
    require(info == 0, "the eigen-decomposition of a ", size, " x ", size, " matrix did not converge");
    // LAPACK's columns are the rows of a row-major matrix.
    Eigen::Map<Eigen::MatrixXd>(result.vectors.data(), size, size).transposeInPlace();
    return result;
}
#endif

inline SymmetricEigen eigen_eigen(const std::vector<double>& matrix, Index size) {
    using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(
        Eigen::Map<const RowMajor>(matrix.data(), size, size));  // reads the lower triangle
    require(solver.info() == Eigen::Success, "the eigen-decomposition of a ", size, " x ", size,
            " matrix did not converge");
    SymmetricEigen result{size, std::vector<double>(static_cast<std::size_t>(size)),
                          std::vector<double>(static_cast<std::size_t>(size * size))};
    Eigen::Map<Eigen::VectorXd>(result.values.data(), size) = solver.eigenvalues();
    Eigen::Map<RowMajor>(result.vectors.data(), size, size) = solver.eigenvectors();
    return result;
}

}  // namespace detail

/// The eigen-decomposition of a symmetric matrix (n, n), by LAPACK (dsyevd) where promptkd::lapack is linked, else by
/// Eigen. Throws Error for values that are not finite and where the iteration does not converge.
inline SymmetricEigen symmetric_eigen(std::vector<double> matrix, Index n) {
    require(static_cast<Index>(matrix.size()) == n * n, "a matrix of ", matrix.size(), " values is not ", n, " x ", n);
    for (const double value : matrix)
        require(std::isfinite(value), "the eigen-decomposition of a ", n, " x ", n, " matrix: a value is not finite");
#if defined(PROMPTKD_WITH_LAPACK)
    return detail::lapack_eigen(std::move(matrix), n);
#else
    return detail::eigen_eigen(matrix, n);
#endif
}

}  // namespace promptkd
