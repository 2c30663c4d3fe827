// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/memory.hpp>
#include <promptkd/op/reduce.hpp>

#include <cmath>

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
        const T top_t = team.max(classes, [qt](const auto& lane) { return lane.load(qt); });
        const T top_s = team.max(classes, [qs](const auto& lane) { return lane.load(qs); });
        const T sum_t = exponentials(team, qt, top_t, inverse), sum_s = exponentials(team, qs, top_s, inverse);
        const T log_t = top_t * inverse + std::log(sum_t), log_s = top_s * inverse + std::log(sum_s);
        const T loss = team.sum(classes, [=](const auto& lane) {
            using std::exp;
            using V = LaneValue<decltype(lane)>;
            const V lt = lane.load(qt) * inverse - lane.fill(log_t), ls = lane.load(qs) * inverse - lane.fill(log_s);
            const V pt = exp(lt), ps = exp(ls);
            // Two stores: g++ 12 -O3 may lose a conditional assignment of a pack.
            if (accumulate)
                lane.store(out, lane.value(lane.load(out) + (ps - pt) * scale));
            else
                lane.store(out, lane.value((ps - pt) * scale));
            return lane.value(pt * (lt - ls));
        });
        team.once([this, row, loss] { row_loss[row] = loss; });
    }

    /// Σ exp((q − top)/τ).
    template <class Team>
    PROMPTKD_HD T exponentials(Team& team, const T* q, T top, T inverse) const {
        return team.sum(classes, [=](const auto& lane) {
            using std::exp;
            const LaneValue<decltype(lane)> e = exp(lane.value((lane.load(q) - lane.fill(top)) * inverse));
            return e;
        });
    }
};

}  // namespace detail

/// PromptKD's loss (equation 5 of the paper): kd_weight·τ²·KL(softmax(teacher/τ) ‖ softmax(student/τ)), summed over all
/// elements and divided by rows·classes.
///
/// teacher, student: logits (rows, classes). Writes the loss to *loss (device memory) and its gradient with respect to
/// the student's logits, kd_weight·τ/(rows·classes)·(p_s − p_t), to d_student; with `add` both are added to what is
/// there. `row_loss` is scratch for `rows` values.
template <Device D, class T>
void distillation_loss(D& device, const T* teacher, const T* student, T* d_student, T* row_loss, T* loss, Index rows,
                       Index classes, double temperature, double kd_weight, bool add = false) {
    const double share = kd_weight / static_cast<double>(rows * classes);
    device.rows(rows, 8 * classes,
                detail::DistillationLoss<T>{teacher, student, row_loss, d_student, classes,
                                            static_cast<T>(1 / temperature), static_cast<T>(share * temperature), add});
    sum(device, row_loss, loss, rows, share * temperature * temperature, add);
}

}  // namespace promptkd
