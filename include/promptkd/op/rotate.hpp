// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/matrix.hpp>
#include <promptkd/device/device.hpp>

namespace promptkd {

/// Rotary position embedding (Su et al., RoFormer, 2021) of the tokens of an image: the components (z₂ᵢ, z₂ᵢ₊₁) of each
/// head are turned by the angle φᵢ of their token. Tokens [first, first + cells) of each sequence are turned, the
/// others (class token, prompts) stand still. The tables are in device memory; without them nothing is turned.
template <class T>
struct Rotation {
    const T* cosine = nullptr;  ///< (cells, pairs)
    const T* sine = nullptr;    ///< (cells, pairs)
    Index first = 0;            ///< tokens in front of the cells
    Index cells = 0;            ///< tokens that are turned
    Index pairs = 0;            ///< half the components of a head

    /// Whether something is turned.
    explicit operator bool() const { return cosine != nullptr; }
};

/// Forth, or back again: the transpose, which is the gradient.
enum class Turn { forth, back };

namespace detail {

template <class T, class A>
struct RotatePairs {
    A* x;
    Rotation<T> by;
    Index tokens, ld, columns;
    T sign;

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const Index cell = divide(row, tokens).remainder - by.first;
        if (cell < 0 || cell >= by.cells) return;
        A* z = x + row * ld;
        const T *cosine = by.cosine + cell * by.pairs, *sine = by.sine + cell * by.pairs;
        const Index pairs = by.pairs;
        const T direction = sign;
        team.items(columns / 2, [=](Index i) {
            const Index pair = divide(i, pairs).remainder;
            const T a = static_cast<T>(z[2 * i]), b = static_cast<T>(z[2 * i + 1]);
            const T c = cosine[pair], s = direction * sine[pair];
            z[2 * i] = A(a * c - b * s);
            z[2 * i + 1] = A(b * c + a * s);
        });
    }
};

}  // namespace detail

/// Turns x (rows, heads·2·pairs) in place, sequences of `tokens` rows one behind the other:
/// (a, b) → (a·cos φ − b·sin φ, b·cos φ + a·sin φ).
template <Device D, class A>
void rotate(D& device, const Rotation<typename D::Scalar>& by, Index tokens, Turn turn, Matrix<A> x) {
    using T = typename D::Scalar;
    require(by.pairs > 0 && x.columns % (2 * by.pairs) == 0, "rotation: ", x.columns, " columns are not heads of ",
            2 * by.pairs, " components");
    require(tokens >= by.first + by.cells && x.rows % tokens == 0, "rotation: ", x.rows, " rows are not sequences of ",
            tokens, " tokens with ", by.first + by.cells, " of an image");
    device.rows(x.rows, 2 * x.columns,
                detail::RotatePairs<T, A>{x.data, by, tokens, x.ld, x.columns, turn == Turn::forth ? T(1) : T(-1)});
}

}  // namespace promptkd
