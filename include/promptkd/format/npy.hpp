// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>
#include <promptkd/format/file.hpp>

#include <cctype>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace promptkd {

namespace detail::npy {

struct TypeName {
    const char* name;
    DType type;
};
inline constexpr TypeName type_names[] = {{"<f8", DType::f64}, {"<f4", DType::f32}, {"<f2", DType::f16},
                                          {"<i8", DType::i64}, {"<i4", DType::i32}, {"<i2", DType::i16},
                                          {"|i1", DType::i8},  {"|u1", DType::u8},  {"|b1", DType::boolean}};

/// Reads the header: a Python dictionary with exactly the keys descr, fortran_order and shape.
class HeaderReader {
public:
    HeaderReader(std::string_view text, const std::string& path) : text_(text), path_(path) {}

    HostTensor read() {
        HostTensor tensor;
        bool has_type = false, has_order = false, has_shape = false;
        expect('{');
        while (!accept('}')) {
            const std::string key = quoted();
            expect(':');
            if (key == "descr" && !std::exchange(has_type, true)) {
                tensor.dtype = type(quoted());
            } else if (key == "fortran_order" && !std::exchange(has_order, true)) {
                const bool rows_first = word("False");
                require(rows_first || word("True"), path_, ": .npy header: fortran_order must be True or False");
                require(rows_first, path_, ": Fortran order is not supported; save numpy.ascontiguousarray(…)");
            } else if (key == "shape" && !std::exchange(has_shape, true)) {
                tensor.shape = shape();
            } else {
                fail(path_, ": .npy header: unexpected or repeated key '", key, "'");
            }
            if (!accept(',')) {
                expect('}');
                break;
            }
        }
        require(has_type && has_order && has_shape, path_, ": .npy header: descr, fortran_order or shape is missing");
        skip_space();
        require(at_ == text_.size(), path_, ": .npy header: text after the dictionary");
        return tensor;
    }

private:
    void skip_space() {
        while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
    }
    bool accept(char c) {
        skip_space();
        if (at_ >= text_.size() || text_[at_] != c) return false;
        ++at_;
        return true;
    }
    void expect(char c) { require(accept(c), path_, ": .npy header: '", c, "' expected at character ", at_); }
    bool word(std::string_view wanted) {
        skip_space();
        if (text_.substr(at_, wanted.size()) != wanted) return false;
        at_ += wanted.size();
        return true;
    }
    std::string quoted() {
        skip_space();
        const char quote = at_ < text_.size() ? text_[at_] : '\0';
        require(quote == '\'' || quote == '"', path_, ": .npy header: a string expected at character ", at_);
        const std::size_t end = text_.find(quote, at_ + 1);
        require(end != std::string_view::npos, path_, ": .npy header: a string is not closed");
        const std::string value(text_.substr(at_ + 1, end - at_ - 1));
        at_ = end + 1;
        return value;
    }
    DType type(const std::string& name) const {
        for (const TypeName& known : type_names)
            if (name == known.name) return known.type;
        fail(path_, ": .npy type '", name, "' is not supported (little-endian floats, signed integers, |u1, |b1)");
    }
    Index number() {
        skip_space();
        Index value = 0;
        const std::size_t first = at_;
        for (; at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_])); ++at_) {
            require(value < Index{1} << 58, path_, ": .npy header: the shape overflows");
            value = value * 10 + (text_[at_] - '0');
        }
        require(at_ > first, path_, ": .npy header: a number expected at character ", at_);
        return value;
    }
    Shape shape() {
        Shape extents;
        expect('(');
        while (!accept(')')) {
            extents.push_back(number());
            require(extents.size() <= 32, path_, ": .npy header: more than 32 dimensions");
            if (!accept(',')) {
                expect(')');
                break;
            }
        }
        return extents;
    }

    std::string_view text_;
    const std::string& path_;
    std::size_t at_ = 0;
};

/// Where the header text starts and how long it is.
inline std::pair<std::size_t, std::size_t> find_header(const MappedFile& file) {
    const std::string_view text = file.text();
    refuse_placeholder(file.path(), text);
    require(text.size() >= 10 && text.substr(0, 6) == "\x93NUMPY", file.path(),
            ": not a .npy file (magic string missing)");
    const int version = text[6];
    require(version >= 1 && version <= 3, file.path(), ": .npy version ", version, " is not known");
    const std::size_t start = version == 1 ? 10 : 12;
    require(text.size() >= start, file.path(), ": truncated in the .npy header");
    std::size_t length = 0;
    for (std::size_t i = start; i-- > 8;) length = length << 8 | static_cast<unsigned char>(text[i]);
    require(length <= text.size() - start, file.path(), ": truncated: .npy header of ", length, " bytes in a file of ",
            text.size());
    return {start, length};
}

}  // namespace detail::npy

/// Opens a NumPy .npy file; the tensor points into the mapped file. Little-endian, C order.
/// Throws Error naming the file when it is malformed, truncated or too long, or of another type or order.
/// Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
inline HostTensor read_npy(const std::string& path) {
    const std::shared_ptr<const MappedFile> file = MappedFile::open(path);
    const auto [start, length] = detail::npy::find_header(*file);
    HostTensor tensor = detail::npy::HeaderReader(file->text().substr(start, length), path).read();
    std::uint64_t bytes = size_of(tensor.dtype);
    for (const Index extent : tensor.shape) {
        const auto n = static_cast<std::uint64_t>(extent);
        require(n == 0 || bytes <= (std::uint64_t{1} << 62) / n, path,
                ": the shape overflows: ", to_string(tensor.shape));
        bytes *= n;
    }
    const std::size_t data = file->size() - start - length;
    require(bytes == data, path, ": shape ", to_string(tensor.shape), " of ", name_of(tensor.dtype), " needs ", bytes,
            " bytes, the file holds ", data);
    tensor.bytes = file->data() + start + length;
    tensor.owner = file;
    return tensor;
}

/// Writes a NumPy .npy file (version 1.0), all or nothing. bf16, which NumPy lacks, is written as f32.
/// Throws Error when the file cannot be written.
inline void write_npy(const std::string& path, const HostTensor& tensor) {
    if (tensor.dtype == DType::bf16) return write_npy(path, make_tensor(tensor.to<float>(), tensor.shape));
    std::string header = "{'descr': '";
    for (const detail::npy::TypeName& known : detail::npy::type_names)
        if (known.type == tensor.dtype) header += known.name;
    header += "', 'fortran_order': False, 'shape': (";
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) header += (i ? ", " : "") + std::to_string(tensor.shape[i]);
    header += tensor.shape.size() == 1 ? ",), }" : "), }";
    header.resize((header.size() + 1 + 10 + 63) / 64 * 64 - 11, ' ');  // the data starts at a multiple of 64
    header += '\n';
    require(header.size() <= 65535, "cannot write '", path, "': too many dimensions");
    std::string prefix = "\x93NUMPY";
    prefix += {'\x01', '\x00', static_cast<char>(header.size()), static_cast<char>(header.size() >> 8)};
    write_atomically(path, [&](AtomicFile& file) {
        file.write(prefix);
        file.write(header);
        file.write(tensor.bytes, tensor.size_bytes());
    });
}

}  // namespace promptkd
