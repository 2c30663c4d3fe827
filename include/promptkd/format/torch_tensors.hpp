// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/format/pickle.hpp>
#include <promptkd/format/zip_archive.hpp>

#include <functional>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace promptkd::detail {

/// A storage as a persistent id names it: ("storage", type, key, location, count[, view]).
struct TorchStorage {
    DType type = DType::f32;
    std::string key;
    std::uint64_t count = 0;   ///< elements of the whole storage
    std::uint64_t offset = 0;  ///< of a view into it (legacy files), in elements
};

/// The bytes of the storage with this key and element count.
using StorageReader = std::function<ZipArchive::Bytes(const TorchStorage&)>;

struct StorageTypeName {
    const char* name;
    DType type;
};
inline constexpr StorageTypeName storage_types[] = {{"DoubleStorage", DType::f64}, {"FloatStorage", DType::f32},
                                                    {"HalfStorage", DType::f16},   {"BFloat16Storage", DType::bf16},
                                                    {"LongStorage", DType::i64},   {"IntStorage", DType::i32},
                                                    {"ShortStorage", DType::i16},  {"CharStorage", DType::i8},
                                                    {"ByteStorage", DType::u8},    {"BoolStorage", DType::boolean}};

/// Makes tensors from the values of a pickle that torch wrote. Sizes, strides and offsets are checked against the
/// storage.
class TorchTensors {
public:
    using Ref = Pickle::Ref;
    using Kind = Pickle::Kind;

    TorchTensors(const Pickle& pickle, std::string where, StorageReader read)
        : pickle_(pickle), where_(std::move(where)), read_(std::move(read)) {}

    /// Whether the value is a tensor or a parameter.
    bool is_tensor(Ref ref) const {
        return rebuilds(ref, "_rebuild_tensor_v2") || rebuilds(ref, "_rebuild_tensor") || is_parameter(ref);
    }

    /// Whether torch would rebuild a tensor of a kind that is not read here (quantised, sparse, on a device without
    /// storage, …).
    bool is_foreign_tensor(Ref ref) const {
        const Pickle::Node& node = pickle_[ref];
        return !is_tensor(ref) && node.kind == Kind::object && pickle_[node.callee].kind == Kind::global &&
               pickle_[node.callee].text == "torch._utils" && pickle_[node.callee].name.substr(0, 9) == "_rebuild_";
    }
    std::string callee_name(Ref ref) const {
        const Pickle::Node& callee = pickle_[pickle_[ref].callee];
        return std::string(callee.text) + "." + std::string(callee.name);
    }

    /// The tensor behind `ref`, contiguous; `name` is for messages.
    HostTensor build(Ref ref, const std::string& name) {
        name_ = &name;
        for (int depth = 0; is_parameter(ref); ++depth) {
            require(depth < 4, at(), "a parameter of a parameter of a parameter");
            ref = argument(ref, 0);
            require(is_tensor(ref), at(), "a parameter that holds no tensor");
        }
        const TorchStorage storage = storage_of(argument(ref, 0));
        HostTensor tensor;
        tensor.dtype = storage.type;
        const std::uint64_t offset = integer(argument(ref, 1), "storage offset");
        const std::vector<std::uint64_t> size = integers(argument(ref, 2), "size"),
                                         stride = integers(argument(ref, 3), "stride");
        for (const std::uint64_t n : size) tensor.shape.push_back(static_cast<Index>(n));
        check_view(storage, offset, size, stride, tensor.shape);
        place(tensor, storage, offset, stride);
        return tensor;
    }

    /// The storage that a persistent id names.
    TorchStorage storage_of(Ref ref) const {
        require(pickle_[ref].kind == Kind::persistent, at(), "its storage is not a torch storage");
        const Pickle::Node& id = pickle_[pickle_[ref].callee];
        require(id.kind == Kind::tuple && id.items.size() >= 5 && pickle_.is_text(id.items[0], "storage"), at(),
                "its persistent id is not that of a storage");
        const Pickle::Node &type = pickle_[id.items[1]], &key = pickle_[id.items[2]];
        require(type.kind == Kind::global && key.kind == Kind::text, at(),
                "its persistent id is not that of a storage");
        TorchStorage storage;
        storage.type = storage_type(type);
        storage.key = std::string(key.text);
        storage.count = integer(id.items[4], "storage length");
        if (id.items.size() > 5 && id.items[5] != 0) read_view(pickle_[id.items[5]], storage);
        return storage;
    }

private:
    std::string at() const { return concat(where_, ": tensor '", name_ ? *name_ : std::string("?"), "': "); }

    bool rebuilds(Ref ref, std::string_view function) const {
        const Pickle::Node& node = pickle_[ref];
        return node.kind == Kind::object && pickle_.is_global(node.callee, "torch._utils", function);
    }
    bool is_parameter(Ref ref) const {
        return rebuilds(ref, "_rebuild_parameter") || rebuilds(ref, "_rebuild_parameter_with_state");
    }

    Ref argument(Ref ref, std::size_t i) const {
        const std::vector<Ref>& items = pickle_[pickle_[ref].arguments].items;
        require(i < items.size(), at(), "its description has ", items.size(), " parts, too few");
        return items[i];
    }

