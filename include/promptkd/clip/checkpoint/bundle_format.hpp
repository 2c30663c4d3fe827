// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>

namespace promptkd {

/// Metadata `format` of a student bundle (evaluate/bundle.hpp).
inline constexpr const char* bundle_format = "promptkd.student";

/// Whether these tensors are a student bundle, by their metadata.
inline bool is_bundle(const TensorMap& map) {
    const auto format = map.metadata.find("format");
    return format != map.metadata.end() && format->second == bundle_format;
}

}  // namespace promptkd
