// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/device/device.hpp>

#include <algorithm>
#include <utility>
#include <vector>

namespace promptkd {

/// `n` elements of T in device memory; released with the object. Allocate at set-up, never in a step.
template <Device D, class T>
class Buffer {
public:
    Buffer() = default;
    Buffer(D& device, Index n) : device_(&device), size_(n) {
        if (n > 0) data_ = static_cast<T*>(device.allocate(static_cast<std::size_t>(n) * sizeof(T)));
    }
    Buffer(D& device, const std::vector<T>& values) : Buffer(device, static_cast<Index>(values.size())) {
        if (size_ > 0) device.upload(data_, values.data(), values.size() * sizeof(T));
        device.synchronize();
    }
    Buffer(Buffer&& other) noexcept { swap(other); }
    Buffer& operator=(Buffer&& other) noexcept {
        Buffer taken(std::move(other));
        swap(taken);
        return *this;
    }
    ~Buffer() {
        if (data_) device_->release(data_);
    }

    T* data() { return data_; }
    const T* data() const { return data_; }
    Index size() const { return size_; }

    /// A copy of the contents in host memory (waits for the device).
    std::vector<T> to_host() const {
        std::vector<T> values(static_cast<std::size_t>(size_));
        if (size_ > 0) device_->download(values.data(), data_, values.size() * sizeof(T));
        return values;
    }

private:
    void swap(Buffer& other) noexcept {
        std::swap(device_, other.device_);
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
    }

    D* device_ = nullptr;
    T* data_ = nullptr;
    Index size_ = 0;
};

/// The memory of one step: saved activations (`keep`) grow from the bottom, temporaries (`scratch`, released by the
/// enclosing Scope) from the top, in one allocation of exactly the size that a planned step has measured.
///
/// Use: run the step once with the device in planning mode — it touches nothing and only counts — then bind(), then
/// run steps. Pointers handed out while planning must not be followed.
template <Device D>
class Arena {
public:
    explicit Arena(D& device) : device_(device) {}

    /// Releases temporaries, and what was kept inside it, when it ends.
    class Scope {
    public:
        explicit Scope(Arena& arena, bool release_kept = false)
            : arena_(arena), top_(arena.top_), bottom_(arena.bottom_), release_kept_(release_kept) {}
        ~Scope() {
            arena_.top_ = top_;
            if (release_kept_) arena_.bottom_ = bottom_;
        }
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;

    private:
        Arena& arena_;
        std::size_t top_, bottom_;
        bool release_kept_;
    };

    /// `n` elements that live until reset().
    template <class T>
    T* keep(Index n) {
        const std::size_t at = bottom_;
        bottom_ += rounded<T>(n);
        check();
        return reinterpret_cast<T*>(base() + at);
    }

    /// `n` elements that live until the enclosing Scope ends.
    template <class T>
    T* scratch(Index n) {
        top_ += rounded<T>(n);
        check();
        return reinterpret_cast<T*>(base() + (bound_ - std::min(top_, bound_)));
    }

    /// `keep` or `scratch`.
    template <class T>
    T* take(bool kept, Index n) {
        return kept ? keep<T>(n) : scratch<T>(n);
    }

    /// Forgets everything; call at the start of a step.
    void reset() { top_ = bottom_ = 0; }

    /// Allocates what the planned steps needed at most.
    void bind() {
        require(!device_.is_planning(), "Arena::bind: leave planning mode first");
        if (peak_ <= bound_) return;
        memory_ = Buffer<D, char>();
        memory_ = Buffer<D, char>(device_, static_cast<Index>(peak_));
        bound_ = peak_;
    }

    /// Bytes bound, or measured so far.
    std::size_t peak() const { return peak_; }

private:
    static constexpr std::size_t alignment = 256;

    template <class T>
    static std::size_t rounded(Index n) {
        return (static_cast<std::size_t>(n) * sizeof(T) + alignment - 1) / alignment * alignment;
    }

    /// While planning, addresses are counted from an arbitrary page that nobody may touch.
    char* base() { return device_.is_planning() ? reinterpret_cast<char*>(std::uintptr_t{1} << 40) : memory_.data(); }

    void check() {
        if (device_.is_planning())
            peak_ = std::max(peak_, top_ + bottom_);
        else
            require(top_ + bottom_ <= bound_, "Arena: this step needs ", top_ + bottom_, " bytes but ", bound_,
                    " were planned; plan with the largest batch");
    }

    D& device_;
    Buffer<D, char> memory_;
    std::size_t bound_ = 0, peak_ = 0, top_ = 0, bottom_ = 0;
};

}  // namespace promptkd
