// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>
#include <promptkd/format/crc32.hpp>
#include <promptkd/format/file.hpp>
#include <promptkd/format/pickle_opcodes.hpp>
#include <promptkd/format/torch_tensors.hpp>

#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace promptkd {

namespace detail {

inline void append_le(std::string& out, std::uint64_t value, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) out += static_cast<char>(value >> (8 * i));
}

/// Writes the opcodes of pickle protocol 2 that torch.load (also with weights_only=True) reads.
class PickleWriter {
public:
    PickleWriter() { op(Opcode::proto).out_ += '\x02'; }

    PickleWriter& op(Opcode opcode) {
        out_ += static_cast<char>(opcode);
        return *this;
    }
    PickleWriter& text(std::string_view value) {
        op(Opcode::binunicode);
        append_le(out_, value.size(), 4);
        out_ += value;
        return *this;
    }
    PickleWriter& integer(std::int64_t value) {
        if (value >= 0 && value < 256) {
            op(Opcode::binint1);
            append_le(out_, static_cast<std::uint64_t>(value), 1);
        } else if (value >= std::numeric_limits<std::int32_t>::min() &&
                   value <= std::numeric_limits<std::int32_t>::max()) {
            op(Opcode::binint);
            append_le(out_, static_cast<std::uint64_t>(value), 4);
        } else {
            op(Opcode::long1).out_ += '\x08';
            append_le(out_, static_cast<std::uint64_t>(value), 8);
        }
        return *this;
    }
    PickleWriter& integers(const std::vector<Index>& values) {
        op(Opcode::mark);
        for (const Index value : values) integer(value);
        return op(Opcode::tuple);
    }
    PickleWriter& global(std::string_view module, std::string_view name) {
        op(Opcode::global).out_ += module;
        out_ += '\n';
        out_ += name;
        out_ += '\n';
        return *this;
    }
    PickleWriter& ordered_dict() {
        return global("collections", "OrderedDict").op(Opcode::empty_tuple).op(Opcode::reduce);
    }

    /// torch._utils._rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict())
    PickleWriter& tensor(const HostTensor& t, const std::string& key) {
        std::vector<Index> stride(t.shape.size(), 1);
        for (std::size_t i = t.shape.size(); i-- > 1;) stride[i - 1] = stride[i] * t.shape[i];
        global("torch._utils", "_rebuild_tensor_v2").op(Opcode::mark);
        op(Opcode::mark)
            .text("storage")
            .global("torch", storage_name(t.dtype))
            .text(key)
            .text("cpu")
            .integer(t.count())
            .op(Opcode::tuple)
            .op(Opcode::binpersid);
        integer(0).integers(t.shape).integers(stride).op(Opcode::newfalse).ordered_dict();
        return op(Opcode::tuple).op(Opcode::reduce);
    }

    const std::string& finish() {
        op(Opcode::stop);
        return out_;
    }

private:
    static const char* storage_name(DType type) {
        for (const StorageTypeName& known : storage_types)
            if (known.type == type) return known.name;
        return "ByteStorage";
    }

    std::string out_;
};

/// Writes a zip archive of stored entries whose data starts at multiples of 64 bytes, as torch's own do.
class StoredZipWriter {
public:
    explicit StoredZipWriter(AtomicFile& file) : file_(file) {}

    void add(const std::string& name, const void* bytes, std::size_t size) {
        const std::uint32_t sum = crc32_of(0, bytes, size);
        require(size < limit && at_ < limit - size,
                "a checkpoint of more than 4 GiB cannot be written in this layout; write safetensors");
        const std::size_t start = at_ + 30 + name.size() + 4, padding = (64 - start % 64) % 64;
        // Version, UTF-8 names, stored, 1980-01-01 (the same input gives the same bytes), CRC, both sizes, name.
        const std::string common =
            fields({{20, 2}, {0x0800, 2}, {0, 2}, {0, 2}, {0x21, 2}, {sum, 4}, {size, 4}, {size, 4}, {name.size(), 2}});
        std::string local = "PK\x03\x04" + common + fields({{4 + padding, 2}}) + name;
        local += "FB" + fields({{padding, 2}}) + std::string(padding, 'Z');
        // No extra field, no comment, first part, no attributes, then the place of the local header.
        directory_ += "PK\x01\x02" + fields({{20, 2}}) + common;
        directory_ += fields({{0, 2}, {0, 2}, {0, 2}, {0, 2}, {0, 4}, {at_, 4}}) + name;
        ++count_;
        file_.write(local);
        file_.write(bytes, size);
        at_ += local.size() + size;
    }
    void add(const std::string& name, std::string_view bytes) { add(name, bytes.data(), bytes.size()); }

    void finish() {
        require(count_ < 65535 && at_ < limit - directory_.size(),
                "too many tensors for a checkpoint in this layout; write safetensors");
        file_.write(directory_);
        file_.write("PK\x05\x06" +
                    fields({{0, 4}, {count_, 2}, {count_, 2}, {directory_.size(), 4}, {at_, 4}, {0, 2}}));
    }

private:
    static constexpr std::size_t limit = 0xffffffff;

    struct Field {
        std::uint64_t value;
        std::size_t bytes;
    };

    /// Little-endian numbers, one behind the other.
    static std::string fields(std::initializer_list<Field> all) {
        std::string out;
        for (const Field& field : all) append_le(out, field.value, field.bytes);
        return out;
    }

    AtomicFile& file_;
    std::string directory_;
    std::size_t at_ = 0;
    std::size_t count_ = 0;
};

}  // namespace detail

/// Writes a checkpoint in the layout of the published trainers, {"state_dict": OrderedDict of tensors, "epoch": …}, as
/// a torch.save zip that torch.load reads (also with weights_only=True). `notes` are kept beside them under the key
/// "promptkd", which those trainers ignore. All or nothing; the same input gives the same bytes. Throws Error when it
/// cannot be written.
inline void write_torch_checkpoint(const std::string& path, const std::map<std::string, HostTensor>& state,
                                   std::int64_t epoch, const std::map<std::string, std::string>& notes = {}) {
    using detail::Opcode;
    detail::PickleWriter pickle;
    pickle.op(Opcode::empty_dict).op(Opcode::mark).text("state_dict").ordered_dict().op(Opcode::mark);
    std::size_t key = 0;
    for (const auto& [name, tensor] : state) pickle.text(name).tensor(tensor, std::to_string(key++));
    pickle.op(Opcode::setitems).text("epoch").integer(epoch);
    if (!notes.empty()) {
        pickle.text("promptkd").op(Opcode::empty_dict).op(Opcode::mark);
        for (const auto& [name, value] : notes) pickle.text(name).text(value);
        pickle.op(Opcode::setitems);
    }
    const std::string& data = pickle.op(Opcode::setitems).finish();
    write_atomically(path, [&](AtomicFile& file) {
        detail::StoredZipWriter zip(file);
        zip.add("archive/data.pkl", data);
        zip.add("archive/byteorder", "little");
        key = 0;
        for (const auto& [name, tensor] : state)
            zip.add("archive/data/" + std::to_string(key++), tensor.bytes, tensor.size_bytes());
        zip.add("archive/version", "3\n");
        zip.finish();
    });
}

}  // namespace promptkd
