// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <optional>
#include <string_view>

namespace promptkd {

/// How a device computes attention.
enum class AttentionKernel {
    composed,  ///< two products and a softmax between them: every shape
    fused,     ///< one kernel without matrix units (op/fused_attention.hpp): less memory, more time
    mma        ///< one kernel on the matrix units (op/mma_attention.hpp): activations of 16 bits
};

/// Their names, in this order.
inline constexpr std::string_view attention_kernel_names[] = {"composed", "fused", "mma"};

/// The one of this name. Throws Error for another, which calls the name `what`.
inline AttentionKernel parse_attention_kernel(std::string_view name, std::string_view what) {
    const auto* names = attention_kernel_names;
    const auto* found = std::find(names, std::end(attention_kernel_names), name);
    require(found != std::end(attention_kernel_names), what, "=", name, ": expected composed, fused or mma");
    return static_cast<AttentionKernel>(found - names);
}

/// `asked`; where nothing is asked for, what the environment variable PROMPTKD_ATTENTION names; else the composed one.
/// Throws Error for a name that is none.
inline AttentionKernel chosen_attention(std::optional<AttentionKernel> asked) {
    if (asked) return *asked;
    const char* text = std::getenv("PROMPTKD_ATTENTION");
    return text ? parse_attention_kernel(text, "PROMPTKD_ATTENTION") : AttentionKernel::composed;
}

}  // namespace promptkd
