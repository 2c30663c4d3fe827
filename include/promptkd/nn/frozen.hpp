// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>
#include <promptkd/device/memory.hpp>
#include <promptkd/nn/low_rank.hpp>
#include <promptkd/op/norm.hpp>

#include <memory>
#include <vector>

namespace promptkd {

/// A row-major weight matrix in device memory, in the 16-bit type of its file or widened.
struct WeightMatrix {
    const void* data = nullptr;   ///< the first element
    DType type = DType::f32;      ///< as stored
    Index rows = 0, columns = 0;  ///< outputs, inputs
    Index panel = 0;      ///< not 0: its transpose is packed in panels of so many columns, see WeightStorage::packed
    Index row_extra = 0;  ///< bytes that a packed row takes besides its values, see WeightStorage::int8

    /// Rows [first, first + n); of a packed matrix whole panels.
    WeightMatrix row_range(Index first, Index n) const {
        require(panel == 0 || first % panel == 0, "a packed matrix is divided at row ", first, ", inside a panel");
        const Index row_bytes = columns * static_cast<Index>(size_of(type)) + row_extra;
        return {static_cast<const char*>(data) + first * row_bytes, type, n, columns, panel, row_extra};
    }
    /// Throws Error for a packed matrix.
    Operand as_operand() const {
        require(panel == 0, "packed weights are for inference: a gradient needs the matrix as it is (WeightStorage)");
        return {data, type, columns, false, 0, 0};
    }
    /// As the factor Wᵀ of a product.
    Operand as_transposed() const { return {data, type, columns, true, 0, 0, panel}; }
};

/// What training does with a layer's own weights. Frozen ones (no pointers, the default) have no gradients: nothing is
/// computed or kept for them. Trained ones say where theirs are added. The third policy, a low-rank update of a frozen
/// weight, is a Linear's `low_rank`. The layer's gradient functions (nn/linear.hpp) ask both, and blocks compute a
/// layer's input again only where needs_input() says that it is read.
template <class T>
struct WeightTraining {
    T* weight = nullptr;  ///< gradient of the weight, in its shape; null: frozen
    T* bias = nullptr;    ///< gradient of the bias; null where that is frozen or absent

    /// Whether the layer's gradients need its input.
    bool needs_input() const { return weight != nullptr || bias != nullptr; }
};

/// y = x·Wᵀ + b, W (out × in) and b (out values, or null), and what becomes of both in training: frozen, trained, or
/// with a low-rank update beside the frozen weight, which may be stored in any precision. A device with 16-bit
/// activations whose products add a bias only in their result's type (D::bias_as_activation) has b in that type, too.
template <class T>
struct Linear {
    WeightMatrix weight;                             ///< (outputs, inputs)
    const T* bias = nullptr;                         ///< (outputs); null: none
    const std::uint16_t* activation_bias = nullptr;  ///< bits of the device's Activation
    WeightTraining<T> training = {};                 ///< frozen, or trained
    LowRank<T> low_rank = {};                        ///< added to the weight; empty: nothing

    /// Values of a row that goes in.
    Index inputs() const { return weight.columns; }
    /// Values of a row that comes out.
    Index outputs() const { return weight.rows; }
    /// Whether add_linear_gradients() reads the layer's input.
    bool needs_input() const { return training.needs_input() || low_rank.is_trained(); }

