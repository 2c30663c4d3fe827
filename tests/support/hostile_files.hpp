// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "temporary_folder.hpp"

#include <promptkd/format/file.hpp>

#include <zlib.h>

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

namespace promptkd::test {

inline std::string little_endian(unsigned long long value, int bytes) {
    std::string out;
    for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i));
    return out;
}

inline std::uint32_t crc_of(std::string_view bytes) {
    return static_cast<std::uint32_t>(
        crc32(crc32(0, nullptr, 0), reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size())));
}

/// One entry of a zip archive to write, every field open to lies.
struct ZipPart {
    std::string name, data;
    long long size = -1, crc = -1, offset = -1;  ///< −1: the truth
    bool deflate = false;
    std::string local_name = {};  ///< empty: the same name
};

inline std::string deflated(const std::string& data) {
    z_stream z{};
    REQUIRE(deflateInit2(&z, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY) == Z_OK);
    std::string out(deflateBound(&z, static_cast<uLong>(data.size())), '\0');
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
    z.avail_in = static_cast<uInt>(data.size());
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    REQUIRE(deflate(&z, Z_FINISH) == Z_STREAM_END);
    out.resize(z.total_out);
    deflateEnd(&z);
    return out;
}

/// A zip archive of these parts.
inline std::string make_zip(const std::vector<ZipPart>& parts) {
    std::string file, directory;
    for (const ZipPart& part : parts) {
        const std::string packed = part.deflate ? deflated(part.data) : part.data;
        const unsigned long long size = part.size < 0 ? part.data.size() : static_cast<unsigned long long>(part.size);
        const unsigned long long crc = part.crc < 0 ? crc_of(part.data) : static_cast<unsigned long long>(part.crc);
        const std::string fields = little_endian(20, 2) + little_endian(0, 2) + little_endian(part.deflate ? 8 : 0, 2) +
                                   little_endian(0x210000, 4) + little_endian(crc, 4) +
                                   little_endian(packed.size(), 4) + little_endian(size, 4);
        const std::string& local = part.local_name.empty() ? part.name : part.local_name;
        const unsigned long long at = part.offset < 0 ? file.size() : static_cast<unsigned long long>(part.offset);
        file += "PK\x03\x04" + fields + little_endian(local.size(), 2) + little_endian(0, 2) + local + packed;
        directory += "PK\x01\x02" + little_endian(20, 2) + fields + little_endian(part.name.size(), 2) +
                     std::string(12, '\0') + little_endian(at, 4) + part.name;
    }
    return file + directory + "PK\x05\x06" + std::string(4, '\0') + little_endian(parts.size(), 2) +
           little_endian(parts.size(), 2) + little_endian(directory.size(), 4) + little_endian(file.size(), 4) +
           little_endian(0, 2);
}

}  // namespace promptkd::test
