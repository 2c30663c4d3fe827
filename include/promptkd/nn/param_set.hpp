// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>
#include <promptkd/device/memory.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// A learnable tensor: its values and gradients in a ParamSet's contiguous memory.
template <class T>
struct Param {
    T* value = nullptr;  ///< in device memory
    T* grad = nullptr;   ///< its gradient; null while it is not bound
    Shape shape;         ///< extents

    /// Number of values.
    Index count() const { return count_of(shape); }
};

/// All learnable tensors of a trainer. Values, gradients and optimizer moments are each contiguous, so one launch
/// clears, updates or averages all of them. Register everything, then bind(), then load or initialise.
template <Device D>
class ParamSet {
public:
    using T = typename D::Scalar;
    /// On `device`, empty.
    explicit ParamSet(D& device) : device_(&device) {}

    /// Registers a tensor under its checkpoint name. The reference stays valid; its pointers are set by bind().
    Param<T>& add(const std::string& name, Shape shape) {
        require(size_ == 0 || values_.size() == 0, "ParamSet: '", name, "' was added after bind()");
        entries_.push_back({name, size_, std::make_unique<Param<T>>()});
        entries_.back().param->shape = std::move(shape);
        size_ += entries_.back().param->count();
        return *entries_.back().param;
    }

    /// Allocates values and gradients, all zero.
    void bind() {
        bind_frozen();
        grads_ = Buffer<D, T>(*device_, size_);
        clear_gradients();
        for (auto& entry : entries_) entry.param->grad = grads_.data() + entry.offset;
    }

    /// Allocates values alone: frozen parameters keep a null gradient.
    void bind_frozen() {
        values_ = Buffer<D, T>(*device_, size_);
        device_->zero(values_.data(), bytes());
        for (auto& entry : entries_) entry.param->value = values_.data() + entry.offset;
    }

    /// Sets all gradients to 0.
    void clear_gradients() { device_->zero(grads_.data(), bytes()); }

    /// Copies `tensor` into the parameter called `name`; the shape must match up to extents of 1.
    void load(const std::string& name, const HostTensor& tensor, const std::string& source) {
        Entry& entry = find(name);
        require(squeezed(tensor.shape) == squeezed(entry.param->shape), source, ": tensor '", name, "' has shape ",
                to_string(tensor.shape), ", expected ", to_string(entry.param->shape));
        const std::vector<T> values = tensor.to<T>();
        device_->upload(entry.param->value, values.data(), values.size() * sizeof(T));
        device_->synchronize();
    }

    /// Loads every registered parameter from `prefix + name`.
    void load_all(const TensorMap& map, const std::string& prefix = "") {
        for (const Entry& entry : entries_) load(entry.name, map.at(prefix + entry.name), map.source);
    }

    /// Sets the parameter called `name` to `values`.
    void set(const std::string& name, const std::vector<T>& values) {
        Entry& entry = find(name);
        require(static_cast<Index>(values.size()) == entry.param->count(), "parameter '", name, "' takes ",
                entry.param->count(), " values, got ", values.size());
        device_->upload(entry.param->value, values.data(), values.size() * sizeof(T));
        device_->synchronize();
    }

    /// The values of one parameter on the host.
    std::vector<T> values_of(const std::string& name) const {
        return read(find(name).param->value, find(name).param->count());
    }
    /// The gradient of one parameter on the host.
    std::vector<T> gradients_of(const std::string& name) const {
        return read(find(name).param->grad, find(name).param->count());
    }

    /// Writes every parameter into `map` as `prefix + name`, in the shape it was registered with.
    void save(TensorMap& map, const std::string& prefix = "") const {
        for (const Entry& entry : entries_)
            map.tensors[prefix + entry.name] = make_tensor(values_of(entry.name), entry.param->shape);
    }

    /// Whether there is a parameter of this name.
    bool contains(const std::string& name) const {
        for (const Entry& entry : entries_)
            if (entry.name == name) return true;
        return false;
    }
    /// All names, in the order of add().
    std::vector<std::string> names() const {
        std::vector<std::string> all;
        for (const Entry& entry : entries_) all.push_back(entry.name);
        return all;
    }
    /// Extents of one parameter. Throws Error for an unknown name.
    const Shape& shape_of(const std::string& name) const { return find(name).param->shape; }

    /// Values of all parameters together.
    Index size() const { return size_; }
    /// All values, one behind the other.
    T* values() { return values_.data(); }
    /// All gradients, in the same order.
    T* gradients() { return grads_.data(); }
    /// Where they live.
    D& device() { return *device_; }

private:
    struct Entry {
        std::string name;
        Index offset;
        std::unique_ptr<Param<T>> param;
    };

    static Shape squeezed(const Shape& shape) {
        Shape out;
        for (const Index extent : shape)
            if (extent != 1) out.push_back(extent);
        return out;
    }

    const Entry& find(const std::string& name) const {
        for (const Entry& entry : entries_)
            if (entry.name == name) return entry;
        fail("no learnable parameter is called '", name, "'");
    }
    Entry& find(const std::string& name) { return const_cast<Entry&>(std::as_const(*this).find(name)); }

    std::vector<T> read(const T* p, Index n) const {
        std::vector<T> values(static_cast<std::size_t>(n));
        device_->download(values.data(), p, values.size() * sizeof(T));
        return values;
    }

    std::size_t bytes() const { return static_cast<std::size_t>(size_) * sizeof(T); }

    D* device_;
    std::vector<Entry> entries_;
    Index size_ = 0;
    Buffer<D, T> values_, grads_;
};

}  // namespace promptkd
