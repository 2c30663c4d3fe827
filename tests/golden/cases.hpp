// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "adapt_case.hpp"
#include "closed_form_case.hpp"
#include "dense_case.hpp"
#include "learner_case.hpp"
#include "numbers_case.hpp"
#include "optimizer_case.hpp"
#include "preprocess_case.hpp"
#include "promptkd_case.hpp"
#include "tokenizer_case.hpp"
#include "zero_shot_case.hpp"

#include "../support/emulated_cuda.hpp"
#include "../support/sanitizer.hpp"

#include <promptkd/device/cpu.hpp>
#if defined(__CUDACC__)
#include <promptkd/cuda.hpp>
#endif

namespace promptkd::test {

template <class D>
using CaseCheck = void (*)(D&, const GoldenCase&, Report&);

/// The check of a case of `kind`, null for a kind that is not known.
template <class D>
CaseCheck<D> find_check(const std::string& kind) {
    if (kind == "zero_shot" || kind == "zero_shot_resnet") return &check_zero_shot<D>;
    if (kind == "promptkd") return &check_promptkd<D>;
    return try_find_learner(kind) ? &check_learner<D> : nullptr;
}

#if !defined(__CUDACC__)  // one unit a device (on_*.cpp)
extern template CaseCheck<Cpu<float>> find_check<Cpu<float>>(const std::string&);
extern template CaseCheck<Cpu<double>> find_check<Cpu<double>>(const std::string&);
extern template CaseCheck<EmulatedCuda<float>> find_check<EmulatedCuda<float>>(const std::string&);
extern template CaseCheck<EmulatedCuda<float, bf16>> find_check<EmulatedCuda<float, bf16>>(const std::string&);
extern template CaseCheck<EmulatedCuda<float, half>> find_check<EmulatedCuda<float, half>>(const std::string&);
#endif

/// The check of a kind whose results are double's: run on Cpu<double> and the fp32 devices. Null for other kinds.
template <class D>
CaseCheck<D> find_exact_check(const std::string& kind) {
    if (kind == "adapt") return &check_adapt<D>;
    if (const CaseCheck<D> dense = find_dense_check<D>(kind)) return dense;
    return kind == "closed_form" ? &check_closed_form<D> : nullptr;
}

#if !defined(__CUDACC__)
extern template CaseCheck<Cpu<float>> find_exact_check<Cpu<float>>(const std::string&);
extern template CaseCheck<Cpu<double>> find_exact_check<Cpu<double>>(const std::string&);
extern template CaseCheck<EmulatedCuda<float>> find_exact_check<EmulatedCuda<float>>(const std::string&);
#endif

/// What a checking device has noticed besides: memory that was not released, overruns.
template <class D>
void check_device(const D& device, Report& report) {
    if constexpr (requires { device.live_allocations(); }) {
        report.check(device.live_allocations() == 0,
                     concat(device.live_allocations(), " allocations were not released"));
        for (const std::string& error : device.errors()) report.check(false, error);
    }
}

/// The bounds of mixed precision: activations and frozen weights in 16 bits, everything learnable in fp32. PromptKD's
/// later gradients say little there: behind BatchNorm over five images, a value that changes sign switches a whole row
/// on or off.
template <class D>
Bounds bounds_of() {
    using A = typename D::Activation;
    if (std::is_same_v<A, bf16>) return {3e-2, 0.4, 4, 0.3};
    if (std::is_same_v<A, half>) return {2e-2, 0.06, 2, 0.03};
    return {};
}

/// Calls f(device, name) on one device that lives as long as the program.
template <class D, class F, class... Options>
bool on_device(const F& f, const char* name, Options... options) {
    static D device(options...);
    return f(device, name);
}

/// Calls f(device, name) for every device under test; true when all calls returned true. The golden results are fp32,
/// so are the devices; Cpu<double> is added with PROMPTKD_GOLDEN_DOUBLE=1. Compiled by nvcc, the cases run on the GPU.
template <class F>
bool for_each_device(const F& f) {
    bool all = true;
#if defined(__CUDACC__)
    all = on_device<Cuda<float>>(f, "Cuda<float>") && all;
    all =
        on_device<Cuda<float>>(f, "Cuda<float>, fused attention", CudaOptions{0, false, AttentionKernel::fused}) && all;
    all = on_device<Cuda<float, bf16>>(f, "Cuda<float, bf16>") && all;
    all = on_device<Cuda<float, half>>(f, "Cuda<float, half>") && all;
    // Not fp16 too: its other rounding switches a row of PromptKD's projector (see bounds_of), which fp16's bound on
    // gradients does not allow for. The loss is nearer to the golden one than with the composed attention.
    const CudaOptions matrix_units{0, false, AttentionKernel::mma};
    all = on_device<Cuda<float, bf16>>(f, "Cuda<float, bf16>, mma attention", matrix_units) && all;
#else
    all = on_device<Cpu<float>>(f, "Cpu<float>") && all;
    all = on_device<EmulatedCuda<float>>(f, "EmulatedCuda<float>") && all;
    all = on_device<EmulatedCuda<float>>(f, "EmulatedCuda<float>, fused attention", AttentionKernel::fused) && all;
#if !defined(PROMPTKD_ADDRESS_SANITIZER)  // emulation takes minutes there; the unit tests run its 16 bits
    all = on_device<EmulatedCuda<float, bf16>>(f, "EmulatedCuda<float, bf16>") && all;
    all = on_device<EmulatedCuda<float, half>>(f, "EmulatedCuda<float, half>") && all;
#endif
    if (std::getenv("PROMPTKD_GOLDEN_DOUBLE")) all = on_device<Cpu<double>>(f, "Cpu<double>") && all;
#endif
    return all;
}

/// Calls f(device, name) for Cpu<double> and the fp32 devices.
template <class F>
bool for_each_exact_device(const F& f) {
    bool all = on_device<Cpu<double>>(f, "Cpu<double>");
#if defined(__CUDACC__)
    all = on_device<Cuda<float>>(f, "Cuda<float>") && all;
#else
    all = on_device<Cpu<float>>(f, "Cpu<float>") && all;
    all = on_device<EmulatedCuda<float>>(f, "EmulatedCuda<float>") && all;
#endif
    return all;
}

}  // namespace promptkd::test
