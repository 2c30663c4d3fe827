// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace promptkd::detail {

/// Opcodes of pickle protocols 2 to 5 that torch and the published trainers write. Those of protocol 0 (text) and the
/// extension registry are refused like unknown ones.
enum class Opcode : std::uint8_t {
    mark = '(',
    stop = '.',
    pop = '0',
    pop_mark = '1',
    dup = '2',
    binfloat = 'G',
    binint = 'J',
    binint1 = 'K',
    binint2 = 'M',
    none = 'N',
    binpersid = 'Q',
    reduce = 'R',
    binstring = 'T',
    short_binstring = 'U',
    binunicode = 'X',
    append = 'a',
    build = 'b',
    global = 'c',
    dict = 'd',
    empty_dict = '}',
    appends = 'e',
    binget = 'h',
    long_binget = 'j',
    list = 'l',
    empty_list = ']',
    binput = 'q',
    long_binput = 'r',
    setitem = 's',
    tuple = 't',
    empty_tuple = ')',
    setitems = 'u',
    proto = 0x80,
    newobj = 0x81,
    tuple1 = 0x85,
    tuple2 = 0x86,
    tuple3 = 0x87,
    newtrue = 0x88,
    newfalse = 0x89,
    long1 = 0x8a,
    long4 = 0x8b,
    binbytes = 'B',
    short_binbytes = 'C',
    short_binunicode = 0x8c,
    binunicode8 = 0x8d,
    binbytes8 = 0x8e,
    empty_set = 0x8f,
    additems = 0x90,
    frozenset = 0x91,
    newobj_ex = 0x92,
    stack_global = 0x93,
    memoize = 0x94,
    frame = 0x95,
    bytearray8 = 0x96
};

/// Reads opcodes and their arguments; every read is checked against the end. Errors name the byte of the opcode.
class OpcodeReader {
public:
    OpcodeReader(std::string_view bytes, const std::string& where) : bytes_(bytes), where_(where) {}

    const std::string& where() const { return where_; }
    std::size_t size() const { return bytes_.size(); }
    std::size_t position() const { return position_; }
    std::size_t remaining() const { return bytes_.size() - position_; }
    std::uint8_t peek() const { return static_cast<std::uint8_t>(bytes_[position_]); }
    void begin_opcode() { start_ = position_; }

    /// Throws Error with the byte of the current opcode and the joined `what` unless `good`.
    template <class... Args>
    void check(bool good, const Args&... what) const {
        if (!good) fail(where_, ": pickle: byte ", start_, ": ", what...);
    }

    [[noreturn]] void fail_unknown() const {
        const int code = static_cast<std::uint8_t>(bytes_[start_]);
        fail(where_, ": pickle: byte ", start_, ": opcode ", code, " is unknown or not one that torch writes");
    }

    std::string_view bytes(std::uint64_t n) {
        check(n <= remaining(), "truncated, or a length beyond the end");
        const std::string_view part = bytes_.substr(position_, static_cast<std::size_t>(n));
        position_ += static_cast<std::size_t>(n);
        return part;
    }
    std::uint8_t u8() { return static_cast<std::uint8_t>(bytes(1)[0]); }
    std::uint16_t u16() { return static_cast<std::uint16_t>(little_endian(2)); }
    std::uint32_t u32() { return static_cast<std::uint32_t>(little_endian(4)); }
    std::uint64_t u64() { return little_endian(8); }

    double big_endian_double() {
        const std::string_view raw = bytes(8);
        std::uint64_t bits = 0;
        for (const char c : raw) bits = bits << 8 | static_cast<std::uint8_t>(c);
        double value;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    }

    /// Text up to the next newline, which is skipped.
    std::string_view line() {
        const std::size_t end = bytes_.find('\n', position_);
        check(end != std::string_view::npos, "a name without an end");
        const std::string_view text = bytes_.substr(position_, end - position_);
        position_ = end + 1;
        return text;
    }

private:
    std::uint64_t little_endian(std::size_t n) {
        const std::string_view raw = bytes(n);
        std::uint64_t value = 0;
        for (std::size_t i = n; i-- > 0;) value = value << 8 | static_cast<std::uint8_t>(raw[i]);
        return value;
    }

    std::string_view bytes_;
    const std::string& where_;
    std::size_t position_ = 0, start_ = 0;
};

}  // namespace promptkd::detail
