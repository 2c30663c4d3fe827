// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/device/device.hpp>
#include <promptkd/device/memory.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <memory>
#include <type_traits>
#include <vector>

namespace promptkd {

/// A device whose transfers need not hold up its work or the host. Page-locked ("pinned") host memory is what it copies
/// from and to on its own:
///   upload_aside(slot, to, pinned, n): copies beside the queue, once everything queued before the last
///     finished_with(slot) is done; use_upload(slot): what is queued from now on sees the copy;
///     finished_with(slot): what is queued so far is the last that reads the slot's copy; await_upload(slot): the host
///     waits until `pinned` may be written again. There are two slots, 0 and 1.
///   download_later(pinned, from, n) takes its place in the queue and returns a ticket; the bytes are there after
///     await(ticket). At most eight tickets may be open.
template <class D>
concept AsyncDevice = Device<D> && requires(D d, void* p, const void* q, std::size_t n, int slot) {
    { d.allocate_pinned(n) } -> std::same_as<void*>;
    d.release_pinned(p);
    d.upload_aside(slot, p, q, n);
    d.use_upload(slot);
    d.finished_with(slot);
    d.await_upload(slot);
    { d.download_later(p, q, n) } -> std::same_as<std::size_t>;
    d.await(n);
};

/// A device that can record what is queued between begin_capture() and end_capture(), without running it, and queue it
/// again as a whole. Arguments are recorded by value: a recorded step repeats its learning rate.
template <class D>
concept GraphDevice = Device<D> && requires(D d, typename D::Graph graph) {
    d.begin_capture();
    { d.end_capture() } -> std::same_as<typename D::Graph>;
    d.replay(graph);
};

/// `n` elements of page-locked host memory.
template <AsyncDevice D, class T>
class PinnedBuffer {
public:
    /// `n` elements. Throws Error when there is no memory.
    PinnedBuffer(D& device, Index n)
        : device_(&device), data_(static_cast<T*>(device.allocate_pinned(static_cast<std::size_t>(n) * sizeof(T)))) {}
    ~PinnedBuffer() { device_->release_pinned(data_); }
    PinnedBuffer(const PinnedBuffer&) = delete;
    PinnedBuffer& operator=(const PinnedBuffer&) = delete;
    /// The first element.
    T* data() { return data_; }

private:
    D* device_;
    T* data_;
};

/// Reads values back from the device in the order in which they were queued, `n` at a time, while later work is already
/// running.
template <Device D>
class DeferredValues {
public:
    using T = typename D::Scalar;
    /// `n` values, on a device that works while it is called.
    explicit DeferredValues(D& device, Index n = 1) : device_(device), bytes_(static_cast<std::size_t>(n) * sizeof(T)) {
        for (std::vector<T>& place : places_) place.resize(static_cast<std::size_t>(n));
    }

    /// Takes the `n` values at `from` (device memory) as they are at this place in the queue. At most two may be open.
    void queue(const T* from) {
        require(open_ < 2, "a third number was queued before the first was read");
        device_.download(places_[queued_ % 2].data(), from, bytes_);
        ++queued_;
        ++open_;
    }
    /// The oldest values that were not read yet; they stay until the next but one is queued.
    const T* read() {
        require(open_ > 0, "no number was queued");
        const T* values = places_[(queued_ - open_) % 2].data();
        --open_;
        return values;
    }

private:
    D& device_;
    std::size_t bytes_;
    std::vector<T> places_[2];
    std::size_t queued_ = 0, open_ = 0;
};

/// On a device that works beside the host: the values are copied into pinned memory.
template <AsyncDevice D>
class DeferredValues<D> {
public:
    using T = typename D::Scalar;
    /// `n` values, on a device that works beside the host.
    explicit DeferredValues(D& device, Index n = 1)
        : device_(device), bytes_(static_cast<std::size_t>(n) * sizeof(T)), first_(device, n), second_(device, n) {}

    /// Queues the reading of *from as it will be then.
    void queue(const T* from) {
        require(open_ < 2, "a third number was queued before the first was read");
        tickets_[queued_ % 2] = device_.download_later(place(queued_).data(), from, bytes_);
        ++queued_;
        ++open_;
    }
    /// The oldest values that were queued and not read yet (waits for them).
    const T* read() {
        require(open_ > 0, "no number was queued");
        const std::size_t oldest = queued_ - open_;
        device_.await(tickets_[oldest % 2]);
        --open_;
        return place(oldest).data();
    }

private:
    PinnedBuffer<D, T>& place(std::size_t i) { return i % 2 == 0 ? first_ : second_; }

    D& device_;
    std::size_t bytes_;
    PinnedBuffer<D, T> first_, second_;  // apart: one is written while the other is read
    std::size_t tickets_[2] = {};
    std::size_t queued_ = 0, open_ = 0;
};

/// Brings host arrays of up to `n` elements to the device, one after the other.
template <Device D, class T>
class UploadQueue {
public:
    /// For at most `n` values.
    UploadQueue(D& device, Index n) : device_(device), on_device_(device, n) {}

    /// The `n` values at `from`, converted to T, in device memory until the next call. `from` may change afterwards
    /// only once the device has waited.
    /// `n` values, converted to T, in device memory; valid until the next call.
    template <class From>
    const T* upload(const From* from, Index n) {
        if constexpr (std::is_same_v<From, T>) {
            device_.upload(on_device_.data(), from, static_cast<std::size_t>(n) * sizeof(T));
        } else {
            converted_.assign(from, from + n);
            device_.upload(on_device_.data(), converted_.data(), converted_.size() * sizeof(T));
        }
        return on_device_.data();
    }
    /// How many values it was made for.
    Index size() const { return on_device_.size(); }

private:
    D& device_;
    Buffer<D, T> on_device_;
    std::vector<T> converted_;
};

/// With asynchronous transfers: two buffers on either side, so that one array travels while the device works on the one
/// before; `from` may change at once.
template <AsyncDevice D, class T>
class UploadQueue<D, T> {
public:
    /// For at most `n` values.
    UploadQueue(D& device, Index n) : device_(device), slots_{Slot(device, n), Slot(device, n)} {}

    /// `n` values, converted to T, in device memory; valid until the next call.
    template <class From>
    const T* upload(const From* from, Index n) {
        if (used_) device_.finished_with(turn_);
        used_ = true;
        turn_ = 1 - turn_;
        Slot& slot = slots_[turn_];
        device_.await_upload(turn_);
        std::copy(from, from + n, slot.pinned->data());
        device_.upload_aside(turn_, slot.on_device.data(), slot.pinned->data(),
                             static_cast<std::size_t>(n) * sizeof(T));
        device_.use_upload(turn_);
        return slot.on_device.data();
    }
    /// How many values it was made for.
    Index size() const { return slots_[0].on_device.size(); }

private:
    struct Slot {
        Slot(D& device, Index n) : pinned(std::make_unique<PinnedBuffer<D, T>>(device, n)), on_device(device, n) {}
        std::unique_ptr<PinnedBuffer<D, T>> pinned;
        Buffer<D, T> on_device;
    };

    D& device_;
    Slot slots_[2];
    int turn_ = 0;
    bool used_ = false;
};

}  // namespace promptkd
