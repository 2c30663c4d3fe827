// SPDX-License-Identifier: Apache-2.0
// Instantiates the golden training and inference cases on every kind of Cuda device.
#include "golden/learner_case.hpp"
#include "golden/promptkd_case.hpp"
#include "golden/zero_shot_case.hpp"

#include <promptkd/cuda.hpp>

namespace promptkd::test {

template void check_zero_shot(Cuda<float>&, const GoldenCase&, Report&);
template void check_promptkd(Cuda<float>&, const GoldenCase&, Report&);
template void check_learner(Cuda<float>&, const GoldenCase&, Report&);
template void check_zero_shot(Cuda<float, bf16>&, const GoldenCase&, Report&);
template void check_promptkd(Cuda<float, bf16>&, const GoldenCase&, Report&);
template void check_learner(Cuda<float, bf16>&, const GoldenCase&, Report&);
template void check_zero_shot(Cuda<float, half>&, const GoldenCase&, Report&);
template void check_promptkd(Cuda<float, half>&, const GoldenCase&, Report&);
template void check_learner(Cuda<float, half>&, const GoldenCase&, Report&);

}  // namespace promptkd::test