    /// The layer of `n` outputs from `first` on.
    Linear row_range(Index first, Index n) const {
        Linear part{weight.row_range(first, n), bias ? bias + first : nullptr,
                    activation_bias ? activation_bias + first : nullptr};
        part.training.weight = training.weight ? training.weight + first * inputs() : nullptr;
        part.training.bias = training.bias ? training.bias + first : nullptr;
        part.low_rank = low_rank.row_range(first, n, outputs(), inputs());
        return part;
    }
};

/// Weight and bias of a LayerNorm, and what becomes of both in training.
template <class T>
struct Norm : LayerNormWeights<T> {
    WeightTraining<T> training = {};  ///< frozen, or trained
};

/// A vector of weights that is added to tokens (a class token, positions), and its gradient where it is trained.
template <class T>
struct WeightVector {
    const T* values = nullptr;  ///< in device memory
    T* gradient = nullptr;      ///< null: frozen
};

/// How frozen matrices are kept in device memory (on a device with one_factor_type always as its Activation).
enum class WeightStorage {
    native,  ///< 16-bit matrices of the file stay 16-bit and are widened as they are used
    wide,    ///< everything in the device's Scalar
    f16,     ///< rounded to half
    bf16,    ///< rounded to bfloat16
    packed,  ///< as native, and the layers' matrices in the order of the CPU's product kernel: nothing is left to be
             ///< rearranged in each product. For encoders without gradients, worth it from the second use on
    int8     ///< as packed, and those matrices in 8 bits with a scale for each output; the inputs of their products are
             ///< rounded to 8 bits row by row. A ClipModel has its image encoder so: text features are computed once
};

/// Owns the frozen weights of a model in device memory. Each is converted once, on its way to the device; a device that
/// computes in host memory (D::host_memory) reads matrices that need no conversion where they are, in the mapped file.
template <Device D>
class FrozenStore {
public:
    using T = typename D::Scalar;
    /// On `device`, kept as `storage` says.
    FrozenStore(D& device, WeightStorage storage) : device_(&device), storage_(storage) {}

    /// A vector, always in the device's Scalar.
    const T* vector(const HostTensor& tensor) {
        const T* values =
            static_cast<const T*>(place(tensor.to<T>().data(), static_cast<std::size_t>(tensor.count()) * sizeof(T)));
        detail::release_pages(tensor);
        return values;
    }

    /// The same in the device's Activation for a device with bias_as_activation, else null.
    const std::uint16_t* activation_vector(const HostTensor& tensor) {
        if constexpr (requires { requires D::bias_as_activation; }) {
            const auto values = tensor.to<typename D::Activation>();
            return static_cast<const std::uint16_t*>(place(values.data(), values.size() * sizeof values.front()));
        } else {
            return nullptr;
        }
    }

    /// A matrix (rows × columns), stored as the store's WeightStorage says.
    WeightMatrix matrix(const HostTensor& tensor, Index rows, Index columns) {
        const DType type = stored_type(tensor.dtype);
        WeightMatrix m{nullptr, type, rows, columns};
        if (type == tensor.dtype) {
            if (readable_in_place(tensor)) {
                m.data = share(tensor);
                return m;
            }
            m.data = place(tensor.bytes, tensor.size_bytes());
        } else {
            detail::with_type(type, [&](auto tag) {
                using W = decltype(tag);
                if (writes_in_place()) {  // no second copy of the converted matrix
                    void* to = take(tensor.size_bytes() / size_of(tensor.dtype) * sizeof(W));
                    convert(tensor, static_cast<W*>(to));
                    m.data = to;
                    return;
                }
                const std::vector<W> values = tensor.to<W>();
                m.data = place(values.data(), values.size() * sizeof(W));
            });
        }
        detail::release_pages(tensor);  // the file's pages and the device's copy must not stay in memory together
        return m;
    }

    /// The matrix of a layer, x·Wᵀ; row ranges of it begin at multiples of `unit` (0: there are none). Packed where
    /// that was asked for, the device has an order of its own, and the shape allows it.
    WeightMatrix layer(const HostTensor& tensor, Index rows, Index columns, Index unit = 0) {
        if (storage_ == WeightStorage::int8) return quantize(tensor, rows, columns, unit);
        if constexpr (requires { D::panel_columns; })
            if (storage_ == WeightStorage::packed && columns % 2 == 0 && unit % D::panel_columns == 0)
                return pack(tensor, rows, columns);
        return matrix(tensor, rows, columns);
    }

    /// Bytes of device memory held.
    std::size_t bytes() const { return bytes_; }

