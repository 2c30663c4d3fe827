// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>

#include <atomic>

// Whether a unit chooses kernels when the program runs: where it is compiled for processors without AVX2, FMA and F16C.
// A unit that is compiled for these uses what it is compiled for. PROMPTKD_NO_DISPATCH switches the choice off.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__CUDACC__) && !defined(PROMPTKD_NO_DISPATCH) && \
    !(defined(__AVX2__) && defined(__FMA__) && defined(__F16C__))
#define PROMPTKD_DISPATCH  ///< kernels are chosen when the program runs
#endif

// A part of a name for each instruction set that decides how our products pack weights and how Eigen aligns memory.
#if defined(__AVX__)
#define PROMPTKD_SET_AVX _avx  ///< part of PROMPTKD_CPU_ABI
#else
#define PROMPTKD_SET_AVX  ///< part of PROMPTKD_CPU_ABI
#endif
#if defined(__AVX2__)
#define PROMPTKD_SET_AVX2 _avx2  ///< part of PROMPTKD_CPU_ABI
#else
#define PROMPTKD_SET_AVX2  ///< part of PROMPTKD_CPU_ABI
#endif
#if defined(__FMA__)
#define PROMPTKD_SET_FMA _fma  ///< part of PROMPTKD_CPU_ABI
#else
#define PROMPTKD_SET_FMA  ///< part of PROMPTKD_CPU_ABI
#endif
#if defined(__F16C__)
#define PROMPTKD_SET_F16C _f16c  ///< part of PROMPTKD_CPU_ABI
#else
#define PROMPTKD_SET_F16C  ///< part of PROMPTKD_CPU_ABI
#endif
#if defined(__AVX512F__)
#define PROMPTKD_SET_AVX512F _avx512f  ///< part of PROMPTKD_CPU_ABI
#else
#define PROMPTKD_SET_AVX512F  ///< part of PROMPTKD_CPU_ABI
#endif
#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define PROMPTKD_SET_AVX512BW _avx512bw  ///< part of PROMPTKD_CPU_ABI
#else
#define PROMPTKD_SET_AVX512BW  ///< part of PROMPTKD_CPU_ABI
#endif
#if defined(__AVX512VNNI__)
#define PROMPTKD_SET_VNNI _vnni  ///< part of PROMPTKD_CPU_ABI
#else
#define PROMPTKD_SET_VNNI  ///< part of PROMPTKD_CPU_ABI
#endif
#if defined(__AVX512BF16__)
#define PROMPTKD_SET_BF16 _bf16  ///< part of PROMPTKD_CPU_ABI
#else
#define PROMPTKD_SET_BF16  ///< part of PROMPTKD_CPU_ABI
#endif
#if defined(PROMPTKD_DISPATCH)
#define PROMPTKD_SET_CHOSEN _chosen  ///< part of PROMPTKD_CPU_ABI
#else
#define PROMPTKD_SET_CHOSEN  ///< part of PROMPTKD_CPU_ABI
#endif

#define PROMPTKD_JOIN_(a, b, c, d, e, f, g, h, i, j) a##b##c##d##e##f##g##h##i##j  ///< ten parts of a name as one
#define PROMPTKD_JOIN(...) PROMPTKD_JOIN_(__VA_ARGS__)                             ///< the same of expanded parts

/// The namespace of what is compiled differently for other instruction sets: the version of the ABI and the sets, so
/// that the linker never takes one unit's for another's.
#define PROMPTKD_CPU_ABI                                                                             \
    PROMPTKD_JOIN(abi1, PROMPTKD_SET_AVX, PROMPTKD_SET_AVX2, PROMPTKD_SET_FMA, PROMPTKD_SET_F16C,    \
                  PROMPTKD_SET_AVX512F, PROMPTKD_SET_AVX512BW, PROMPTKD_SET_VNNI, PROMPTKD_SET_BF16, \
                  PROMPTKD_SET_CHOSEN)

namespace promptkd::detail {

/// A bit for each part of PROMPTKD_CPU_ABI.
constexpr int instruction_sets() {
    int sets = 0;
#if defined(__AVX__)
    sets |= 1;
#endif
#if defined(__AVX2__)
    sets |= 2;
#endif
#if defined(__FMA__)
    sets |= 4;
#endif
#if defined(__F16C__)
    sets |= 8;
#endif
#if defined(__AVX512F__)
    sets |= 16;
#endif
#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
    sets |= 32;
#endif
#if defined(__AVX512VNNI__)
    sets |= 64;
#endif
#if defined(__AVX512BF16__)
    sets |= 128;
#endif
#if defined(PROMPTKD_DISPATCH)
    sets |= 256;
#endif
    return sets;
}

/// Units of one program that are compiled for different instruction sets share their templates: the linker keeps one
/// unit's, for whichever processor that is. Each unit notes its own before main() begins.
class UnitsAgree {
public:
    static bool note(int sets) {
        int none = -1;
        if (!first().compare_exchange_strong(none, sets) && none != sets) differ().store(true);
        return true;
    }
    /// Throws Error where two units differ.
    static void check() {
        require(!differ().load(std::memory_order_relaxed),
                "units of this program are compiled for different instruction sets; give all of them the same -march");
    }

private:
    static std::atomic<int>& first() {
        static std::atomic<int> sets{-1};
        return sets;
    }
    static std::atomic<bool>& differ() {
        static std::atomic<bool> yes{false};
        return yes;
    }
};

namespace {

[[maybe_unused]] const bool unit_is_noted = [] {
    constexpr int mine = instruction_sets();
    return UnitsAgree::note(mine);
}();

}  // namespace

}  // namespace promptkd::detail
