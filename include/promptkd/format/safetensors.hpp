// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>
#include <promptkd/format/digest.hpp>
#include <promptkd/format/file.hpp>
#include <promptkd/format/json_text.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace promptkd {

namespace detail::safetensors {

inline constexpr std::uint64_t header_limit = 100'000'000;  // the format's own limit
inline constexpr std::size_t rank_limit = 32;

struct TypeName {
    const char* name;
    DType type;
};
inline constexpr TypeName type_names[] = {
    {"F64", DType::f64}, {"F32", DType::f32}, {"F16", DType::f16}, {"BF16", DType::bf16}, {"I64", DType::i64},
    {"I32", DType::i32}, {"I16", DType::i16}, {"I8", DType::i8},   {"U8", DType::u8},     {"BOOL", DType::boolean}};

inline const char* stored_name(DType type) {
    for (const TypeName& entry : type_names)
        if (entry.type == type) return entry.name;
    return "?";
}

/// One tensor as the header describes it, not yet checked against the file.
struct Entry {
    std::string dtype;
    std::vector<std::uint64_t> shape, offsets;
    bool has_dtype = false, has_shape = false, has_offsets = false;
};

/// Reads the header while it is parsed. Only the format's own nesting is accepted (object, object, array of unsigned
/// integers), so a hostile header can neither nest deeply nor build anything that is not a tensor.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
public:
    explicit HeaderReader(const std::string& path) : path_(path) {}

    std::map<std::string, Entry> entries;
    std::map<std::string, std::string> metadata;

    /// The library of the format takes null for metadata that are not there.
    bool null() override {
        if (level_ == Level::top && name_ == "__metadata__") return true;
        unexpected("null");
    }
    bool boolean(bool) override { unexpected("a boolean"); }
    bool number_integer(number_integer_t value) override { unexpected(concat("the negative number ", value)); }
    bool number_float(number_float_t, const string_t& text) override { unexpected(concat("the number ", text)); }
    bool binary(binary_t&) override { unexpected("binary data"); }

    bool number_unsigned(number_unsigned_t value) override {
        if (level_ != Level::array) unexpected(concat("the number ", value));
        require(array_->size() < rank_limit, where(), "'", field_, "' has more than ", rank_limit, " entries");
        array_->push_back(value);
        return true;
    }

    bool string(string_t& value) override {
        if (level_ == Level::metadata) {
            metadata[field_] = std::move(value);
        } else if (level_ == Level::tensor && field_ == "dtype") {
            entry_->dtype = std::move(value);
        } else {
            unexpected("a string");
        }
        return true;
    }

    bool start_object(std::size_t) override {
        if (level_ == Level::outside) {
            level_ = Level::top;
        } else if (level_ == Level::top) {
            level_ = name_ == "__metadata__" ? Level::metadata : Level::tensor;
        } else {
            unexpected("an object");
        }
        return true;
    }

    bool end_object() override {
        if (level_ == Level::tensor) {
            require(entry_->has_dtype, where(), "'dtype' is missing");
            require(entry_->has_shape, where(), "'shape' is missing");
            require(entry_->has_offsets, where(), "'data_offsets' is missing");
        }
        level_ = level_ == Level::top ? Level::outside : Level::top;
        return true;
    }

    bool key(string_t& key) override {
        if (level_ == Level::top) {
            require(names_.insert(key).second, path_, ": duplicate tensor name '", key, "' in the header");
            name_ = key;
            if (name_ != "__metadata__") entry_ = &entries[name_];
        } else if (level_ == Level::metadata) {
            require(metadata.emplace(key, "").second, path_, ": duplicate metadata key '", key, "'");
            field_ = key;
        } else {
            bool* const seen = key == "dtype"          ? &entry_->has_dtype
                               : key == "shape"        ? &entry_->has_shape
                               : key == "data_offsets" ? &entry_->has_offsets
                                                       : nullptr;
            require(seen != nullptr, where(), "unknown field '", key, "'");
            require(!*seen, where(), "duplicate field '", key, "'");
            *seen = true;
            field_ = key;
        }
        return true;
    }

