// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/nn/param_set.hpp>

#include <cmath>
#include <string>
#include <vector>

namespace promptkd {

/// The learning rate's factor for parameters whose names begin so. With 0 they stay as they are: no decay, and their
/// gradients count in no norm.
struct RateFactor {
    std::string prefix;  ///< of the names
    double factor = 1;   ///< of the learning rate
};

/// Neighbouring parameters of a ParamSet with the same factor of the learning rate.
struct RateGroup {
    Index first = 0, count = 0;  ///< values of the set
    double factor = 1;           ///< of the learning rate
};

/// The groups of `params` whose factor is not 0; of several prefixes that fit a name the first one counts, without any
/// the factor is 1. Throws Error for a factor that is negative or not finite.
template <Device D>
std::vector<RateGroup> rate_groups(const ParamSet<D>& params, const std::vector<RateFactor>& factors) {
    for (const RateFactor& f : factors)
        require(std::isfinite(f.factor) && f.factor >= 0, "the learning rate's factor of '", f.prefix, "' is ",
                f.factor, ", expected 0 or more");
    const auto factor_of = [&factors](const std::string& name) {
        for (const RateFactor& f : factors)
            if (name.rfind(f.prefix, 0) == 0) return f.factor;
        return 1.0;
    };
    std::vector<RateGroup> groups;
    Index at = 0;
    for (const std::string& name : params.names()) {
        const Index count = count_of(params.shape_of(name));
        const double factor = factor_of(name);
        const bool continues =
            !groups.empty() && groups.back().factor == factor && groups.back().first + groups.back().count == at;
        if (continues)
            groups.back().count += count;
        else if (factor != 0)
            groups.push_back({at, count, factor});
        at += count;
    }
    return groups;
}

}  // namespace promptkd
