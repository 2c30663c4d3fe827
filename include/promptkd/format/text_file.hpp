// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/format/file.hpp>

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <string>

namespace promptkd {

namespace detail {

/// zlib's inflate state, released on every path out.
struct Inflater {
    z_stream stream{};
    explicit Inflater(int window_bits) { require(inflateInit2(&stream, window_bits) == Z_OK, "zlib: out of memory"); }
    ~Inflater() { inflateEnd(&stream); }
    Inflater(const Inflater&) = delete;
    Inflater& operator=(const Inflater&) = delete;
};

inline bool has_gzip_magic(const std::string& bytes) {
    return bytes.size() >= 2 && bytes[0] == '\x1f' && bytes[1] == '\x8b';
}

/// Decompresses every member of a gzip file, at most `limit` bytes of output.
inline std::string gunzip(const std::string& bytes, std::size_t limit, const std::string& name) {
    Inflater inflater(15 + 16);
    z_stream& stream = inflater.stream;
    std::string out;
    std::size_t consumed = 0;
    char buffer[1 << 16];
    for (;;) {
        if (stream.avail_in == 0) {  // zlib counts input in 32 bits, so large files are fed in slices
            const std::size_t slice = std::min<std::size_t>(bytes.size() - consumed, std::size_t{1} << 30);
            stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data() + consumed));
            stream.avail_in = static_cast<uInt>(slice);
            consumed += slice;
        }
        stream.next_out = reinterpret_cast<Bytef*>(buffer);
        stream.avail_out = sizeof buffer;
        const int status = inflate(&stream, Z_NO_FLUSH);
        require(status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR, name, ": damaged gzip data (",
                stream.msg ? stream.msg : "inflate failed", ")");
        const std::size_t produced = sizeof buffer - stream.avail_out;
        require(produced <= limit - out.size(), name, ": decompresses to more than ", limit, " bytes; refused");
        out.append(buffer, produced);
        const bool input_left = stream.avail_in > 0 || consumed < bytes.size();
        if (status == Z_STREAM_END) {
            const std::size_t at = consumed - stream.avail_in;  // a second member may follow; other bytes are padding
            if (!has_gzip_magic(bytes.substr(at, 2))) return out;
            require(inflateReset(&stream) == Z_OK, name, ": damaged gzip data");
        } else {
            require(produced > 0 || input_left, name, ": the gzip data is truncated; copy or download the file again");
        }
    }
}

/// "path what (strerror(code))" as an Error, see fail_errno().
[[noreturn]] inline void fail_with_code(int code, const std::string& path, const char* what) {
    fail_lacking(code, concat(path, what, " (", std::generic_category().message(code), ")"));
}

}  // namespace detail

/// Size limit for reading text files (merges, class lists, configurations), before and after decompression.
inline constexpr std::size_t text_file_limit = std::size_t{64} << 20;

/// The bytes of a file as they are. Throws Error when it cannot be opened or read, or holds more than `limit` bytes.
inline std::string read_file_bytes(const std::string& path, std::size_t limit = text_file_limit) {
    const detail::Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) detail::fail_with_code(errno, path, ": cannot be opened");
    std::string bytes;
    char buffer[1 << 16];
    for (;;) {
        const ssize_t n = ::read(file.get(), buffer, sizeof buffer);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) detail::fail_with_code(errno, path, ": cannot be read");
        require(static_cast<std::size_t>(n) <= limit - bytes.size(), path, ": larger than ", limit, " bytes; refused");
        if (n == 0) return bytes;
        bytes.append(buffer, static_cast<std::size_t>(n));
    }
}

/// The contents of a text file; gzip data (recognised by its first two bytes, whatever the name) is decompressed.
/// Throws Error for an unreadable, truncated or damaged file and when either form holds more than `limit` bytes.
inline std::string read_text_file(const std::string& path, std::size_t limit = text_file_limit) {
    std::string bytes = read_file_bytes(path, limit);
    return detail::has_gzip_magic(bytes) ? detail::gunzip(bytes, limit, path) : bytes;
}

}  // namespace promptkd
