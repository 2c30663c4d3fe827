// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/format/file.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace promptkd {

/// SHA-256 (FIPS 180-4) of bytes that arrive in parts.
class Sha256 {
public:
    void add(const void* bytes, std::size_t size) {
        const auto* at = static_cast<const unsigned char*>(bytes);
        total_ += size;
        if (held_ > 0) {
            const std::size_t part = std::min(size, block - held_);
            std::memcpy(buffer_.data() + held_, at, part);
            held_ += part, at += part, size -= part;
            if (held_ < block) return;
            compress(buffer_.data());
            held_ = 0;
        }
        for (; size >= block; at += block, size -= block) compress(at);
        if (size > 0) std::memcpy(buffer_.data(), at, size);
        held_ = size;
    }

    /// The digest in hexadecimal digits; nothing may be added after it.
    std::string finish() {
        const std::uint64_t bits = static_cast<std::uint64_t>(total_) * 8;
        unsigned char tail[2 * block] = {0x80};
        const std::size_t padding = (held_ < 56 ? 56 : 120) - held_;
        for (int i = 0; i < 8; ++i)
            tail[padding + static_cast<std::size_t>(i)] = static_cast<unsigned char>(bits >> (56 - 8 * i));
        add(tail, padding + 8);
        static const char* const digits = "0123456789abcdef";
        std::string text;
        for (const std::uint32_t word : state_)
            for (int shift = 28; shift >= 0; shift -= 4) text += digits[word >> shift & 15];
        return text;
    }

private:
    static constexpr std::size_t block = 64;

    static std::uint32_t rotate(std::uint32_t x, int n) { return x >> n | x << (32 - n); }

    void compress(const unsigned char* bytes) {
        static constexpr std::uint32_t k[64] = {
            0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
            0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
            0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
            0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
            0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
            0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
            0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
            0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
        std::uint32_t w[64];
        for (std::size_t i = 0; i < 16; ++i)
            w[i] = static_cast<std::uint32_t>(bytes[4 * i]) << 24 | static_cast<std::uint32_t>(bytes[4 * i + 1]) << 16 |
                   static_cast<std::uint32_t>(bytes[4 * i + 2]) << 8 | bytes[4 * i + 3];
        for (std::size_t i = 16; i < 64; ++i) {
            const std::uint32_t a = w[i - 15], b = w[i - 2];
            w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[i - 7] +
                   (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
        }
        std::array<std::uint32_t, 8> s = state_;
        for (std::size_t i = 0; i < 64; ++i) {
            const std::uint32_t one = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) +
                                      ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i];
            const std::uint32_t two = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) +
                                      ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
            s = {one + two, s[0], s[1], s[2], s[3] + one, s[4], s[5], s[6]};
        }
        for (std::size_t i = 0; i < 8; ++i) state_[i] += s[i];
    }

    std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<unsigned char, block> buffer_{};
    std::size_t held_ = 0, total_ = 0;
};

/// SHA-256 of a file; of a folder, that of the digests and names of its files, sorted (folders inside are left out).
/// Throws Error when something cannot be read.
inline std::string fingerprint(const std::string& path) {
    namespace fs = std::filesystem;
    Sha256 sum;
    if (!fs::is_directory(path)) {
        const auto file = MappedFile::open(path);
        sum.add(file->data(), file->size());
        return sum.finish();
    }
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(path))
        if (entry.is_regular_file()) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
        const std::string line = fingerprint(path + "/" + name) + "  " + name + "\n";
        sum.add(line.data(), line.size());
    }
    return sum.finish();
}

}  // namespace promptkd
