// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/observer.hpp>
#include <promptkd/experiment/results.hpp>

#include <cstdio>
#include <string>

namespace promptkd {

/// What the mixture of a fit in closed form is, for the results.
inline MixtureSummary summary_of(const ClosedFormFit& fit, Index compared) {
    MixtureSummary summary;
    summary.weight = fit.weight;
    summary.temperature = fit.temperature;
    summary.cutoff = fit.guard ? fit.guard->cutoff : 0;
    summary.likeness = {fit.student, fit.mixture, fit.zero_shot, compared, false};
    return summary;
}

/// Says in numbers how a student was fitted in closed form.
inline void explain(const ClosedFormSummary& fit, Observer& observer) {
    char text[200];
    std::snprintf(text, sizeof text,
                  "closed form: %lld rows, width %lld, lambda %.4g (%.3g of the mean eigenvalue), eta %.4g; encoded in "
                  "%.1f s, fitted in %.1f s",
                  static_cast<long long>(fit.images), static_cast<long long>(fit.width), fit.lambda, fit.rho, fit.eta,
                  fit.encoding_seconds, fit.fit_seconds);
    observer.on_note(text);
}

/// Says in words how far a student of `images` images is trusted, and how it compares with the teacher; warns of one
/// that is farther from the teacher than its zero-shot self.
inline void explain(const MixtureSummary& mixture, Index images, Observer& observer) {
    const TeacherLikeness& like = mixture.likeness;
    const double a = mixture.weight.chosen;
    char text[300];
    std::snprintf(text, sizeof text, "%lld images: the student trusts the distilled part %.0f %%%s%s",
                  static_cast<long long>(images), 100 * a,
                  a == 0 ? " (too few to be sure that it helps): it is the zero-shot student" : "",
                  a > 0 && mixture.cutoff > 0 ? ", less on images unlike these" : "");
    observer.on_note(text);
    std::snprintf(
        text, sizeof text,
        "compared with the teacher on %lld images%s: distilled KL %.4f, same choice %.1f %%; mixture %.4f, %.1f "
        "%%; zero-shot %.4f, %.1f %%",
        static_cast<long long>(like.images),
        like.seen ? " that it learned from" : ", none of which it learned from when it was asked",
        like.student.divergence, like.student.agreement, like.mixture.divergence, like.mixture.agreement,
        like.zero_shot.divergence, like.zero_shot.agreement);
    observer.on_note(text);
    if (like.student.divergence <= like.zero_shot.divergence) return;
    std::snprintf(
        text, sizeof text,
        "the distilled part is farther from the teacher than the zero-shot student (KL %.4f, %.4f): give more "
        "images%s",
        like.student.divergence, like.zero_shot.divergence,
        a < 1 ? "; the mixture trusts it no further than it helps" : ", or mix it with the zero-shot student");
    observer.on_warning(text);
}

/// Warns before gradient descent on few images without anything that keeps the student from harm.
inline void warn_of_few_images(Index images, Observer& observer) {
    constexpr Index few = 1000;
    if (images >= few) return;
    observer.on_warning(concat(images,
                               " images are few for gradient descent, which can leave a student worse than it was "
                               "without them: fit it in closed form, or give it a mixture and a guard"));
}

}  // namespace promptkd
