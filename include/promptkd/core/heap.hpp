// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace promptkd {

/// Lets blocks of 8 MiB and more go back to the system when they are freed, for a program to call before anything else.
/// glibc otherwise raises that limit to 32 MiB as it goes, and matrices of a few sizes, taken and freed in turns, leave
/// holes that none of them fits into: a fit in closed form of width 4,096 takes 1.1 GB instead of 0.7. Elsewhere than
/// under glibc it does nothing.
inline void return_large_blocks() {
#if defined(__GLIBC__)
    mallopt(M_MMAP_THRESHOLD, 8 << 20);
#endif
}

}  // namespace promptkd
