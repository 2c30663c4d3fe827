// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/observer.hpp>
#include <promptkd/experiment/results.hpp>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

namespace promptkd {

/// What the mixture of a fit in closed form is, for the results.
inline MixtureSummary summary_of(const ClosedFormFit& fit) {
    MixtureSummary summary;
    summary.weight = fit.weight;
    summary.temperature = fit.temperature;
    summary.cutoff = fit.guard ? fit.guard->cutoff : 0;
    summary.likeness = {fit.student, fit.mixture, fit.zero_shot, fit.teacher, fit.compared, false};
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

/// Says in words how far a student of `images` images is trusted.
inline void explain_trust(const MixtureSummary& mixture, Index images, Observer& observer) {
    const double a = mixture.weight.chosen;
    char text[200];
    std::snprintf(text, sizeof text, "%lld images: the student trusts the distilled part %.0f %%%s%s",
                  static_cast<long long>(images), 100 * a,
                  a == 0 ? " (too few to be sure that it helps): it is the zero-shot student" : "",
                  a > 0 && mixture.cutoff > 0 ? ", less on images unlike these" : "");
    observer.on_note(text);
}

/// What to do about a student that is farther from the teacher than its frozen self.
namespace remedy {
/// Of prompts and projector by gradient descent.
inline constexpr const char* of_gradient_descent =
    "give it more images or epochs, fit it in closed form, or mix it with the zero-shot student";
/// Of a student whose encoder was trained too, or by the recipe for such students.
inline constexpr const char* of_adaptation =
    "give it more images, or fit the best of three students, which is mixed with the zero-shot one";
/// Of one that is weighed against its frozen self.
inline constexpr const char* of_mixture = "give it more images; the mixture trusts it no further than it helps";
/// Of one with a guard that is trusted wholly where images look familiar.
inline constexpr const char* of_trust = "give it more images, or mix it with the zero-shot student";
}  // namespace remedy

/// Says how close student, mixture and frozen student are to the teacher; warns of a student that is farther from it
/// than its frozen self, with what to do. `mixed`: there is a mixture.
inline void explain_likeness(const TeacherLikeness& like, bool mixed, const char* what_to_do, Observer& observer) {
    char middle[60] = "";
    if (mixed)
        std::snprintf(middle, sizeof middle, "mixture %.4f, %.1f %%; ", like.mixture.divergence,
                      like.mixture.agreement);
    char text[300];
    std::snprintf(text, sizeof text,
                  "compared with the teacher on %lld images%s: distilled KL %.4f, same choice %.1f %%; %szero-shot "
                  "%.4f, %.1f %%",
                  static_cast<long long>(like.images),
                  like.seen ? " that it learned from" : ", none of which it learned from when it was asked",
                  like.student.divergence, like.student.agreement, middle, like.zero_shot.divergence,
                  like.zero_shot.agreement);
    observer.on_note(text);
    if (like.student.divergence <= like.zero_shot.divergence) return;
    std::snprintf(text, sizeof text,
                  "the distilled part is farther from the teacher than the zero-shot student (KL %.4f, %.4f): %s",
                  like.student.divergence, like.zero_shot.divergence, what_to_do);
    observer.on_warning(text);
}

/// Images that were looked at, of so many.
struct Looked {
    Index at = 0;  ///< that were looked at
    Index of = 0;  ///< of all
};

/// Warns of classes that are no image's first choice of the teacher, where nothing guards the student: it may lose
/// them. Of more images than were looked at nothing is said unless the classes should have been met.
inline void warn_of_absent_classes(const TeacherLook& look, const std::vector<std::string>& names, const Looked& images,
                                   Observer& observer) {
    const std::vector<Index>& absent = look.absent;
    const Index enough = 20 * static_cast<Index>(names.size());
    if (absent.empty() || (images.at < images.of && images.at < enough)) return;
    constexpr std::size_t most = 3;
    std::string list;
    for (std::size_t i = 0; i < std::min(most, absent.size()); ++i)
        list += (i > 0 ? ", " : "") + names[static_cast<std::size_t>(absent[i])];
    if (absent.size() > most) list += ", ...";
    observer.on_warning(concat(absent.size(), " of ", names.size(), " classes (", list, ") are the teacher's first ",
                               "choice for none of ", images.at,
                               " images: the student may forget them; give it a "
                               "guard, which falls back to what it knew, or fit it in closed form"));
}

/// How often teacher and zero-shot student choose the same class for an image and for its mirror image, in percent.
struct ViewAgreement {
    double teacher = 0, student = 0;  ///< of these two
    Index images = 0;                 ///< that were looked at
};

/// Whether a teacher is less sure of itself than the zero-shot student, which a good one seldom is.
inline bool looks_unsure(const TeacherLook& look) { return look.confidence < look.student_confidence; }

/// Warns of a teacher that looks_unsure() and contradicts itself more than the student. Without labels no more can be
/// told; a teacher that is wrong and sure of it is not found.
inline void warn_of_teacher(const TeacherLook& look, const ViewAgreement& views, Observer& observer) {
    if (!looks_unsure(look) || views.teacher >= views.student) return;
    char text[400];
    std::snprintf(text, sizeof text,
                  "the teacher looks worse than the student: its mean largest probability is %.2f (student %.2f), and "
                  "it chooses the same class for an image and its mirror image in %.0f %% of %lld (student %.0f %%); a "
                  "student learns a bad teacher's errors, mixture and guard do not help: check it on labelled images",
                  look.confidence, look.student_confidence, views.teacher, static_cast<long long>(views.images),
                  views.student);
    observer.on_warning(text);
}

/// Warns of a teacher that looks_unsure(), where looking further would cost more than it is worth.
inline void warn_of_unsure_teacher(const TeacherLook& look, Observer& observer) {
    char text[400];
    std::snprintf(text, sizeof text,
                  "the teacher is less sure of itself than the student (mean largest probability %.2f, student %.2f), "
                  "and may be the worse of the two; a student learns a bad teacher's errors, mixture and guard do not "
                  "help: check it on labelled images",
                  look.confidence, look.student_confidence);
    observer.on_warning(text);
}

/// Warns before gradient descent on few images without anything that keeps the student from harm; `adapted`: more than
/// prompts may be trained, so that it cannot always have a mixture.
inline void warn_of_few_images(Index images, bool adapted, Observer& observer) {
    constexpr Index few = 1000;
    if (images >= few) return;
    observer.on_warning(concat(
        images, " images are few for gradient descent, which can leave a student worse than it was without them: ",
        adapted ? "fit the best of three students" : "fit it in closed form, or give it a mixture and a guard"));
}

}  // namespace promptkd
