// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>

#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <string>

namespace promptkd {

/// Bytes of memory that this machine has.
inline std::size_t machine_memory() {
    static const std::size_t bytes =
        static_cast<std::size_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(::sysconf(_SC_PAGE_SIZE));
    return bytes;
}

namespace detail {

inline std::string gigabytes(std::size_t bytes) {
    char text[32];
    std::snprintf(text, sizeof text, "%.3g GB", static_cast<double>(bytes) / 1e9);
    return text;
}

/// Throws ResourceError for a block larger than all memory of the machine. The system may promise it, and end the
/// process once it is touched.
inline void require_memory(std::size_t bytes) {
    if (bytes <= machine_memory()) return;
    throw ResourceError(concat("out of memory: ", gigabytes(bytes), " are needed at once, this machine has ",
                               gigabytes(machine_memory()), "; a smaller batch or smaller images take less"));
}

}  // namespace detail

}  // namespace promptkd
