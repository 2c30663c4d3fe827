// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>

#define XXH_INLINE_ALL
#if defined(__AVX512F__) && !defined(XXH_VECTOR)
#define XXH_VECTOR 2  // AVX2: g++ 12 warns of its own AVX-512 intrinsics, and memory is the limit with either
#endif
#include <xxhash.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace promptkd {

/// XXH3-128 (xxHash, https://github.com/Cyan4973/xxHash) of bytes that arrive in parts: at the speed of memory, so that
/// files can be checked whenever they are read. Against damage, not against forgery.
class Xxh3 {
public:
    Xxh3() { XXH3_128bits_reset(&state_); }

    /// Appends `size` bytes.
    void add(const void* bytes, std::size_t size) { XXH3_128bits_update(&state_, bytes, size); }
    /// Appends a text and its length, so that "ab", "c" differ from "a", "bc".
    void add(std::string_view text) {
        const std::uint64_t size = text.size();
        add(&size, sizeof size);
        add(text.data(), text.size());
    }

    /// "xxh3-128:" and 32 hexadecimal digits.
    std::string text() const {
        const XXH128_hash_t hash = XXH3_128bits_digest(&state_);
        char digits[33];
        std::snprintf(digits, sizeof digits, "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                      static_cast<unsigned long long>(hash.low64));
        return std::string("xxh3-128:") + digits;
    }

private:
    XXH3_state_t state_;
};

namespace detail {

/// Appends the bytes of a tensor; pages of a mapped file are given back behind the reader.
template <class Hash>
void add_bytes(Hash& hash, const HostTensor& tensor) {
    constexpr std::size_t step = std::size_t{1} << 20;
    const std::size_t size = tensor.size_bytes();
    for (std::size_t at = 0; at < size; at += step) {
        const std::size_t n = std::min(step, size - at);
        hash.add(tensor.bytes + at, n);
        if (tensor.mapped) drop_pages(tensor.bytes + at, n);
    }
}

}  // namespace detail

/// The digest of everything that `map` holds: metadata, names, types, shapes and bytes, in the order of the names.
inline std::string digest_of(const TensorMap& map) {
    Xxh3 hash;
    for (const auto& [key, value] : map.metadata) {
        hash.add(key);
        hash.add(value);
    }
    for (const auto& [name, tensor] : map.tensors) {
        hash.add(name);
        hash.add(concat(name_of(tensor.dtype), to_string(tensor.shape)));
        detail::add_bytes(hash, tensor);
    }
    return hash.text();
}

/// The digest of a text.
inline std::string digest_of_text(std::string_view text) {
    Xxh3 hash;
    hash.add(text);
    return hash.text();
}

}  // namespace promptkd
