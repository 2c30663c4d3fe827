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
#include <Eigen/QR>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <cmath>
#include <utility>
#include <vector>

namespace promptkd {

/// A symmetric matrix as Q·diag(values)·Qᵀ: values ascending, the columns of `vectors` (n, n; row-major) orthonormal.
struct SymmetricEigen {
    Index n = 0;                  ///< rows and columns
    std::vector<double> values;   ///< eigenvalues (n), ascending
    std::vector<double> vectors;  ///< eigenvectors (n, n), one a column
};

/// A symmetric matrix as H·T·Hᵀ with T tridiagonal and H orthogonal: what all (matrix + λ)⁻¹ can be had from for the
/// price of one decomposition, a fifth of that into eigenvectors.
struct SymmetricTridiagonal {
    Index n = 0;                       ///< rows and columns
    std::vector<double> diagonal;      ///< of T (n)
    std::vector<double> off_diagonal;  ///< of T, beside the diagonal (n − 1)
    std::vector<double> vectors;       ///< H (n, n), row-major
};

namespace detail {

inline void require_symmetric_input(const std::vector<double>& matrix, Index n) {
    require(static_cast<Index>(matrix.size()) == n * n, "a matrix of ", matrix.size(), " values is not ", n, " x ", n);
    for (const double value : matrix)
        require(std::isfinite(value), "the decomposition of a ", n, " x ", n, " matrix: a value is not finite");
}

inline SymmetricTridiagonal tridiagonalize(std::vector<double> matrix, Index size) {
    using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const Eigen::Tridiagonalization<Eigen::MatrixXd> solver(
        Eigen::Map<const RowMajor>(matrix.data(), size, size));  // reads the lower triangle
    matrix = {};  // three of them at once would be the largest memory of a fit
    SymmetricTridiagonal result{size, std::vector<double>(static_cast<std::size_t>(size)),
                                std::vector<double>(static_cast<std::size_t>(size - 1)),
                                std::vector<double>(static_cast<std::size_t>(size * size))};
    Eigen::Map<Eigen::VectorXd>(result.diagonal.data(), size) = solver.diagonal();
    Eigen::Map<Eigen::VectorXd>(result.off_diagonal.data(), size - 1) = solver.subDiagonal();
    Eigen::Map<RowMajor>(result.vectors.data(), size, size) = solver.matrixQ();
    return result;
}

/// Q of Y = QR, thin: orthonormal columns that span those of Y (rows, columns), row-major, rows ≥ columns.
inline std::vector<double> orthonormal_columns(const std::vector<double>& y, Index rows, Index columns) {
    using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const Eigen::HouseholderQR<Eigen::MatrixXd> factors(Eigen::Map<const RowMajor>(y.data(), rows, columns));
    std::vector<double> q(y.size());
    Eigen::Map<RowMajor>(q.data(), rows, columns) = factors.householderQ() * Eigen::MatrixXd::Identity(rows, columns);
    return q;
}

inline SymmetricEigen decompose(const std::vector<double>& matrix, Index size) {
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

/// The eigen-decomposition of a symmetric matrix (n, n) by Eigen. Throws Error for values that are not finite and where
/// the iteration does not converge.
inline SymmetricEigen symmetric_eigen(const std::vector<double>& matrix, Index n) {
    detail::require_symmetric_input(matrix, n);
    return detail::decompose(matrix, n);
}

/// The tridiagonal form of a symmetric matrix (n, n), n ≥ 1, by Eigen (Householder). Throws Error for values that are
/// not finite.
inline SymmetricTridiagonal symmetric_tridiagonal(std::vector<double> matrix, Index n) {
    detail::require_symmetric_input(matrix, n);
    return detail::tridiagonalize(std::move(matrix), n);
}

}  // namespace promptkd
