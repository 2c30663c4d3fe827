// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/cpu/machine_memory.hpp>
#include <promptkd/experiment/distillation_spec.hpp>

#include <algorithm>
#include <cmath>
#include <fstream>

namespace promptkd {

namespace detail {

/// Bytes that this process may use: the machine's memory, or the limit of its control group.
inline double memory_limit() {
    const double machine = static_cast<double>(machine_memory());
    double group = 0;
    std::ifstream file("/sys/fs/cgroup/memory.max");
    return file >> group && group > 0 ? std::min(machine, group) : machine;  // "max" is no number
}

/// Bytes of a fit of width h that do not depend on the number of images: five matrices (h, h) in double, and four
/// (n, h) in single precision of the images that λ is chosen on.
inline double fit_memory(double width, double subset) { return 40 * width * width + 16 * width * subset; }

}  // namespace detail

/// Throws Error when a fit of this width needs more memory than there is.
inline void require_memory(const ClosedFormSpec& how) {
    const double have = detail::memory_limit(), subset = static_cast<double>(how.subset);
    const double need = detail::fit_memory(static_cast<double>(how.width), subset);
    const double fitting = (std::sqrt(64 * subset * subset + 40 * have) - 8 * subset) / 40;
    require(need < have, "a fit of width ", how.width, " needs ", std::llround(need / 1e9),
            " GB of memory, this machine has ", std::llround(have / 1e9), "; a width of ",
            static_cast<Index>(fitting / 100) * 100, " would fit");
}

/// The student and the images of a fit in closed form: no prompts, a wide projector, each image as it is; features of
/// e_s values.
inline void complete_closed_form(DistillationSpec& spec, Index student_width) {
    ClosedFormSpec& how = spec.closed_form;
    if (how.width == 0) how.width = default_hidden_width(student_width);
    require_memory(how);
    how.seed = spec.loop.seed;
    how.mix = spec.mixes();
    how.guard = spec.guards();
    spec.shape.prompts = 0;
    spec.shape.depth = 0;
    spec.shape.projector_layers = 2;
    spec.shape.hidden = how.width;
    spec.loop.augmentation = Augmentation::none;
    spec.loop.fixed_views = true;
}

}  // namespace promptkd
