// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>

#include <atomic>

namespace promptkd::detail {

/// A bit for each instruction set that decides how our products pack weights and how Eigen aligns memory.
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
