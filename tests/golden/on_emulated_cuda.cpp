// SPDX-License-Identifier: Apache-2.0
#include "cases.hpp"

namespace promptkd::test {

template CaseCheck<EmulatedCuda<float>> find_check<EmulatedCuda<float>>(const std::string&);

}  // namespace promptkd::test
