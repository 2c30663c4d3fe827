// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/experiment/observer.hpp>
#include <promptkd/experiment/results.hpp>

#include <cmath>
#include <cstdio>
#include <string>

namespace promptkd {

/// The names of the three students.
inline constexpr const char* student_names[] = {"zero-shot", "closed form", "adapted"};

/// Says which check was the best.
inline void explain(const CheckSelection& check, Observer& observer) {
    char text[240];
    const std::string parts = check.parts > 1 ? concat(", in ", check.parts, " parts in turn") : "";
    std::snprintf(
        text, sizeof text,
        "the adapted student is that after step %lld: KL to the teacher %.4f on %lld images held out%s (best of "
        "%lld checks)",
        static_cast<long long>(check.best.step), check.best.score, static_cast<long long>(check.images), parts.c_str(),
        static_cast<long long>(check.checks));
    observer.on_note(text);
}

/// Says in a small table what each student is worth and weighs, why, and what one pass of the encoder would lose.
inline void explain(const BestFitSummary& best, Observer& observer) {
    char text[240];
    std::snprintf(text, sizeof text,
                  "compared with the teacher on %lld images held out:", static_cast<long long>(best.images));
    observer.on_note(text);
    observer.on_note("  student        KL       same choice   weight");
    for (std::size_t j = 0; j < best.students.size(); ++j) {
        std::snprintf(text, sizeof text, "  %-12s %7.4f   %9.1f %%   %6.2f", student_names[j],
                      best.students[j].divergence, best.students[j].agreement, best.weights.chosen[j]);
        observer.on_note(text);
    }
    std::snprintf(text, sizeof text, "  %-12s %7.4f   %9.1f %%", "mixture", best.mixture.divergence,
                  best.mixture.agreement);
    observer.on_note(text);
    const PerStudent& v = best.weights.likeliest;
    std::snprintf(text, sizeof text,
                  "likeliest weights %.2f, %.2f, %.2f; %.0f %% of them are significantly better than the zero-shot "
                  "student alone%s",
                  v[0], v[1], v[2], 100 * best.weights.trust,
                  best.weights.trust == 0 ? " (too few images to be sure): the student stays the zero-shot one" : "");
    observer.on_note(text);
    const double lost = best.students[2].divergence - best.mixture.divergence;
    std::snprintf(text, sizeof text,
                  best.one_pass ? "the adapted student alone, one pass: KL %.4f, %.4f %s than the mixture"
                                : "one pass (the adapted student alone) would have KL %.4f, %.4f %s",
                  best.students[2].divergence, std::abs(lost), lost < 0 ? "less" : "more");
    observer.on_note(text);
    if (best.one_pass && best.students[2].divergence > best.students[0].divergence)
        observer.on_warning(
            "the adapted student alone is farther from the teacher than the zero-shot student; give more "
            "images, or let it be mixed");
}

}  // namespace promptkd
