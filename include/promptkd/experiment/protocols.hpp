// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/learner/registry.hpp>

#include <algorithm>
#include <array>
#include <string>

namespace promptkd {

/// How the published results were measured.
enum class Protocol {
    base_to_novel,          ///< learned on the first half of a data set's classes, tested on both halves
    cross_dataset,          ///< learned on a source data set, tested on all classes of others
    domain_generalization,  ///< learned on ImageNet, tested on its variants
    few_shot                ///< learned on K images of every class, tested on all classes
};

inline const char* name_of(Protocol protocol) {
    constexpr const char* names[] = {"base-to-novel", "cross-dataset", "domain-generalization", "few-shot"};
    return names[static_cast<int>(protocol)];
}

/// Throws Error listing the protocols for an unknown name.
inline Protocol parse_protocol(const std::string& name) {
    for (int i = 0; i <= static_cast<int>(Protocol::few_shot); ++i)
        if (name == name_of(static_cast<Protocol>(i))) return static_cast<Protocol>(i);
    fail("unknown protocol '", name, "'; known: base-to-novel, cross-dataset, domain-generalization, few-shot");
}

/// Whether prompts are learned on another data set than the one they are tested on.
inline bool has_source(Protocol protocol) {
    return protocol == Protocol::cross_dataset || protocol == Protocol::domain_generalization;
}

namespace detail {

template <std::size_t N>
bool is_one_of(const std::string& benchmark, const std::array<const char*, N>& names) {
    return std::any_of(names.begin(), names.end(), [&](const char* name) { return benchmark == name; });
}

}  // namespace detail

/// The published settings of a learner in a protocol, on `benchmark` (its name in benchmarks(); any other has the
/// common settings). `teacher`: PromptSRC is trained as PromptKD's teacher on ViT-L/14 (the PromptKD repository's
/// configuration), else as in its own paper on ViT-B/16.
inline Recipe protocol_recipe(Protocol protocol, const std::string& learner, Index shots, const std::string& benchmark,
                              bool teacher) {
    Recipe r = published_recipe(learner, shots);
    if (learner == "coop" && benchmark == "imagenet") r.epochs = 50;
    if (learner == "maple" && has_source(protocol)) r.lr = 0.0026, r.epochs = 2, r.depth = 3;
    if (learner != "promptsrc") return r;
    if (teacher) {
        r.lr = 0.005, r.batch = 8;
    } else if (has_source(protocol)) {
        r.depth = 3, r.options["gaussian-mean"] = 6, r.options["gaussian-deviation"] = 10;
    } else if (protocol == Protocol::few_shot) {
        constexpr std::array<const char*, 5> late{"stanford_cars", "oxford_flowers", "fgvc_aircraft", "dtd", "eurosat"};
        const bool narrow = detail::is_one_of(benchmark, late);
        r.epochs = 50, r.options["gaussian-mean"] = narrow ? 45 : 30, r.options["gaussian-deviation"] = narrow ? 5 : 30;
    }
    return r;
}

/// The published settings of PromptKD's second stage.
struct DistillationRecipe {
    double lr = 0.005;
    Index epochs = 20, batch = 8;
    Index prompts = 4, depth = 9;  ///< visual prompts of the student, prompted blocks
    double kd_weight = 1000, temperature = 1;
};

/// The same by protocol and benchmark: prompts in three blocks where the teacher comes from another data set; else
/// kd_weight 200 on FGVCAircraft, OxfordFlowers and DTD, and batches of 256 with learning rate 0.16 on all of ImageNet.
inline DistillationRecipe distillation_recipe(Protocol protocol, const std::string& benchmark) {
    constexpr std::array<const char*, 3> gentle{"fgvc_aircraft", "oxford_flowers", "dtd"};
    DistillationRecipe r;
    if (has_source(protocol))
        r.depth = 3;
    else if (detail::is_one_of(benchmark, gentle))
        r.kd_weight = 200;
    if (benchmark == "imagenet") r.batch = 256, r.lr = 0.16;
    return r;
}

}  // namespace promptkd
