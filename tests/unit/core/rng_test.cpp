// SPDX-License-Identifier: Apache-2.0
#include <promptkd/core/rng.hpp>

#include <doctest/doctest.h>

#include <set>
#include <string>
#include <vector>

namespace rng_test {

namespace {

using namespace promptkd;

using Words = std::vector<std::uint32_t>;

Words words_of(std::uint64_t key, std::uint64_t counter_low, std::uint64_t counter_high) {
    const Philox block(key, counter_low, counter_high);
    return {block.word, block.word + 4};
}

// The known-answer vectors of Random123 (kat_vectors, "philox4x32 10"). Its 32-bit words come in the order of the
// counter and of the key, so word 0 is the lower half of our first 64 bits.
TEST_CASE("philox: published known answers") {
    CHECK(words_of(0, 0, 0) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    const std::uint64_t ones = ~std::uint64_t{0};
    CHECK(words_of(ones, ones, ones) == Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
    CHECK(words_of(0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e) ==
          Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});  // the digits of pi
}

TEST_CASE("random stream: draws are words of consecutive blocks, named by seed, stream and substream") {
    RandomStream random(7, 11, 13);
    for (std::uint64_t block = 0; block < 3; ++block)
        for (const std::uint32_t word : words_of(7, (std::uint64_t{13} << 32) | block, 11))
            CHECK(random.next() == word);
}

TEST_CASE("random stream: equal names give equal numbers, other names others") {
    std::set<std::uint32_t> first;
    for (const std::uint64_t seed : {1, 2})
        for (const std::uint64_t stream : {1, 2})
            for (const std::uint32_t substream : {0u, 1u}) {
                RandomStream a(seed, stream, substream);
                RandomStream b(seed, stream, substream);
                const std::uint32_t word = a.next();
                CHECK(word == b.next());
                first.insert(word);
            }
    CHECK(first.size() == 8);
}

TEST_CASE("random stream: uniform numbers lie in [low, high) with mean and variance of a uniform") {
    RandomStream random(3, 5);
    const int n = 20000;
    double sum = 0;
    double square = 0;
    for (int i = 0; i < n; ++i) {
        const double x = random.uniform(-1, 3);
        REQUIRE(x >= -1);
        REQUIRE(x < 3);
        sum += x;
        square += x * x;
    }
    const double mean = sum / n;
    CHECK(mean == doctest::Approx(1).epsilon(0.03));                              // σ of the mean: 0.008
    CHECK(square / n - mean * mean == doctest::Approx(16.0 / 12).epsilon(0.03));  // (high − low)² / 12
}

TEST_CASE("random stream: the largest word gives a uniform below 1") {
    // 24 bits of 2³² − 1: (2²⁴ − 1)/2²⁴, which fp32 holds exactly and does not round to 1.
    const double largest = (0xffffffffu >> 8) * (1.0 / 16777216.0);
    CHECK(largest < 1);
    CHECK(static_cast<float>(largest) < 1.0f);
}

TEST_CASE("random stream: below(n) takes each value equally often") {
    RandomStream random(17, 19);
    for (const std::uint32_t n : {1u, 2u, 7u, 10u}) {
        std::vector<int> count(n);
        const int draws = 3000 * static_cast<int>(n);
        for (int i = 0; i < draws; ++i) {
            const std::uint32_t x = random.below(n);
            REQUIRE(x < n);
            ++count[x];
        }
        for (const int c : count) CHECK(c == doctest::Approx(3000).epsilon(0.08));  // four deviations: 0.073
    }
}

TEST_CASE("random stream: below(n) of a large n is unbiased too") {
    // Without rejection, 3·2³⁰ of 2³² words would make every third value twice as likely.
    const std::uint32_t n = 3u << 30;
    RandomStream random(23, 29);
    int third[3] = {};
    for (int i = 0; i < 9000; ++i) ++third[random.below(n) >> 30];
    for (const int c : third) CHECK(c == doctest::Approx(3000).epsilon(0.06));
    CHECK(RandomStream(1, 1).below(0xffffffffu) < 0xffffffffu);
}

TEST_CASE("random stream: normal numbers have the moments of a standard normal") {
    RandomStream random(31, 37);
    const int n = 40000;
    double moment[5] = {};
    int within_one = 0;
    for (int i = 0; i < n; ++i) {
        const double x = random.normal();
        REQUIRE(std::isfinite(x));
        double power = 1;
        for (double& m : moment) {
            m += power / n;
            power *= x;
        }
        if (std::abs(x) < 1) ++within_one;
    }
    CHECK(std::abs(moment[1]) < 0.02);
    CHECK(moment[2] == doctest::Approx(1).epsilon(0.03));
    CHECK(std::abs(moment[3]) < 0.08);
    CHECK(moment[4] == doctest::Approx(3).epsilon(0.05));
    CHECK(within_one == doctest::Approx(0.6827 * n).epsilon(0.02));
}

}  // namespace

}  // namespace rng_test
