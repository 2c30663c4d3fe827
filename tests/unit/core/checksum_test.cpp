// SPDX-License-Identifier: Apache-2.0
#include <promptkd/core/checksum.hpp>

#include <doctest/doctest.h>

#include <set>

namespace checksum_test {

namespace {

using namespace promptkd;

std::string sum_of(const std::string& text) {
    Checksum sum;
    sum.add(text);
    return sum.text();
}

TEST_CASE("checksum: sixteen hexadecimal digits, the same for the same bytes") {
    const std::string text = sum_of("a photo of a cat.");
    CHECK(text.size() == 16);
    CHECK(text.find_first_not_of("0123456789abcdef") == std::string::npos);
    CHECK(sum_of("a photo of a cat.") == text);
    CHECK(sum_of("a photo of a cat!") != text);
}

TEST_CASE("checksum: lengths and trailing zeros count") {
    std::set<std::string> sums;
    for (std::size_t n = 0; n < 40; ++n) sums.insert(sum_of(std::string(n, '\0')));
    for (std::size_t n = 1; n < 40; ++n) sums.insert(sum_of("a" + std::string(n - 1, '\0')));
    CHECK(sums.size() == 79);
}

TEST_CASE("checksum: every bit counts") {
    const std::string text = "the quick brown fox jumps";
    std::set<std::string> sums{sum_of(text)};
    for (std::size_t bit = 0; bit < 8 * text.size(); ++bit) {
        std::string changed = text;
        changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ 1 << bit % 8);
        sums.insert(sum_of(changed));
    }
    CHECK(sums.size() == 1 + 8 * text.size());
}

TEST_CASE("checksum: the division into parts counts, since files and names are parts") {
    Checksum together;
    Checksum apart;
    together.add("ab");
    apart.add("a");
    apart.add("b");
    CHECK(together.text() != apart.text());
}

}  // namespace

}  // namespace checksum_test
