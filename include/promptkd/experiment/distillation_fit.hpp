// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>

#include <string>

namespace promptkd {

/// How a student is fitted: by gradient descent, prompts and projector (published) or more; its projector in closed
/// form, a random first layer and ridge regression (distill/closed_form/fit.hpp); or both, and what of them and of the
/// zero-shot student is best is mixed (distill/closed_form/student_weights.hpp).
enum class DistillationFit { sgd, closed_form, best };

/// "sgd", "closed-form" or "best". Throws Error for any other.
inline DistillationFit parse_fit(const std::string& name) {
    if (name == "sgd") return DistillationFit::sgd;
    if (name == "closed-form") return DistillationFit::closed_form;
    if (name == "best") return DistillationFit::best;
    fail("unknown fit '", name, "'; known: sgd, closed-form, best");
}

/// "sgd", "closed-form" or "best".
inline std::string name_of(DistillationFit fit) {
    constexpr const char* names[] = {"sgd", "closed-form", "best"};
    return names[static_cast<int>(fit)];
}

}  // namespace promptkd
