// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/optim/schedule.hpp>

#include <string>

namespace promptkd {

enum class LearnerKind { coop, cocoop, vpt, ivlp, maple, promptsrc };

inline const char* name_of(LearnerKind kind) {
    constexpr const char* names[] = {"coop", "cocoop", "vpt", "ivlp", "maple", "promptsrc"};
    return names[static_cast<int>(kind)];
}

/// Throws Error listing the learners for an unknown name.
inline LearnerKind parse_learner(const std::string& name) {
    for (int i = 0; i <= static_cast<int>(LearnerKind::promptsrc); ++i)
        if (name == name_of(static_cast<LearnerKind>(i))) return static_cast<LearnerKind>(i);
    fail("unknown learner '", name, "'; known: coop, cocoop, vpt, ivlp, maple, promptsrc");
}

/// The published settings of a learner on ViT-B/16, base-to-novel (the authors' configuration files).
struct Recipe {
    double lr = 0.002;
    Index epochs = 20, batch = 4;
    Index visual = 0, text = 4, depth = 1;             ///< prompt vectors of the two branches, prompted blocks
    double gaussian_mean = 0, gaussian_deviation = 0;  ///< PromptSRC's aggregation; 0: none
};

/// `shots` matters for CoOp alone: 200 epochs for 16 and 8 shots, 100 for 4 and 2, 50 for one.
inline Recipe published_recipe(LearnerKind kind, Index shots) {
    switch (kind) {
        case LearnerKind::coop:
            return {0.002, shots >= 8 ? 200 : shots >= 2 ? 100 : 50, 32, 0, 4, 1, 0, 0};
        case LearnerKind::cocoop:
            return {0.002, 10, 1, 0, 4, 1, 0, 0};
        case LearnerKind::vpt:
            return {0.0025, 5, 4, 8, 0, 12, 0, 0};
        case LearnerKind::ivlp:
            return {0.005, 20, 8, 4, 4, 9, 0, 0};
        case LearnerKind::maple:
            return {0.0035, 5, 4, 2, 2, 9, 0, 0};
        default:
            return {0.0025, 20, 4, 4, 4, 9, 15, 1};
    }
}

}  // namespace promptkd
