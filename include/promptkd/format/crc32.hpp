// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <libdeflate.h>

#include <cstddef>
#include <cstdint>

namespace promptkd {

/// CRC-32 (polynomial 0xedb88320, as zip and PNG use it) of `size` bytes appended to those that gave `sum`; 0 to begin
/// with.
inline std::uint32_t crc32_of(std::uint32_t sum, const void* bytes, std::size_t size) {
    // libdeflate answers a null pointer with the initial value, whatever `sum` is.
    return size == 0 ? sum : libdeflate_crc32(sum, bytes, size);
}

}  // namespace promptkd
