// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/rng.hpp>
#include <promptkd/nn/param_set.hpp>

namespace promptkd {

namespace detail {

/// A stream of its own for each parameter name (64-bit FNV-1a), so that adding one parameter changes no other.
inline std::uint64_t stream_of(const std::string& name) {
    std::uint64_t hash = 14695981039346656037ull;
    for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
    return hash;
}

template <Device D, class Draw>
void initialize(ParamSet<D>& params, const std::string& name, std::uint64_t seed, const Draw& draw) {
    using T = typename D::Scalar;
    RandomStream stream(seed, stream_of(name));
    std::vector<T> values(static_cast<std::size_t>(count_of(params.shape_of(name))));
    for (T& value : values) value = static_cast<T>(draw(stream));
    params.set(name, values);
}

}  // namespace detail

/// N(0, deviation²): visual, deep and random context prompts (deviation 0.02).
template <Device D>
void initialize_normal(ParamSet<D>& params, const std::string& name, std::uint64_t seed, double deviation = 0.02) {
    detail::initialize(params, name, seed, [=](RandomStream& r) { return deviation * r.normal(); });
}

/// U(−1/√fan_in, 1/√fan_in): weight and bias of a learnable Linear.
template <Device D>
void initialize_linear(ParamSet<D>& params, const std::string& prefix, std::uint64_t seed) {
    const double bound = 1.0 / std::sqrt(static_cast<double>(params.shape_of(prefix + ".weight")[1]));
    for (const char* part : {".weight", ".bias"})
        detail::initialize(params, prefix + part, seed, [=](RandomStream& r) { return r.uniform(-bound, bound); });
}

/// Every value of a parameter set to `value`.
template <Device D>
void initialize_constant(ParamSet<D>& params, const std::string& name, double value) {
    detail::initialize(params, name, 0, [=](RandomStream&) { return value; });
}

}  // namespace promptkd
