// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

// The second line ends the compilation there: what follows would be hundreds of errors.
#if __cplusplus < 202002L
#error "promptkd needs C++20: compile with -std=c++20 or newer"
#include <promptkd_needs_cpp20_see_the_line_above>
#endif

/// Marks a function that runs on the host and inside CUDA kernels. The macro only ADDS an attribute under nvcc; it
/// never changes a body, so translation units compiled by different compilers agree (one-definition rule).
#if defined(__CUDACC__)
#define PROMPTKD_HD __host__ __device__
#else
#define PROMPTKD_HD
#endif

#define PROMPTKD_VERSION_MAJOR 0
#define PROMPTKD_VERSION_MINOR 4
#define PROMPTKD_VERSION_PATCH 0

namespace promptkd {

/// Every size and index in the library. Signed, so that differences are safe.
using Index = std::int64_t;

/// "major.minor.patch".
inline constexpr const char* version = "0.4.0";

}  // namespace promptkd
