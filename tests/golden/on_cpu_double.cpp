// SPDX-License-Identifier: Apache-2.0
#include "cases.hpp"

namespace promptkd::test {

template CaseCheck<Cpu<double>> find_check<Cpu<double>>(const std::string&);
template CaseCheck<Cpu<double>> find_exact_check<Cpu<double>>(const std::string&);

}  // namespace promptkd::test
