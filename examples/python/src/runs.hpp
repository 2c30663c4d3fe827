// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/nanobind.h>

namespace promptkd::python {

/// distill, train and reproduce of promptkd._core: a unit of its own, whose templates take minutes to compile.
void add_runs(nanobind::module_& m);

}  // namespace promptkd::python
