// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>

#include <string>

namespace promptkd {

/// How the published results were measured.
enum class Protocol {
    base_to_novel,          ///< learned on the first half of a data set's classes, tested on both halves
    cross_dataset,          ///< learned on a source data set, tested on all classes of others
    domain_generalization,  ///< learned on ImageNet, tested on its variants
    few_shot                ///< learned on K images of every class, tested on all classes
};

/// As parse_protocol() reads it.
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

}  // namespace promptkd
