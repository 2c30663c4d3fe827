// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>

#include <string>

namespace promptkd {

/// How a student is fitted: by gradient descent, prompts and projector (published), or its projector in closed form, a
/// random first layer and ridge regression (distill/closed_form/fit.hpp).
enum class DistillationFit { sgd, closed_form };

/// "sgd" or "closed-form". Throws Error for any other.
inline DistillationFit parse_fit(const std::string& name) {
    if (name == "sgd") return DistillationFit::sgd;
    if (name == "closed-form") return DistillationFit::closed_form;
    fail("unknown fit '", name, "'; known: sgd, closed-form");
}

}  // namespace promptkd
