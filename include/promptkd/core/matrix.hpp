// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>

#include <string>
#include <type_traits>

namespace promptkd {

/// A view of a row-major matrix, usually in device memory: element (i, j) is data[i·ld + j]. It owns nothing and is
/// passed by value. A Matrix<T> is a Matrix<const T> wherever one is asked for.
template <class T>
struct Matrix {
    T* data = nullptr;            ///< the first element
    Index rows = 0, columns = 0;  ///< extents
    Index ld = 0;                 ///< elements between the beginnings of two rows

    Matrix() = default;
    /// Rows one behind the other.
    Matrix(T* data, Index rows, Index columns) : Matrix(data, rows, columns, columns) {}
    /// Rows that lie `ld` elements apart.
    Matrix(T* data, Index rows, Index columns, Index ld) : data(data), rows(rows), columns(columns), ld(ld) {}

    /// A read-only view of a matrix that may be written to.
    template <class U>
    requires std::is_same_v<const U, T> Matrix(const Matrix<U>& m) : Matrix(m.data, m.rows, m.columns, m.ld) {}

    /// Elements of the matrix, without what lies between its rows.
    Index count() const { return rows * columns; }
    /// Whether the rows lie without gaps.
    bool is_contiguous() const { return ld == columns || rows <= 1; }

    /// The first element of row `i`.
    T* row(Index i) const { return data + i * ld; }
    /// Rows [first, first + n).
    Matrix row_range(Index first, Index n) const { return block(first, n, 0, columns); }
    /// Columns [first, first + n) of all rows.
    Matrix column_range(Index first, Index n) const { return block(0, rows, first, n); }
    /// `m` rows from row `i` on, `n` columns from column `j` on. Throws Error when they are not inside the matrix.
    Matrix block(Index i, Index m, Index j, Index n) const {
        require(i >= 0 && m >= 0 && i + m <= rows && j >= 0 && n >= 0 && j + n <= columns, "rows ", i, " to ", i + m,
                ", columns ", j, " to ", j + n, " are not inside a matrix of ", rows, " x ", columns);
        return {data ? data + i * ld + j : nullptr, m, n, ld};
    }
};

/// A matrix that is read only. Not deduced from the argument, so that a function whose output says what T is takes a
/// Matrix<T> and a Matrix<const T> alike.
template <class T>
using ConstMatrix = std::type_identity_t<Matrix<const T>>;

/// A pointer to what is read only, likewise.
template <class T>
using ConstPointer = std::type_identity_t<const T*>;

/// "8 x 512".
template <class T>
std::string to_string(const Matrix<T>& m) {
    return concat(m.rows, " x ", m.columns);
}

/// Throws Error with both shapes unless `m`, which the message calls `what`, is rows × columns.
template <class T>
void require_shape(const Matrix<T>& m, Index rows, Index columns, const char* what) {
    require(m.rows == rows && m.columns == columns, what, ": a matrix of ", m.rows, " x ", m.columns, ", expected ",
            rows, " x ", columns);
}

/// The same where the matrix's rows must also lie one behind the other.
template <class T>
void require_contiguous(const Matrix<T>& m, Index rows, Index columns, const char* what) {
    require_shape(m, rows, columns, what);
    require(m.is_contiguous(), what, ": a matrix of ", m.rows, " x ", m.columns, " whose rows are ", m.ld,
            " apart, expected one behind the other");
}

}  // namespace promptkd
