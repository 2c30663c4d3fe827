// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>

namespace promptkd {

/// One message of Protocol Buffers as it lies in a file, written field by field (the encoding of proto3, which is all
/// that ONNX needs: varints, 32-bit numbers and length-delimited bytes). Fields may come in any order.
class ProtobufMessage {
public:
    /// An integer, an enumeration or a Boolean.
    ProtobufMessage& integer(int field, std::int64_t value) {
        tag(field, 0);
        varint(static_cast<std::uint64_t>(value));
        return *this;
    }
    /// A float.
    ProtobufMessage& number(int field, float value) {
        tag(field, 5);
        const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
        for (int byte = 0; byte < 4; ++byte) bytes_ += static_cast<char>(bits >> (8 * byte) & 0xffu);
        return *this;
    }
    /// A string or bytes.
    ProtobufMessage& text(int field, std::string_view value) {
        header(field, value.size());
        bytes_ += value;
        return *this;
    }
    /// A message inside this one.
    ProtobufMessage& message(int field, const ProtobufMessage& inner) { return text(field, inner.bytes_); }
    /// The beginning of a length-delimited field whose `size` bytes the caller writes behind this message.
    ProtobufMessage& header(int field, std::size_t size) {
        tag(field, 2);
        varint(size);
        return *this;
    }

    /// Bytes as they are: what a header() announced.
    ProtobufMessage& raw(std::string_view bytes) {
        bytes_ += bytes;
        return *this;
    }

    /// What was written.
    const std::string& bytes() const { return bytes_; }

private:
    void tag(int field, unsigned wire_type) { varint(static_cast<std::uint64_t>(field) << 3 | wire_type); }

    /// Seven bits a byte, the lowest first; the top bit says that more follow.
    void varint(std::uint64_t value) {
        for (; value > 0x7f; value >>= 7) bytes_ += static_cast<char>((value & 0x7f) | 0x80);
        bytes_ += static_cast<char>(value);
    }

    std::string bytes_;
};

}  // namespace promptkd