    bool start_array(std::size_t) override {
        if (level_ != Level::tensor || field_ == "dtype") unexpected("an array");
        array_ = field_ == "shape" ? &entry_->shape : &entry_->offsets;
        level_ = Level::array;
        return true;
    }

    bool end_array() override {
        level_ = Level::tensor;
        return true;
    }

    bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& e) override {
        fail(path_, ": the header is not valid JSON at byte ", 8 + position, ": ", e.what());
    }

private:
    enum class Level { outside, top, metadata, tensor, array };

    std::string where() const { return concat(path_, ": tensor '", name_, "': "); }

    [[noreturn]] void unexpected(const std::string& found) const {
        if (level_ == Level::metadata) fail(path_, ": metadata '", field_, "' must be a string, found ", found);
        if (level_ == Level::outside) fail(path_, ": the header must be a JSON object, found ", found);
        if (level_ == Level::top) fail(path_, ": '", name_, "' must be an object, found ", found);
        fail(where(), "unexpected ", found, " in '", field_, "'");
    }

    const std::string& path_;
    Level level_ = Level::outside;
    std::set<std::string> names_;
    std::string name_, field_;
    Entry* entry_ = nullptr;
    std::vector<std::uint64_t>* array_ = nullptr;
};

/// Length of the JSON header, checked against the file.
inline std::uint64_t header_length(std::string_view file, const std::string& path) {
    refuse_placeholder(path, file);
    require(file.size() >= 8, path, ": ", file.size(),
            " bytes are too few for a safetensors file (8 for the header length)");
    std::uint64_t length = 0;
    for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(file[static_cast<std::size_t>(i)]);
    require(length <= header_limit, path, ": not a safetensors file, or damaged: header of ", length,
            " bytes exceeds the format's limit of ", header_limit);
    require(length <= file.size() - 8, path, ": truncated: header of ", length, " bytes in a file of ", file.size());
    require(length > 0 && file[8] == '{', path, ": not a safetensors file: the header does not start with '{'");
    return length;
}

/// The tensor that `entry` describes, its type, shape and size checked; `data_size` bytes of tensor data follow the
/// header.
inline HostTensor make_checked(const Entry& entry, std::uint64_t data_size, const std::string& where) {
    HostTensor tensor;
    const auto* const type = std::find_if(std::begin(type_names), std::end(type_names),
                                          [&](const TypeName& known) { return entry.dtype == known.name; });
    require(type != std::end(type_names), where, "unknown dtype '", entry.dtype, "'");
    tensor.dtype = type->type;
    // 2^62 keeps every later product with an element size and every sum inside 64 bits.
    constexpr std::uint64_t limit = std::uint64_t{1} << 62;
    std::uint64_t bytes = size_of(tensor.dtype);
    for (const std::uint64_t extent : entry.shape) {
        require(extent <= limit && (extent == 0 || bytes <= limit / extent), where, "the shape overflows: extent ",
                extent);
        bytes *= extent;
        tensor.shape.push_back(static_cast<Index>(extent));
    }
    require(entry.offsets.size() == 2, where, "'data_offsets' has ", entry.offsets.size(), " entries, expected 2");
    const std::uint64_t begin = entry.offsets[0], end = entry.offsets[1];
    require(begin <= end, where, "data_offsets begin at ", begin, " after their end ", end);
    require(end <= data_size, where, "data_offsets end at ", end, " but the file holds ", data_size,
            " bytes of data (truncated?)");
    require(end - begin == bytes, where, "data_offsets span ", end - begin, " bytes, but shape ",
            to_string(tensor.shape), " of ", entry.dtype, " needs ", bytes);
    return tensor;
}

