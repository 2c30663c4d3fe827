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

/// PROMPTKD_THREAD_SANITIZER: the same with -fsanitize=thread.
#if defined(__SANITIZE_THREAD__)
#define PROMPTKD_THREAD_SANITIZER
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PROMPTKD_THREAD_SANITIZER
#endif
#endif
