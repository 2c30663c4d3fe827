// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/memory.hpp>
#include <promptkd/loss/cross_entropy.hpp>
#include <promptkd/op/reduce.hpp>

namespace promptkd {

/// A class whose teacher logit is below this is left out of the distributions of teacher and student alike, see
/// symmetric_distillation_loss().
inline constexpr double left_out_below = -5000;
/// What is added to a teacher logit to leave its class out.
inline constexpr double leave_out = -10000;

namespace detail {

template <class T>
struct SymmetricDistillation {
    const T *teacher, *student;
    T *row_loss, *d_student;
    Index classes;
    T scale;

    /// The student's logits, lowered out of sight where the teacher's are: 2·min(q_t + 5000, 0), which lanes lack.
    template <class Lane>
    static PROMPTKD_HD LaneValue<Lane> visible(const Lane& lane, const T* qt, const T* qs) {
        using V = LaneValue<Lane>;
        const V over = lane.load(qt) - lane.fill(T(left_out_below));
        const V size = lane.abs(over);
        return lane.value(lane.load(qs) + (over - size));
    }

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const T *qt = teacher + row * classes, *qs = student + row * classes;
        T* out = d_student + row * classes;
        const T log_t = sum_exponentials(team, classes, qt, T(1)).log();
        const T top = team.max(classes, [=](const auto& lane) { return visible(lane, qt, qs); });
        const T total = team.sum(classes, [=](const auto& lane) {
            using std::exp;
            const LaneValue<decltype(lane)> e = exp(lane.value(visible(lane, qt, qs) - lane.fill(top)));
            return e;
        });
        const T log_s = top + std::log(total);
        const T backward = team.sum(classes, [=](const auto& lane) {  // KL(p_s ‖ p_t)
            using std::exp;
            using V = LaneValue<decltype(lane)>;
            const V ls = visible(lane, qt, qs) - lane.fill(log_s), lt = lane.load(qt) - lane.fill(log_t);
            const V ps = exp(ls);
            return lane.value(ps * (ls - lt));
        });
        const T half = T(0.5) * scale;
        const T forward = team.sum(classes, [=](const auto& lane) {  // KL(p_t ‖ p_s)
            using std::exp;
            using V = LaneValue<decltype(lane)>;
            const V ls = visible(lane, qt, qs) - lane.fill(log_s), lt = lane.load(qt) - lane.fill(log_t);
            const V ps = exp(ls), pt = exp(lt);
            lane.store(out, lane.value((ps - pt + ps * (ls - lt - lane.fill(backward))) * half));
            return lane.value(pt * (lt - ls));
        });
        team.once([this, row, forward, backward] { row_loss[row] = T(0.5) * (forward + backward); });
    }
};

}  // namespace detail

/// KDPL's loss (Mistretta et al., ECCV 2024, arXiv 2407.03056, equation 3): ½KL(p_t ‖ p_s) + ½KL(p_s ‖ p_t) with
/// p = softmax(logits), summed over rows and divided by `average_over` (0: the rows).
///
/// teacher, student: logits (rows, classes), on the same scale. Writes the loss to *loss (device memory), or adds it,
/// and its gradient with respect to the student's logits to d_student (rows, classes). Classes whose teacher logit is
/// below left_out_below have no part in it.
template <Device D, class T>
void symmetric_distillation_loss(const Workspace<D>& w, ConstMatrix<T> teacher, ConstMatrix<T> student,
                                 Matrix<T> d_student, T* loss, const CrossEntropyOptions& options = {}) {
    const Index rows = d_student.rows, classes = d_student.columns;
    require_contiguous(teacher, rows, classes, "symmetric distillation: the teacher's logits");
    require_contiguous(student, rows, classes, "symmetric distillation: the student's logits");
    require_contiguous(d_student, rows, classes, "symmetric distillation: the gradient");
    const WorkspaceScope scope(w);
    T* row_loss = scratch<T>(w, rows);
    const double share = 1.0 / static_cast<double>(options.average_over > 0 ? options.average_over : rows);
    w.device.rows(rows, 16 * classes,
                  detail::SymmetricDistillation<T>{teacher.data, student.data, row_loss, d_student.data, classes,
                                                   static_cast<T>(share)});
    sum(w.device, row_loss, loss, rows, share, options.accumulate);
}

}  // namespace promptkd
