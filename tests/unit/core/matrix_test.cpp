// SPDX-License-Identifier: Apache-2.0
#include <promptkd/core/matrix.hpp>

#include <doctest/doctest.h>

#include <numeric>
#include <vector>

namespace matrix_test {

using namespace promptkd;

namespace {

/// T comes from the output alone.
template <class T>
T first_of(ConstMatrix<T> x, Matrix<T> y) {
    return *x.row(0) + *y.row(0);
}

}  // namespace

TEST_CASE("matrix: rows, ranges and blocks are views of the same elements") {
    std::vector<int> values(24);
    std::iota(values.begin(), values.end(), 0);
    const Matrix<int> m(values.data(), 4, 6);
    CHECK(m.count() == 24);
    CHECK(m.ld == 6);
    CHECK(m.is_contiguous());
    CHECK(*m.row(2) == 12);
    CHECK(m.row_range(1, 2).row(1) == m.row(2));
    CHECK(m.row_range(1, 2).is_contiguous());
    const Matrix<int> part = m.block(1, 2, 3, 2);
    CHECK(part.rows == 2);
    CHECK(part.columns == 2);
    CHECK(part.row(1)[1] == 16);
    CHECK(!part.is_contiguous());
    CHECK(m.column_range(4, 2).row(3)[0] == 22);
    CHECK(m.column_range(4, 2).row_range(3, 1).is_contiguous());  // a single row
    m.column_range(0, 1).row(1)[0] = -1;
    CHECK(values[6] == -1);
}

TEST_CASE("matrix: empty ranges, and matrices without data") {
    std::vector<int> values(6);
    const Matrix<int> m(values.data(), 2, 3);
    CHECK(m.row_range(2, 0).count() == 0);
    CHECK(Matrix<int>().count() == 0);
    CHECK(Matrix<int>().data == nullptr);
    CHECK(Matrix<int>(nullptr, 5, 3).row_range(2, 2).data == nullptr);  // as while planning
}

TEST_CASE("matrix: a read-only view is deduced from the output") {
    float x = 2, y = 3;
    const Matrix<float> out(&y, 1, 1), in(&x, 1, 1);
    const Matrix<const float> fixed = in;
    CHECK(first_of(in, out) == 5);
    CHECK(first_of(fixed, out) == 5);
    CHECK(fixed.data == &x);
}

TEST_CASE("matrix: what does not fit is said with both shapes") {
    std::vector<int> values(24);
    const Matrix<int> m(values.data(), 4, 6);
    CHECK_THROWS_WITH_AS(static_cast<void>(m.row_range(3, 2)),
                         "rows 3 to 5, columns 0 to 6 are not inside a matrix of 4 x 6", Error);
    CHECK_THROWS_WITH_AS(static_cast<void>(m.column_range(-1, 2)), doctest::Contains("columns -1 to 1"), Error);
    CHECK_THROWS_WITH_AS(require_shape(m, 4, 5, "the weights"), "the weights: a matrix of 4 x 6, expected 4 x 5",
                         Error);
    CHECK_THROWS_WITH_AS(require_contiguous(m.column_range(0, 3), 4, 3, "x"),
                         "x: a matrix of 4 x 3 whose rows are 6 apart, expected one behind the other", Error);
    CHECK(to_string(m) == "4 x 6");
}

}  // namespace matrix_test
