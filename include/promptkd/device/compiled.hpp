// SPDX-License-Identifier: Apache-2.0
#pragma once

// A host that links promptkd::compiled has PROMPTKD_COMPILED defined: what is marked by the macros below is then not
// instantiated for Cpu<float> in each of its files, but once, in that library (cmake/compiled/). The long functions of
// a marked class stand outside it: those inside are inline, and a compiler instantiates inline functions in every file.

#if defined(PROMPTKD_COMPILED)
#include <promptkd/device/cpu.hpp>
#include <promptkd/device/cpu/instruction_sets.hpp>

namespace promptkd::detail {

/// Defined in the library for its own instruction sets alone: a host that is compiled for others does not link.
template <int sets>
void compiled_for_other_instruction_sets();
inline const bool same_instruction_sets = (compiled_for_other_instruction_sets<instruction_sets()>(), true);

}  // namespace promptkd::detail

/// PROMPTKD_COMPILED_CLASS(Name); behind a class template over a device.
#define PROMPTKD_COMPILED_CLASS(name) extern template class name<Cpu<float>>
/// PROMPTKD_COMPILED_FUNCTION(declaration); behind a function template: its declaration for Cpu<float>.
#define PROMPTKD_COMPILED_FUNCTION(...) extern template __VA_ARGS__
#else
#define PROMPTKD_COMPILED_CLASS(name) static_assert(true)
#define PROMPTKD_COMPILED_FUNCTION(...) static_assert(true)
#endif
