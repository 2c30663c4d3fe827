// SPDX-License-Identifier: Apache-2.0
#pragma once

/// PROMPTKD_ADDRESS_SANITIZER: this is compiled with -fsanitize=address. g++ and clang say so in two ways.
#if defined(__SANITIZE_ADDRESS__)
#define PROMPTKD_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PROMPTKD_ADDRESS_SANITIZER
#endif
#endif
