// SPDX-License-Identifier: Apache-2.0
#pragma once

// The CUDA backend: compile with nvcc and link promptkd::cuda. No Eigen is included here; a source that also uses Cpu
// includes promptkd/promptkd.hpp as well.

#include <promptkd/device/cuda.hpp>
