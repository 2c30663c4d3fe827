// SPDX-License-Identifier: Apache-2.0
#include "cases.hpp"

namespace promptkd::test {

template CaseCheck<EmulatedCuda<float>> find_check<EmulatedCuda<float>>(const std::string&);
template CaseCheck<EmulatedCuda<float>> find_exact_check<EmulatedCuda<float>>(const std::string&);
template CaseCheck<EmulatedCuda<float, bf16>> find_check<EmulatedCuda<float, bf16>>(const std::string&);
template CaseCheck<EmulatedCuda<float, half>> find_check<EmulatedCuda<float, half>>(const std::string&);

}  // namespace promptkd::test
