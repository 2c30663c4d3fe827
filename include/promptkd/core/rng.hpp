// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>

#include <cmath>

namespace promptkd {

/// Four random 32-bit words for (key, counter): Philox4x32-10 of Salmon et al., "Parallel Random Numbers: As Easy as
/// 1, 2, 3" (SC 2011). Counter-based: no state, so any thread or device draws the same numbers for the same place.
struct Philox {
    std::uint32_t word[4];  ///< the four random words

    /// The words of 64 bits of key and 128 of counter, each given as lower half first.
    PROMPTKD_HD Philox(std::uint64_t key, std::uint64_t counter_low, std::uint64_t counter_high) {
        std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
        word[0] = static_cast<std::uint32_t>(counter_low);
        word[1] = static_cast<std::uint32_t>(counter_low >> 32);
        word[2] = static_cast<std::uint32_t>(counter_high);
        word[3] = static_cast<std::uint32_t>(counter_high >> 32);
        for (int round = 0; round < 10; ++round) {
            const std::uint64_t p0 = 0xD2511F53ull * word[0], p1 = 0xCD9E8D57ull * word[2];
            const std::uint32_t w1 = word[1], w3 = word[3];
            word[0] = static_cast<std::uint32_t>(p1 >> 32) ^ w1 ^ k0;
            word[1] = static_cast<std::uint32_t>(p1);
            word[2] = static_cast<std::uint32_t>(p0 >> 32) ^ w3 ^ k1;
            word[3] = static_cast<std::uint32_t>(p0);
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
    }
};

/// A stream of random numbers named by (seed, stream, substream): the n-th draw is a pure function of those and n.
/// Use: one stream for each image and epoch, each parameter, each shuffle.
class RandomStream {
public:
    /// The stream of this name, at its first draw.
    PROMPTKD_HD RandomStream(std::uint64_t seed, std::uint64_t stream, std::uint32_t substream = 0)
        : key_(seed), high_(stream), low_(static_cast<std::uint64_t>(substream) << 32) {}

    /// Uniform 32-bit word.
    PROMPTKD_HD std::uint32_t next() {
        const Philox block(key_, low_ | (position_ >> 2), high_);
        return block.word[position_++ & 3];
    }

    /// Uniform in [0, 1), 24 bits.
    PROMPTKD_HD double uniform() { return (next() >> 8) * (1.0 / 16777216.0); }
    /// Uniform in [low, high).
    PROMPTKD_HD double uniform(double low, double high) { return low + (high - low) * uniform(); }

    /// Uniform integer in [0, n), n ≥ 1, unbiased (rejection).
    PROMPTKD_HD std::uint32_t below(std::uint32_t n) {
        const std::uint32_t limit = static_cast<std::uint32_t>(-static_cast<std::int64_t>(n)) % n;
        for (;;) {
            const std::uint64_t product = static_cast<std::uint64_t>(next()) * n;
            if (static_cast<std::uint32_t>(product) >= limit) return static_cast<std::uint32_t>(product >> 32);
        }
    }

    /// Standard normal by Box and Muller (one of the pair).
    PROMPTKD_HD double normal() {
        const double u = 1.0 - uniform(), v = uniform();
        return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * v);
    }

private:
    std::uint64_t key_, high_, low_;
    std::uint64_t position_ = 0;
};

}  // namespace promptkd
