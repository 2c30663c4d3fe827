// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/op/formulas.hpp>
#include <promptkd/op/sequences.hpp>

#include <optional>

namespace promptkd {

namespace detail {

/// How many of the keys of one sequence query row `r` may see.
PROMPTKD_HD inline Index visible_keys(const Sequences& s, bool selected, const std::int32_t* positions, Index r) {
    if (!s.causal) return s.prefix + s.length;
    if (!selected && r < s.prefix) return r + 1;
    const Division place =
        selected ? Division{r, positions ? static_cast<Index>(positions[r]) : 0} : divide(r - s.prefix, s.length);
    if (s.last_row_keys && place.remainder == s.length - 1) return s.last_row_keys[place.quotient];
    return s.prefix + place.remainder + 1;
}

template <class T, class A>
struct AttentionSoftmax {
    T* scores;         // overwritten
    A* probabilities;  // may be the scores
    Sequences s;
    bool selected;
    const std::int32_t* positions;
    Index queries, ld;

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index i) const {
        const Index keys = s.tokens(), visible = visible_keys(s, selected, positions, divide(i, queries).remainder);
        T* row = scores + i * ld;
        A *out = probabilities + i * ld, *hidden = out + visible;
        const T scale = T(1) / store_exponentials(team, visible, row, row).total;
        team.each(visible, [=](const auto& lane) { lane.store(out, lane.value(lane.load(row) * scale)); });
        team.each(keys - visible, [hidden](const auto& lane) { lane.store(hidden, lane.fill(0)); });
    }
};

template <class T, class A>
struct AttentionSoftmaxBackward {
    const A* probabilities;
    const T* d_p;
    A* d_s;  // may be d_p
    Sequences s;
    bool selected;
    const std::int32_t* positions;
    Index queries, ld;

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index i) const {
        const Index keys = s.tokens(), visible = visible_keys(s, selected, positions, divide(i, queries).remainder);
        const A* p = probabilities + i * ld;
        const T* g = d_p + i * ld;
        A *out = d_s + i * ld, *hidden = out + visible;
        const T dot = team.sum(visible, [=](const auto& lane) { return lane.value(lane.load(p) * lane.load(g)); });
        team.each(visible, [=](const auto& lane) {
            lane.store(out, lane.value(lane.load(p) * (lane.load(g) - lane.fill(dot))));
        });
        team.each(keys - visible, [hidden](const auto& lane) { lane.store(hidden, lane.fill(0)); });
    }
};

}  // namespace detail

/// probabilities = softmax of attention scores over the keys each query may see, both (heads·queries, tokens) with
/// equal leading dimensions; hidden keys get 0. The scores are overwritten; probabilities may be the scores.
template <Device D, class A>
void attention_softmax(D& device, const Sequences& s, const std::optional<Selection>& selection,
                       Matrix<typename D::Scalar> scores, Matrix<A> probabilities) {
    using T = typename D::Scalar;
    const Index queries = selection ? s.count : s.rows(), ld = scores.ld;
    require_shape(scores, probabilities.rows, s.tokens(), "attention softmax: the scores");
    require_shape(probabilities, scores.rows, s.tokens(), "attention softmax: the probabilities");
    require(probabilities.ld == ld, "attention softmax: rows of scores are ", ld, " apart, those of probabilities ",
            probabilities.ld);
    device.rows(scores.rows, 4 * s.tokens(),
                detail::AttentionSoftmax<T, A>{scores.data, probabilities.data, s, selection.has_value(),
                                               selection ? selection->positions : nullptr, queries, ld});
}

/// dS = P∘(dP − rowsum(P∘dP)), shaped like the scores; dS may be dP. Hidden keys are not read and get 0.
template <Device D, class A>
void attention_softmax_backward(D& device, const Sequences& s, const std::optional<Selection>& selection,
                                ConstMatrix<A> probabilities, ConstMatrix<typename D::Scalar> d_p, Matrix<A> d_s) {
    using T = typename D::Scalar;
    const Index queries = selection ? s.count : s.rows(), ld = d_s.ld;
    require_shape(probabilities, d_s.rows, s.tokens(), "gradient of attention softmax: the probabilities");
    require_shape(d_p, d_s.rows, s.tokens(), "gradient of attention softmax: dP");
    require(probabilities.ld == ld && d_p.ld == ld, "gradient of attention softmax: rows are ", probabilities.ld, ", ",
            d_p.ld, " and ", ld, " apart, expected one distance");
    device.rows(d_s.rows, 3 * s.tokens(),
                detail::AttentionSoftmaxBackward<T, A>{probabilities.data, d_p.data, d_s.data, s, selection.has_value(),
                                                       selection ? selection->positions : nullptr, queries, ld});
}

}  // namespace promptkd