    /// A size, stride, offset or length: at most 2^62, so that sums and products below are checked easily.
    std::uint64_t integer(Ref ref, const char* what) const {
        const Pickle::Node& node = pickle_[ref];
        require(node.kind == Kind::integer, at(), what, " is not an integer");
        require(node.integer >= 0 && node.integer <= (std::int64_t{1} << 62), at(), what, " is ", node.integer);
        return static_cast<std::uint64_t>(node.integer);
    }
    std::vector<std::uint64_t> integers(Ref ref, const char* what) const {
        const Pickle::Node& node = pickle_[ref];
        require(node.kind == Kind::tuple || node.kind == Kind::list, at(), what, " is not a list of integers");
        require(node.items.size() <= 32, at(), what, " has ", node.items.size(), " entries, at most 32 are possible");
        std::vector<std::uint64_t> all;
        for (const Ref item : node.items) all.push_back(integer(item, what));
        return all;
    }

    DType storage_type(const Pickle::Node& global) const {
        for (const StorageTypeName& known : storage_types)
            if (global.name == known.name && (global.text == "torch" || global.text == "torch.cuda")) return known.type;
        fail(at(), "storage type '", global.text, ".", global.name, "' is not supported");
    }

    void read_view(const Pickle::Node& view, TorchStorage& storage) const {
        require(view.kind == Kind::tuple && view.items.size() == 3, at(), "its storage view is malformed");
        storage.offset = integer(view.items[1], "view offset");
        const std::uint64_t length = integer(view.items[2], "view length");
        require(storage.offset <= storage.count && length <= storage.count - storage.offset, at(), "its view of ",
                length, " elements from ", storage.offset, " on leaves the storage of ", storage.count);
    }

    void check_view(const TorchStorage& storage, std::uint64_t offset, const std::vector<std::uint64_t>& size,
                    const std::vector<std::uint64_t>& stride, const Shape& shape) const {
        constexpr std::uint64_t limit = std::uint64_t{1} << 62;
        require(size.size() == stride.size(), at(), size.size(), " sizes but ", stride.size(), " strides");
        std::uint64_t count = size_of(storage.type), last = storage.offset;
        require(offset <= limit - last, at(), "storage offset ", offset, " overflows");
        last += offset;
        bool empty = false;
        for (const std::uint64_t n : size) {
            empty = empty || n == 0;
            require(n == 0 || count <= limit / n, at(), "the size ", to_string(shape), " overflows");
            count *= std::max<std::uint64_t>(n, 1);
        }
        if (empty) return;
        for (std::size_t i = 0; i < size.size(); ++i) {
            require(size[i] == 1 || stride[i] <= (limit - last) / (size[i] - 1), at(), "the stride ", stride[i],
                    " overflows");
            last += (size[i] - 1) * stride[i];
        }
        require(last < storage.count, at(), "size ", to_string(shape), " with its strides from offset ", offset,
                " on reaches element ", last, " of a storage of ", storage.count);
        const std::uint64_t most =
            std::max<std::uint64_t>(std::uint64_t{1} << 24, storage.count * size_of(storage.type));
        require(count <= most, at(), "size ", to_string(shape), " repeats a storage of ", storage.count,
                " elements to ", count, " bytes; refused");
    }

    void place(HostTensor& tensor, const TorchStorage& storage, std::uint64_t offset,
               const std::vector<std::uint64_t>& stride) {
        const std::size_t unit = size_of(storage.type);
        const std::uint64_t bytes = storage.count * unit;
        auto it = storages_.find(storage.key);
        if (it == storages_.end()) it = storages_.emplace(storage.key, read_(storage)).first;
        const ZipArchive::Bytes& data = it->second;
        require(data.size == bytes, at(), "its storage '", storage.key, "' has ", data.size, " bytes, but ",
                storage.count, " elements of ", name_of(storage.type), " are ", bytes);
        if (tensor.count() == 0) return;
        const std::byte* first = data.data + (storage.offset + offset) * unit;
        if (is_contiguous(tensor.shape, stride)) {
            tensor.bytes = first;
            tensor.owner = data.owner;
            tensor.mapped = data.mapped;
            return;
        }
        auto copy = std::make_shared<std::vector<std::byte>>(tensor.size_bytes());
        gather(tensor.shape, stride, first, unit, copy->data());
        tensor.bytes = copy->data();
        tensor.owner = std::move(copy);
    }

    static bool is_contiguous(const Shape& shape, const std::vector<std::uint64_t>& stride) {
        std::uint64_t expected = 1;
        for (std::size_t i = shape.size(); i-- > 0;) {
            if (shape[i] != 1 && stride[i] != expected) return false;
            expected *= static_cast<std::uint64_t>(shape[i]);
        }
        return true;
    }

    static void gather(const Shape& shape, const std::vector<std::uint64_t>& stride, const std::byte* from,
                       std::size_t unit, std::byte* to) {
        std::vector<Index> at(shape.size(), 0);
        std::uint64_t offset = 0;
        for (const std::byte* const end = to + static_cast<std::size_t>(count_of(shape)) * unit; to != end;
             to += unit) {
            std::memcpy(to, from + offset * unit, unit);
            for (std::size_t i = shape.size(); i-- > 0;) {
                offset += stride[i];
                if (++at[i] < shape[i]) break;
                offset -= static_cast<std::uint64_t>(shape[i]) * stride[i];
                at[i] = 0;
            }
        }
    }

    const Pickle& pickle_;
    std::string where_;
    StorageReader read_;
    const std::string* name_ = nullptr;
    std::map<std::string, ZipArchive::Bytes> storages_;
};

}  // namespace promptkd::detail
