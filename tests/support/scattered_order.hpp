// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>

#include <algorithm>
#include <cstdint>
#include <numeric>

namespace promptkd::test {

/// The numbers 0 … n−1 in a scattered order, i → (first + i·step) mod n, without storage.
class ScatteredOrder {
public:
    template <class Random>
    ScatteredOrder(Index n, Random& random) : n_(n) {
        if (n <= 1) return;
        at_ = static_cast<Index>(random() % static_cast<std::uint64_t>(n));
        do step_ = 1 + static_cast<Index>(random() % static_cast<std::uint64_t>(n));
        while (std::gcd(step_, n) != 1);
    }
    Index next() {
        const Index i = at_;
        at_ = (at_ + step_) % std::max<Index>(1, n_);
        return i;
    }

private:
    Index n_, at_ = 0, step_ = 1;
};

}  // namespace promptkd::test
