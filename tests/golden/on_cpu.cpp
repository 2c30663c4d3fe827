// SPDX-License-Identifier: Apache-2.0
#include "cases.hpp"

namespace promptkd::test {

template CaseCheck<Cpu<float>> find_check<Cpu<float>>(const std::string&);
template CaseCheck<Cpu<float>> find_exact_check<Cpu<float>>(const std::string&);

}  // namespace promptkd::test
