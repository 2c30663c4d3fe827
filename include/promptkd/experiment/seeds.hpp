// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/experiment/results.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// One of several runs that differ in their seed alone.
template <class Outcome>
struct SeedRun {
    std::uint64_t seed = 0;  ///< of this run
    std::string out;         ///< its output folder
    Outcome outcome;         ///< what it left and found
};

/// `spec` (of a training or a distillation) with another seed. Where the specification has an identity of its own, that
/// names the new seed, in the form in which it named the old one.
template <class Spec>
Spec with_seed(Spec spec, std::uint64_t seed) {
    spec.loop.seed = seed;
    nlohmann::json& identity = spec.loop.identity;
    if (identity.empty()) return spec;
    const bool as_text = identity.contains("seed") && identity.at("seed").is_string();
    identity["seed"] = as_text ? nlohmann::json(std::to_string(seed)) : nlohmann::json(seed);
    return spec;
}

/// Runs `spec` once for each seed: run(spec) → outcome, then done(SeedRun) before the next one begins. One seed keeps
/// the output folder OUT, several have OUT/seedN each. An interrupted run is the last one. Throws Error when there is
/// no seed or one is given twice.
template <class Spec, class Run, class Done>
auto run_over_seeds(const Spec& spec, const std::vector<std::uint64_t>& seeds, const Run& run, const Done& done) {
    using Outcome = decltype(run(spec));
    require(!seeds.empty(), "runs over seeds: there is no seed");
    std::vector<std::uint64_t> sorted = seeds;
    std::sort(sorted.begin(), sorted.end());
    const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
    require(twice == sorted.end(), "runs over seeds: seed ", twice == sorted.end() ? 0 : *twice, " is given twice");
    std::vector<SeedRun<Outcome>> runs;
    for (const std::uint64_t seed : seeds) {
        Spec one = with_seed(spec, seed);
        if (seeds.size() > 1 && !spec.loop.out.empty()) one.loop.out = spec.loop.out + "/seed" + std::to_string(seed);
        runs.push_back({seed, one.loop.out, run(one)});
        if constexpr (requires { runs.back().outcome.training.interrupted; })
            if (runs.back().outcome.training.interrupted) return runs;
        done(runs.back());
    }
    return runs;
}

}  // namespace promptkd
