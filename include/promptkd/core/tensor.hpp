// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/dtype.hpp>
#include <promptkd/core/error.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace promptkd {

/// Extents of a tensor, the outermost first; empty: a scalar.
using Shape = std::vector<Index>;

/// "(3, 224, 224)".
inline std::string to_string(const Shape& shape) {
    std::string text = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) {
        if (i > 0) text += ", ";
        text += std::to_string(shape[i]);
    }
    return text + ")";
}

/// Product of the extents (1 for a scalar). Extents read from files must have been checked for overflow before.
inline Index count_of(const Shape& shape) {
    Index n = 1;
    for (const Index extent : shape) n *= extent;
    return n;
}

namespace detail {

/// Calls `f(T{})` with the C++ type behind `type`.
template <class F>
decltype(auto) with_type(DType type, F&& f) {
    switch (type) {
        case DType::f64:
            return f(double{});
        case DType::f32:
            return f(float{});
        case DType::f16:
            return f(half{});
        case DType::bf16:
            return f(bf16{});
        case DType::i64:
            return f(std::int64_t{});
        case DType::i32:
            return f(std::int32_t{});
        case DType::i16:
            return f(std::int16_t{});
        case DType::i8:
            return f(std::int8_t{});
        default:
            return f(std::uint8_t{});
    }
}

/// Element `i` of an unaligned array of `From`, as `To`.
template <class To, class From>
To load_as(const std::byte* bytes, Index i) {
    From x;
    std::memcpy(&x, bytes + static_cast<std::size_t>(i) * sizeof(From), sizeof(From));
    if constexpr (std::is_same_v<To, From>)
        return x;
    else if constexpr (std::is_same_v<To, half> || std::is_same_v<To, bf16>)
        return To(static_cast<float>(x));
    else
        return static_cast<To>(x);
}

/// `n` binary16 numbers as binary32, exact. Without branches and in blocks of fixed size, so that compilers vectorise
/// it: the magnitude's bits, moved into a binary32's place, are a number 2^112 times too small (subnormal or not).
inline void widen_halves(const std::byte* bytes, float* out, std::size_t n) {
    constexpr std::size_t block = 64;
    std::uint16_t in[block];
    float wide[block];
    for (std::size_t at = 0; at < n; at += block) {
        const std::size_t length = n - at < block ? n - at : block;
        std::memcpy(in, bytes + at * sizeof(half), length * sizeof(half));
        for (std::size_t i = length; i < block; ++i) in[i] = 0;
        for (std::size_t i = 0; i < block; ++i) {
            const std::uint32_t magnitude = static_cast<std::uint32_t>(in[i] & 0x7fffu) << 13,
                                sign = static_cast<std::uint32_t>(in[i] & 0x8000u) << 16;
            const std::uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;  // infinity or NaN
            wide[i] = bits_float(float_bits(bits_float(magnitude) * 5.192296858534828e33f) | sign | special);
        }
        std::memcpy(out + at, wide, length * sizeof(float));
    }
}

/// Elements `first … first+n-1` of an unaligned array of `From`, as `To`. A function of its own: inside a generic
/// lambda nvcc compiles the branches that `if constexpr` discards.
template <class To, class From>
void copy_as(const std::byte* bytes, Index first, Index n, To* out) {
    const std::byte* from = bytes + static_cast<std::size_t>(first) * sizeof(From);
    if constexpr (std::is_same_v<From, To>) {
        std::memcpy(out, from, static_cast<std::size_t>(n) * sizeof(To));
    } else if constexpr (std::is_same_v<From, half> && std::is_same_v<To, float>) {
        widen_halves(from, out, static_cast<std::size_t>(n));
    } else {
        for (Index i = 0; i < n; ++i) out[i] = load_as<To, From>(from, i);
    }
}

}  // namespace detail

/// A read-only, contiguous, row-major tensor in host memory, possibly inside a mapped file. `owner` keeps the bytes
/// alive; copies share them. The bytes need not be aligned.
struct HostTensor {
    DType dtype = DType::f32;           ///< element type
    Shape shape;                        ///< extents, row-major
    const std::byte* bytes = nullptr;   ///< the first element
    std::shared_ptr<const void> owner;  ///< keeps the bytes alive
    bool mapped = false;  ///< the bytes lie in a read-only mapping of a file: pages may be given back and read again

