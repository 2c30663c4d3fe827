// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

namespace promptkd {

/// A 64-bit checksum of bytes, eight at a time (exclusive or, multiplication, shift): tells files apart; it is no
/// protection against forgery. Parts count: "ab" differs from "a" and then "b".
class Checksum {
public:
    /// Adds `n` bytes and their number.
    void add(const void* data, std::size_t n) {
        const char* bytes = static_cast<const char*>(data);
        for (; n >= 8; n -= 8, bytes += 8) {
            std::uint64_t word;
            std::memcpy(&word, bytes, 8);
            mix(word);
        }
        std::uint64_t rest = n;
        std::memcpy(reinterpret_cast<char*>(&rest) + 1, bytes, n);  // the count keeps "a" and "a\0" apart
        mix(rest);
    }
    /// Adds the bytes of a text and their number.
    void add(const std::string& text) { add(text.data(), text.size()); }

    /// As a number.
    std::uint64_t value() const { return state_; }

    /// 16 hexadecimal digits.
    std::string text() const {
        char digits[17];
        std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(state_));
        return digits;
    }

private:
    void mix(std::uint64_t word) {
        state_ = (state_ ^ word) * 0x9e3779b97f4a7c15ull;
        state_ ^= state_ >> 29;
    }

    std::uint64_t state_ = 0x243f6a8885a308d3ull;
};

}  // namespace promptkd
