// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/core/matrix.hpp>
#include <promptkd/device/device.hpp>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

namespace promptkd {

namespace detail {

/// Throws Error unless `n` elements of T have a size in bytes.
template <class T>
void require_elements(Index n) {
    require(n >= 0 && n <= std::numeric_limits<Index>::max() / static_cast<Index>(sizeof(T)), "memory for ", n,
            " elements was asked for");
}

}  // namespace detail

/// `n` elements of T in device memory; released with the object. Allocate at set-up, never in a step.
template <Device D, class T>
class Buffer {
public:
    Buffer() = default;
    /// `n` undefined elements. Throws Error when there is no memory, and for a size that is none.
    Buffer(D& device, Index n) : device_(&device), size_(n) {
        detail::require_elements<T>(n);
        if (n > 0) data_ = static_cast<T*>(device.allocate(static_cast<std::size_t>(n) * sizeof(T)));
    }
    /// A copy of host values (waits for the device).
    Buffer(D& device, const std::vector<T>& values) : Buffer(device, static_cast<Index>(values.size())) {
        if (size_ > 0) device.upload(data_, values.data(), values.size() * sizeof(T));
        device.synchronize();
    }
    /// Takes the memory over.
    Buffer(Buffer&& other) noexcept { swap(other); }
    /// Takes the memory over, and releases its own.
    Buffer& operator=(Buffer&& other) noexcept {
        Buffer taken(std::move(other));
        swap(taken);
        return *this;
    }
    ~Buffer() {
        if (data_) device_->release(data_);
    }

    /// The first element; null when empty.
    T* data() { return data_; }
    /// The first element; null when empty.
    const T* data() const { return data_; }
    /// Number of elements.
    Index size() const { return size_; }

    /// The first rows·columns elements as a matrix. Throws Error when there are fewer.
    Matrix<T> matrix(Index rows, Index columns) {
        require_room(rows, columns);
        return {data_, rows, columns};
    }
    /// As a matrix for reading.
    Matrix<const T> matrix(Index rows, Index columns) const {
        require_room(rows, columns);
        return {data_, rows, columns};
    }

    /// A copy of the contents in host memory (waits for the device).
    std::vector<T> to_host() const {
        std::vector<T> values(static_cast<std::size_t>(size_));
        if (size_ > 0) device_->download(values.data(), data_, values.size() * sizeof(T));
        return values;
    }

private:
    void require_room(Index rows, Index columns) const {
        require(rows * columns <= size_, "a matrix of ", rows, " x ", columns, " in a buffer of ", size_, " elements");
    }

    void swap(Buffer& other) noexcept {
        std::swap(device_, other.device_);
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
    }

    D* device_ = nullptr;
    T* data_ = nullptr;
    Index size_ = 0;
};

/// How long memory of an Arena lives: until the enclosing Scope ends, or until reset() because a backward pass reads
/// it.
enum class Keep { no, yes };

/// The memory of one step: saved activations (`keep`) grow from the bottom, temporaries (`scratch`, released by the
/// enclosing Scope) from the top, in one allocation of exactly the size that a planned step has measured.
///
/// Use: plan(step) once with the largest batch, then run steps. An arena is one thread's at a time; threads that share
/// a device have an arena each.
template <Device D>
class Arena {
public:
    /// Of `device`, empty: nothing is planned yet.
    explicit Arena(D& device) : device_(device) {}

    /// Releases temporaries when it ends; with Keep::no also what was kept inside it.
    class Scope {
    public:
        /// Until it is destroyed.
        explicit Scope(Arena& arena, Keep kept = Keep::yes)
            : arena_(arena), top_(arena.top_), bottom_(arena.bottom_), kept_(kept) {}
        ~Scope() {
            arena_.top_ = top_;
            if (kept_ == Keep::no) arena_.bottom_ = bottom_;
        }
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;

    private:
        Arena& arena_;
        std::size_t top_, bottom_;
        Keep kept_;
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
    T* take(Keep kept, Index n) {
        return kept == Keep::yes ? keep<T>(n) : scratch<T>(n);
    }

    /// Forgets everything; call at the start of a step.
    void reset() { top_ = bottom_ = 0; }

    /// Runs `step` once in planning mode — it touches no memory and only counts — and allocates what it needs. Planning
    /// again for another step keeps the larger of both. Pointers handed out while planning must not be followed.
    template <class Step>
    void plan(const Step& step) {
        {
            PlanningScope<D> planning(device_);
            reset();
            step();
        }
        bind();
        reset();
    }

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
        detail::require_elements<T>(n);
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

/// Where an operation runs and takes its memory from. Passed by value.
template <Device D>
struct Workspace {
    D& device;        ///< where a step runs
    Arena<D>& arena;  ///< where its memory lies
};

/// What was taken from a workspace since this was made is released when it ends, see Arena::Scope.
template <Device D>
class WorkspaceScope : public Arena<D>::Scope {
public:
    /// Until it is destroyed.
    explicit WorkspaceScope(const Workspace<D>& workspace, Keep kept = Keep::yes)
        : Arena<D>::Scope(workspace.arena, kept) {}
};

/// `n` elements that live until the arena's reset().
template <class T, Device D>
T* keep(const Workspace<D>& workspace, Index n) {
    return workspace.arena.template keep<T>(n);
}
/// A matrix of rows × columns likewise.
template <class T, Device D>
Matrix<T> keep(const Workspace<D>& workspace, Index rows, Index columns) {
    return {keep<T>(workspace, rows * columns), rows, columns};
}

/// `n` elements that live until the enclosing scope ends.
template <class T, Device D>
T* scratch(const Workspace<D>& workspace, Index n) {
    return workspace.arena.template scratch<T>(n);
}
/// A matrix of rows × columns likewise.
template <class T, Device D>
Matrix<T> scratch(const Workspace<D>& workspace, Index rows, Index columns) {
    return {scratch<T>(workspace, rows * columns), rows, columns};
}

/// `keep` or `scratch`.
template <class T, Device D>
T* take(const Workspace<D>& workspace, Keep kept, Index n) {
    return workspace.arena.template take<T>(kept, n);
}
/// A matrix that is kept, or scratch.
template <class T, Device D>
Matrix<T> take(const Workspace<D>& workspace, Keep kept, Index rows, Index columns) {
    return {take<T>(workspace, kept, rows * columns), rows, columns};
}

/// Copies `from` to `to`, matrices of one shape whose rows lie one behind the other.
template <Device D, class T>
void copy(D& device, ConstMatrix<T> from, Matrix<T> to) {
    require_contiguous(from, to.rows, to.columns, "copy: the source");
    require_contiguous(to, to.rows, to.columns, "copy: the destination");
    device.copy(to.data, from.data, static_cast<std::size_t>(to.count()) * sizeof(T));
}

/// Sets every element of `m` to zero; its rows lie one behind the other.
template <Device D, class T>
void zero(D& device, Matrix<T> m) {
    require_contiguous(m, m.rows, m.columns, "zero: the matrix");
    device.zero(m.data, static_cast<std::size_t>(m.count()) * sizeof(T));
}

}  // namespace promptkd
