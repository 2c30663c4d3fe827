// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cocoop_case.hpp"
#include "learner_case.hpp"
#include "numbers_case.hpp"
#include "optimizer_case.hpp"
#include "preprocess_case.hpp"
#include "promptkd_case.hpp"
#include "tokenizer_case.hpp"
#include "zero_shot_case.hpp"

#include "../support/emulated_cuda.hpp"

#include <promptkd/device/cpu.hpp>

namespace promptkd::test {

template <class D>
using CaseCheck = void (*)(D&, const GoldenCase&, Report&);

/// The check of a case of `kind`, null for a kind that is not known.
template <class D>
CaseCheck<D> find_check(const std::string& kind) {
    if (kind == "zero_shot" || kind == "zero_shot_resnet") return &check_zero_shot<D>;
    if (kind == "promptkd") return &check_promptkd<D>;
    if (kind == "cocoop") return &check_cocoop<D>;
    for (const char* learner : {"coop", "vpt", "ivlp", "maple", "promptsrc"})
        if (kind == learner) return &check_learner<D>;
    return nullptr;
}

/// What a checking device has noticed besides: memory that was not released, overruns.
template <class D>
void check_device(const D& device, Report& report) {
    if constexpr (requires { device.live_allocations(); }) {
        report.check(device.live_allocations() == 0, concat(device.live_allocations(), " allocations were not released"));
        for (const std::string& error : device.errors()) report.check(false, error);
    }
}

/// Calls f(device, name) for every device under test; true when all calls returned true. The golden results are fp32, so are
/// the devices; Cpu<double> is added with PROMPTKD_GOLDEN_DOUBLE=1.
template <class F>
bool for_each_device(const F& f) {
    bool all = true;
    {
        static Cpu<float> device;
        all = f(device, "Cpu<float>") && all;
    }
    {
        static EmulatedCuda<float> device;
        all = f(device, "EmulatedCuda<float>") && all;
    }
    if (std::getenv("PROMPTKD_GOLDEN_DOUBLE")) {
        static Cpu<double> device;
        all = f(device, "Cpu<double>") && all;
    }
    return all;
}

}  // namespace promptkd::test