    /// Number of elements.
    Index count() const { return count_of(shape); }
    /// Bytes of all elements.
    std::size_t size_bytes() const { return static_cast<std::size_t>(count()) * size_of(dtype); }

    /// Elements `first … first+n-1`, converted to T, into `out`.
    template <class T>
    void copy_to(T* out, Index first, Index n) const {
        if (n == 0) return;
        detail::with_type(dtype, [&](auto tag) { detail::copy_as<T, decltype(tag)>(bytes, first, n, out); });
    }

    /// All elements converted to T.
    template <class T>
    std::vector<T> to() const {
        std::vector<T> values(static_cast<std::size_t>(count()));
        copy_to(values.data(), 0, count());
        return values;
    }
};

/// A tensor that owns a copy of `values`.
template <class T>
HostTensor make_tensor(std::vector<T> values, Shape shape) {
    require(static_cast<Index>(values.size()) == count_of(shape), "make_tensor: ", values.size(), " values for shape ",
            to_string(shape));
    auto keeper = std::make_shared<const std::vector<T>>(std::move(values));
    HostTensor tensor;
    tensor.dtype = dtype_of<T>;
    tensor.shape = std::move(shape);
    tensor.bytes = reinterpret_cast<const std::byte*>(keeper->data());
    tensor.owner = std::move(keeper);
    return tensor;
}

namespace detail {

/// `tensor` (rows, columns) transposed, in its own element type.
inline HostTensor transpose(const HostTensor& tensor) {
    const Index rows = tensor.shape[0], columns = tensor.shape[1];
    const std::size_t unit = size_of(tensor.dtype);
    auto bytes = std::make_shared<std::vector<std::byte>>(tensor.size_bytes());
    for (Index i = 0; i < rows; ++i)
        for (Index j = 0; j < columns; ++j)
            std::memcpy(bytes->data() + static_cast<std::size_t>(j * rows + i) * unit,
                        tensor.bytes + static_cast<std::size_t>(i * columns + j) * unit, unit);
    HostTensor out;
    out.dtype = tensor.dtype;
    out.shape = {columns, rows};
    out.bytes = bytes->data();
    out.owner = std::move(bytes);
    return out;
}

/// Gives the memory pages that lie wholly inside these bytes back to the system; they are read again from the file when
/// touched. Only for a read-only mapping of a file.
inline void drop_pages(const void* bytes, std::size_t size) {
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    const std::uintptr_t first = (reinterpret_cast<std::uintptr_t>(bytes) + page - 1) / page * page;
    const std::uintptr_t last = (reinterpret_cast<std::uintptr_t>(bytes) + size) / page * page;
    if (last > first) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

/// For a tensor in a mapped file: its pages need not stay in memory (it has been copied to where it is used).
inline void release_pages(const HostTensor& tensor) {
    if (tensor.mapped) drop_pages(tensor.bytes, tensor.size_bytes());
}

}  // namespace detail

/// Named tensors and string metadata: what every weight-file reader returns and every writer takes.
struct TensorMap {
    std::map<std::string, HostTensor> tensors;    ///< by name
    std::map<std::string, std::string> metadata;  ///< as in the file
    std::string source;                           ///< file the tensors came from, for messages

    /// Whether there is a tensor of this name.
    bool contains(const std::string& name) const { return tensors.count(name) != 0; }

    /// The tensor called `name`. Throws Error naming file and key when it is missing.
    const HostTensor& at(const std::string& name) const {
        const auto it = tensors.find(name);
        require(it != tensors.end(), source, ": tensor '", name, "' is missing");
        return it->second;
    }

    /// The tensor called `name` with exactly this shape. Throws Error naming both shapes otherwise.
    const HostTensor& at(const std::string& name, const Shape& shape) const {
        const HostTensor& tensor = at(name);
        require(tensor.shape == shape, source, ": tensor '", name, "' has shape ", to_string(tensor.shape),
                ", expected ", to_string(shape));
        return tensor;
    }
};

/// The tensors of `map` whose names begin with `prefix`, without it; neither metadata nor source.
inline std::map<std::string, HostTensor> tensors_under(const TensorMap& map, std::string_view prefix) {
    std::map<std::string, HostTensor> found;
    for (const auto& [name, tensor] : map.tensors)
        if (name.starts_with(prefix)) found[name.substr(prefix.size())] = tensor;
    return found;
}

}  // namespace promptkd