    /// For what is loaded from now on.
    void use(WeightStorage storage) { storage_ = storage; }

private:
    /// The matrix in 8 bits. Throws Error where the device or the shape has no such products.
    WeightMatrix quantize(const HostTensor& tensor, Index rows, Index columns, Index unit) {
        if constexpr (requires { requires D::quantizes; }) {
            require(columns % 4 == 0 && unit % D::panel_columns == 0, "8-bit weights: a matrix of ", rows, " x ",
                    columns, " cannot be packed");
            void* to = take(D::int8_bytes(rows, columns));
            const bool in_place = readable_in_place(tensor) && stored_type(tensor.dtype) == tensor.dtype;
            if (in_place) {
                device_->pack_int8_panels(tensor.bytes, rows, columns, tensor.dtype, to);
            } else {
                const std::vector<float> values = tensor.to<float>();
                device_->pack_int8_panels(values.data(), rows, columns, DType::f32, to);
            }
            detail::release_pages(tensor);
            return {to, DType::i8, rows, columns, D::panel_columns, D::int8_row_extra};
        } else {
            fail("8-bit weights are for the CPU in single precision");
        }
    }

    /// Device memory of the store's own.
    void* take(std::size_t bytes) {
        buffers_.emplace_back(*device_, static_cast<Index>(bytes));
        bytes_ += bytes;
        return buffers_.back().data();
    }

    WeightMatrix pack(const HostTensor& tensor, Index rows, Index columns) {
        const DType type = stored_type(tensor.dtype);
        void* to = take(D::packed_bytes(rows, columns, type));
        detail::with_type(type, [&](auto tag) {
            using W = decltype(tag);
            if (type == tensor.dtype && readable_in_place(tensor))
                return device_->pack_panels(tensor.bytes, rows, columns, type, to);
            const std::vector<W> values = tensor.to<W>();
            device_->pack_panels(values.data(), rows, columns, type, to);
        });
        detail::release_pages(tensor);
        return {to, type, rows, columns, D::panel_columns, 0};
    }

    DType stored_type(DType file) const {
        if constexpr (requires { requires D::one_factor_type; }) return dtype_of<typename D::Activation>;
        switch (storage_) {
            case WeightStorage::f16:
                return DType::f16;
            case WeightStorage::bf16:
                return DType::bf16;
            case WeightStorage::native:
            case WeightStorage::packed:
            case WeightStorage::int8:
                if (file == DType::f16 || file == DType::bf16) return file;
                [[fallthrough]];
            default:
                return dtype_of<T>;
        }
    }

    /// On all threads of a device that computes in host memory.
    template <class W>
    void convert(const HostTensor& tensor, W* out) {
        if constexpr (requires { device_->host_parts(Index{}, [](Index, Index) {}); })
            device_->host_parts(tensor.count(), [&](Index first, Index n) { tensor.copy_to(out + first, first, n); });
        else
            tensor.copy_to(out, 0, tensor.count());
    }

    static constexpr bool writes_in_place() {
        if constexpr (requires { D::host_memory; })
            return D::host_memory;
        else
            return false;
    }

    static bool readable_in_place(const HostTensor& tensor) {
        if constexpr (requires { D::host_memory; }) {
            return D::host_memory && tensor.owner &&
                   reinterpret_cast<std::uintptr_t>(tensor.bytes) % size_of(tensor.dtype) == 0;
        } else {
            return false;
        }
    }

    const void* share(const HostTensor& tensor) {
        owners_.push_back(tensor.owner);
        bytes_ += tensor.size_bytes();
        return tensor.bytes;
    }

    const void* place(const void* host, std::size_t bytes) {
        void* to = take(bytes);
        device_->upload(to, host, bytes);
        device_->synchronize();
        return to;
    }

    D* device_;
    WeightStorage storage_;
    std::vector<Buffer<D, char>> buffers_;
    std::vector<std::shared_ptr<const void>> owners_;
    std::size_t bytes_ = 0;
};

}  // namespace promptkd
