// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>
#include <promptkd/format/file.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace promptkd {

/// Bytes of a file, usually mapped, and what keeps them alive. `path` is for messages.
struct FileBytes {
    std::string path;                   ///< of the file, for messages
    std::string_view text;              ///< its bytes
    std::shared_ptr<const void> owner;  ///< keeps them mapped
    bool mapped = false;                ///< the bytes lie in a read-only mapping of a file

    /// Maps the file. Throws Error when it cannot be read.
    static FileBytes open(const std::string& path) {
        const std::shared_ptr<const MappedFile> file = MappedFile::open(path);
        return {path, file->text(), file, true};
    }
    /// The first byte.
    const std::byte* data() const { return reinterpret_cast<const std::byte*>(text.data()); }
    /// Number of bytes.
    std::size_t size() const { return text.size(); }
};

namespace detail {

/// Little-endian integer of `n` bytes at `offset`, which the caller has checked.
inline std::uint64_t read_le(std::string_view text, std::size_t offset, std::size_t n) {
    std::uint64_t value = 0;
    for (std::size_t i = n; i-- > 0;) value = value << 8 | static_cast<std::uint8_t>(text[offset + i]);
    return value;
}

}  // namespace detail

}  // namespace promptkd