/// Requires that the tensors cover the data without overlap, hole or rest, as the format demands.
inline void check_coverage(const std::map<std::string, Entry>& entries, std::uint64_t data_size,
                           const std::string& path) {
    struct Span {
        std::uint64_t begin, end;
        const std::string* name;
    };
    std::vector<Span> spans;
    for (const auto& [name, entry] : entries) spans.push_back({entry.offsets[0], entry.offsets[1], &name});
    std::sort(spans.begin(), spans.end(),
              [](const Span& a, const Span& b) { return a.begin != b.begin ? a.begin < b.begin : a.end < b.end; });
    std::uint64_t position = 0;
    const std::string* previous = nullptr;
    for (const Span& span : spans) {
        require(span.begin >= position, path, ": tensors '", previous ? *previous : "", "' and '", *span.name,
                "' overlap at data byte ", span.begin);
        require(span.begin == position, path, ": ", span.begin - position, " unused bytes before tensor '", *span.name,
                "'");
        position = span.end;
        previous = span.name;
    }
    require(position == data_size, path, ": ", data_size - position, " bytes after the last tensor (data ends at ",
            position, ", the file holds ", data_size, ")");
}

/// A tensor's name. Throws Error for one that is not UTF-8: another reader could not find the tensor.
inline std::string quoted_name(const std::string& name, const std::string& path) {
    require(is_utf8(name), "cannot write '", path, "': a tensor name is not valid UTF-8");
    return json_text(nlohmann::json(name));
}

using Named = std::pair<const std::string, HostTensor>;

// Every file written here says that it has a digest, and which: a single damaged bit cannot hide both.
inline constexpr const char* digest_key = "promptkd.digest";
inline constexpr const char* digest_mark = "promptkd.has_digest";

/// Throws Error where the file says what its contents were when it was written, and they are others now. Files of other
/// programs say nothing. The entries about the digest are taken out of the metadata.
inline void check_digest(TensorMap& map) {
    const auto digest = map.metadata.find(digest_key);
    const auto mark = map.metadata.find(digest_mark);
    if (digest == map.metadata.end() && mark == map.metadata.end()) return;
    require(digest != map.metadata.end() && mark != map.metadata.end() && mark->second == "yes", map.source,
            ": damaged: one of the two entries about its digest is missing; copy or make the file again");
    const std::string stored = digest->second;
    map.metadata.erase(digest);
    map.metadata.erase(digest_mark);
    const std::string now = digest_of(map);
    require(stored == now, map.source, ": damaged or changed since it was written: its contents have the digest ", now,
            ", the file says ", stored, "; copy or make it again");
}

/// `map` with its digest in the metadata.
inline TensorMap with_digest(const TensorMap& map) {
    TensorMap written;
    written.tensors = map.tensors;
    for (const auto& [key, value] : map.metadata)
        if (key != digest_key && key != digest_mark) written.metadata[escape_bytes(key)] = escape_bytes(value);
    const std::string digest = digest_of(written);
    written.metadata[digest_key] = digest;
    written.metadata[digest_mark] = "yes";
    return written;
}

/// The header for `order`, padded with spaces so that the data starts at a multiple of 8.
inline std::string make_header(const std::vector<const Named*>& order, const TensorMap& map, const std::string& path) {
    std::string header = "{";
    if (!map.metadata.empty()) {
        header += "\"__metadata__\":{";
        const char* separator = "";
        for (const auto& [key, value] : map.metadata) {
            header += separator + json_text(nlohmann::json(key)) + ":" + json_text(nlohmann::json(value));
            separator = ",";
        }
        header += "}";
    }
    std::uint64_t offset = 0;
    for (const Named* named : order) {
        const HostTensor& tensor = named->second;
        if (header.size() > 1) header += ",";
        header += quoted_name(named->first, path) + ":{\"dtype\":\"" + stored_name(tensor.dtype) + "\",\"shape\":[";
        for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
            if (i > 0) header += ',';
            header += std::to_string(tensor.shape[i]);
        }
        header += concat("],\"data_offsets\":[", offset, ",", offset + tensor.size_bytes(), "]}");
        offset += tensor.size_bytes();
    }
    header += "}";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    require(header.size() <= header_limit, "cannot write '", path, "': the header exceeds ", header_limit, " bytes");
    return header;
}

}  // namespace detail::safetensors

