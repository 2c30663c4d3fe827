// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/device/cpu/instruction_sets.hpp>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#ifdef PROMPTKD_DISPATCH
#include <cpuid.h>
#include <immintrin.h>
/// Attributes of functions that run on the processors of a level.
///@{
#define PROMPTKD_TARGET_V3 [[gnu::target("avx2,fma,f16c")]]
#define PROMPTKD_TARGET_V4 [[gnu::target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]]
#define PROMPTKD_TARGET_VNNI [[gnu::target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]]
#define PROMPTKD_TARGET_BF16 [[gnu::target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]]
///@}
#endif

namespace promptkd {

/// What the kernels of a Cpu use, each level the ones before it too: what the program is compiled for; AVX2, FMA and
/// F16C; AVX-512 F, BW, DQ and VL; VNNI; BF16.
enum class ProcessorLevel { compiled, v3, v4, v4_vnni, v4_bf16 };

namespace detail {

inline constexpr const char* processor_level_names[] = {"compiled", "v3", "v4", "v4-vnni", "v4-bf16"};

/// The level of this machine; `compiled` in a program that does not choose (PROMPTKD_DISPATCH).
inline ProcessorLevel machine_level() {
#ifdef PROMPTKD_DISPATCH
    unsigned a = 0, b = 0, c = 0, d = 0;
    const bool f16c = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;  // clang 14 knows no name for it
    if (!f16c || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return ProcessorLevel::compiled;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return ProcessorLevel::v3;
    if (!__builtin_cpu_supports("avx512vnni")) return ProcessorLevel::v4;
    return __builtin_cpu_supports("avx512bf16") ? ProcessorLevel::v4_bf16 : ProcessorLevel::v4_vnni;
#else
    return ProcessorLevel::compiled;
#endif
}

/// The highest level that the environment allows: PROMPTKD_PROCESSOR_LEVEL, one of the names. Throws Error for another.
inline ProcessorLevel allowed_level() {
    const char* text = std::getenv("PROMPTKD_PROCESSOR_LEVEL");
    if (text == nullptr) return ProcessorLevel::v4_bf16;
    const auto* names = processor_level_names;
    const auto* found = std::find(names, std::end(processor_level_names), std::string_view(text));
    require(found != std::end(processor_level_names), "PROMPTKD_PROCESSOR_LEVEL=", text,
            ": expected compiled, v3, v4, v4-vnni or v4-bf16");
    return static_cast<ProcessorLevel>(found - names);
}

inline namespace PROMPTKD_CPU_ABI {

/// What code is compiled for, as a type: run(f) calls f, a function object, with everything that it calls compiled for
/// these processors: inlined into run(), whose attribute counts. What a level's own functions are given and return lies
/// in memory, so that a call that is not inlined is right as well. No other function carries the attributes: templates
/// that are shared with other units run on every processor.
///@{
struct Compiled {
    template <class F>
    static void run(const F& f) {
        f();
    }
};

#ifdef PROMPTKD_DISPATCH
struct V3 {
    template <class F>
    PROMPTKD_TARGET_V3 [[gnu::flatten]] static void run(const F& f) {
        f();
    }
};

struct V4 {
    template <class F>
    PROMPTKD_TARGET_V4 [[gnu::flatten]] static void run(const F& f) {
        f();
    }
};

struct Vnni {
    template <class F>
    PROMPTKD_TARGET_VNNI [[gnu::flatten]] static void run(const F& f) {
        f();
    }
};

struct Bf16 {
    template <class F>
    PROMPTKD_TARGET_BF16 [[gnu::flatten]] static void run(const F& f) {
        f();
    }
};
#endif
///@}

/// f(Compiled()) or f(V3()): for what reads and writes memory more than it computes, where higher levels gain nothing.
template <class F>
void at_level([[maybe_unused]] ProcessorLevel level, const F& f) {
#ifdef PROMPTKD_DISPATCH
    if (level >= ProcessorLevel::v3) return V3::run([&] { f(V3()); });
#endif
    Compiled::run([&] { f(Compiled()); });
}

}  // namespace PROMPTKD_CPU_ABI

}  // namespace detail

}  // namespace promptkd
