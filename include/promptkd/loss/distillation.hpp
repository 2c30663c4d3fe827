// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/memory.hpp>
#include <promptkd/op/reduce.hpp>

namespace promptkd {

namespace detail {

template <class T>
struct DistillationLoss {
    const T *teacher, *student;
    T *row_loss, *d_student;
    Index classes;
    T inverse_temperature, d_scale;
    bool add;

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const T *qt = teacher + row * classes, *qs = student + row * classes;
        T* out = d_student + row * classes;
        const T inverse = inverse_temperature, scale = d_scale;
        const bool accumulate = add;
        const T log_t = sum_exponentials(team, classes, qt, inverse).log(inverse);
        const T log_s = sum_exponentials(team, classes, qs, inverse).log(inverse);
        const T loss = team.sum(classes, [=](const auto& lane) {
            using std::exp;
            using V = LaneValue<decltype(lane)>;
            const V lt = lane.load(qt) * inverse - lane.fill(log_t), ls = lane.load(qs) * inverse - lane.fill(log_s);
            const V pt = exp(lt), ps = exp(ls);
            // Whole stores, as in store_or_add; written out, because the last bit of the loss hangs on what is inlined.
            if (accumulate)
                lane.store(out, lane.value(lane.load(out) + (ps - pt) * scale));
            else
                lane.store(out, lane.value((ps - pt) * scale));
            return lane.value(pt * (lt - ls));
        });
        team.once([this, row, loss] { row_loss[row] = loss; });
    }
};

}  // namespace detail

/// Temperature and weight of a distillation, and where loss and gradient go.
struct DistillationLossOptions {
    double temperature = 1;                  ///< τ
    double weight = 1;                       ///< kd_weight
    Accumulate accumulate = Accumulate::no;  ///< whether loss and gradient are added to what is there
};

/// PromptKD's loss (equation 5 of the paper): weight·τ²·KL(softmax(teacher/τ) ‖ softmax(student/τ)), summed over all
/// elements and divided by rows·classes.
///
/// teacher, student: logits (rows, classes). Writes the loss to *loss (device memory) and its gradient with respect to
/// the student's logits, weight·τ/(rows·classes)·(p_s − p_t), to d_student (rows, classes).
template <Device D, class T>
void distillation_loss(const Workspace<D>& w, ConstMatrix<T> teacher, ConstMatrix<T> student, Matrix<T> d_student,
                       T* loss, const DistillationLossOptions& options) {
    const Index rows = d_student.rows, classes = d_student.columns;
    require_contiguous(teacher, rows, classes, "distillation: the teacher's logits");
    require_contiguous(student, rows, classes, "distillation: the student's logits");
    require_contiguous(d_student, rows, classes, "distillation: the gradient");
    const WorkspaceScope scope(w);
    T* row_loss = scratch<T>(w, rows);
    const double share = options.weight / static_cast<double>(rows * classes), tau = options.temperature;
    w.device.rows(rows, 8 * classes,
                  detail::DistillationLoss<T>{teacher.data, student.data, row_loss, d_student.data, classes,
                                              static_cast<T>(1 / tau), static_cast<T>(share * tau),
                                              options.accumulate == Accumulate::yes});
    sum(w.device, row_loss, loss, rows, share * tau * tau, options.accumulate);
}

/// Temperature of a distillation and where its loss goes.
template <class T>
struct DistillationLossResult {
    T* loss = nullptr;       ///< in device memory
    double temperature = 1;  ///< τ
};

namespace detail {

template <class T>
struct TakeShares {
    const T* shares;
    T *row_loss, *d_student;
    Index classes;

    template <class Team>
    PROMPTKD_HD void operator()(Team& team, Index row) const {
        const T share = shares[row];
        T *out = d_student + row * classes, *loss = row_loss + row;
        team.each(classes, [=](const auto& lane) { lane.store(out, lane.value(lane.load(out) * lane.fill(share))); });
        team.once([=] { *loss *= share; });
    }
};

}  // namespace detail

/// The same with a share for each row: Σ_i share_i·τ²·KL(softmax(teacher_i/τ) ‖ softmax(student_i/τ)), shares (rows) in
/// device memory that sum to 1. Gradient: share_i·τ·(p_s − p_t).
template <Device D, class T>
void shared_distillation_loss(const Workspace<D>& w, ConstMatrix<T> teacher, ConstMatrix<T> student,
                              ConstPointer<T> shares, Matrix<T> d_student, DistillationLossResult<T> to) {
    const Index rows = d_student.rows, classes = d_student.columns;
    require_contiguous(teacher, rows, classes, "distillation: the teacher's logits");
    require_contiguous(student, rows, classes, "distillation: the student's logits");
    require_contiguous(d_student, rows, classes, "distillation: the gradient");
    const WorkspaceScope scope(w);
    T* row_loss = scratch<T>(w, rows);
    const double tau = to.temperature;
    w.device.rows(rows, 8 * classes,
                  detail::DistillationLoss<T>{teacher.data, student.data, row_loss, d_student.data, classes,
                                              static_cast<T>(1 / tau), static_cast<T>(tau), false});
    w.device.rows(rows, 2 * classes, detail::TakeShares<T>{shares, row_loss, d_student.data, classes});
    sum(w.device, row_loss, to.loss, rows, tau * tau, Accumulate::no);
}

}  // namespace promptkd