namespace detail::safetensors {

/// A safetensors file that lies in memory, kept alive by `owner`; `mapped`: in a read-only mapping of a file.
inline TensorMap parse(std::string_view file, const std::string& source, const std::shared_ptr<const void>& owner,
                       bool mapped) {
    const std::uint64_t length = header_length(file, source);
    HeaderReader header(source);
    const std::string_view text = file.substr(8, length);
    require(text.find('\0') == std::string_view::npos, source,
            ": the header holds a NUL byte");  // ends JSON for a parser
    nlohmann::json::sax_parse(text.begin(), text.end(), &header);

    const std::uint64_t data_size = file.size() - 8 - length;
    const auto* const data = reinterpret_cast<const std::byte*>(file.data()) + 8 + length;
    TensorMap map;
    map.source = source;
    for (const auto& [name, entry] : header.entries) {
        HostTensor tensor = make_checked(entry, data_size, concat(source, ": tensor '", name, "': "));
        tensor.bytes = data + entry.offsets[0];
        tensor.owner = owner;
        tensor.mapped = mapped;
        map.tensors.emplace(name, std::move(tensor));
    }
    check_coverage(header.entries, data_size, source);
    map.metadata = std::move(header.metadata);
    check_digest(map);
    return map;
}

}  // namespace detail::safetensors

/// Opens a safetensors file. The tensors point into the mapped file (kept alive by HostTensor::owner): nothing is
/// copied or converted, and pages are read when touched. Types F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL. Throws Error
/// naming file, tensor and numbers when the file is truncated or malformed, when tensors overlap or leave holes, when
/// shape and size disagree, when the file is a Git LFS pointer or a saved web page, and when a file that this library
/// wrote holds anything else than it wrote (a digest in its metadata tells). Format:
/// https://github.com/huggingface/safetensors#format
inline TensorMap read_safetensors(const std::string& path) {
    const std::shared_ptr<const MappedFile> file = MappedFile::open(path);
    TensorMap map = detail::safetensors::parse(file->text(), path, file, true);
    require_intact_mappings();
    return map;
}

/// The same of a file whose bytes are in memory, for example inside a program; they are copied. Messages call it
/// `source`.
inline TensorMap read_safetensors(std::span<const std::byte> bytes, const std::string& source) {
    const auto copy = std::make_shared<const std::vector<std::byte>>(bytes.begin(), bytes.end());
    const std::string_view file(reinterpret_cast<const char*>(copy->data()), copy->size());
    return detail::safetensors::parse(file, source, copy, false);
}

/// Writes a safetensors file, all or nothing (see write_atomically). The same tensors and metadata give the same bytes:
/// tensors are laid out by descending element size, then by name, so that every one is aligned to its element. The
/// metadata gets two entries more, the digest of all contents and that there is one, see read_safetensors().
/// Throws Error when the file cannot be written; an existing one is then left as it was.
inline void write_safetensors(const std::string& path, const TensorMap& map) {
    namespace st = detail::safetensors;
    const TensorMap written = st::with_digest(map);
    std::vector<const st::Named*> order;
    for (const st::Named& named : written.tensors) {
        require(named.first != "__metadata__", "cannot write '", path, "': a tensor may not be called '__metadata__'");
        order.push_back(&named);
    }
    std::stable_sort(order.begin(), order.end(), [](const st::Named* a, const st::Named* b) {
        return size_of(a->second.dtype) > size_of(b->second.dtype);
    });
    const std::string header = st::make_header(order, written, path);
    write_atomically(path, [&](AtomicFile& file) {
        unsigned char length[8];
        for (int i = 0; i < 8; ++i) length[i] = static_cast<unsigned char>(header.size() >> (8 * i));
        file.write(length, sizeof length);
        file.write(header);
        for (const st::Named* named : order) file.write(named->second.bytes, named->second.size_bytes());
    });
}

}  // namespace promptkd
