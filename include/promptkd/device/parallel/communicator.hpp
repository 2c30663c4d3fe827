// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/device/device.hpp>

#include <concepts>
#include <cstddef>
#include <type_traits>

namespace promptkd {

/// How the processes ("ranks") of a data-parallel run exchange what is in the memory of their devices. Every rank makes
/// the same calls in the same order; each call takes its place in the device's order of work.
///
/// rank() < size(). all_reduce_sum(device, p, n): p[i] becomes the sum of all ranks' p[i], the same bits on every rank.
/// broadcast(device, p, bytes, root): everyone's p becomes the root's. barrier(device): waits until every rank's device
/// has done what was queued before. All throw Error when a rank has failed; implementations: SingleProcess,
/// MpiCommunicator (device/parallel/mpi.hpp), NcclCommunicator (device/cuda/nccl.hpp).
template <class C, class D>
concept Communicator = Device<D> &&
    requires(C c, D d, typename D::Scalar* values, void* p, Index n, std::size_t bytes, int root) {
    { c.rank() } -> std::convertible_to<int>;
    { c.size() } -> std::convertible_to<int>;
    c.all_reduce_sum(d, values, n);
    c.broadcast(d, p, bytes, root);
    c.barrier(d);
};

/// The communicator of a run in one process.
class SingleProcess {
public:
    /// See Communicator.
    ///@{
    int rank() const { return 0; }
    int size() const { return 1; }
    template <Device D>
    void all_reduce_sum(D&, typename D::Scalar*, Index) {}
    template <Device D>
    void broadcast(D&, void*, std::size_t, int) {}
    template <Device D>
    void barrier(D&) {}
    ///@}
};

/// A communicator as layers and trainers pass it on: one indirect call a collective, so that they need no template
/// parameter for it. Does not own it. The default is a single process. Nothing happens while the device is planning.
template <Device D>
class Ranks {
public:
    using T = typename D::Scalar;

    Ranks() = default;
    /// Of `communicator`, which must outlive this. Throws Error for a rank out of range.
    template <class C>
    requires(!std::same_as<std::remove_cv_t<C>, Ranks> && Communicator<C, D>) explicit Ranks(C& communicator)
        : rank_(communicator.rank()),
          size_(communicator.size()),
          communicator_(&communicator),
          all_reduce_([](void* c, D& d, T* p, Index n) { static_cast<C*>(c)->all_reduce_sum(d, p, n); }),
          broadcast_(
              [](void* c, D& d, void* p, std::size_t n, int root) { static_cast<C*>(c)->broadcast(d, p, n, root); }),
          barrier_([](void* c, D& d) { static_cast<C*>(c)->barrier(d); }) {
        require(size_ >= 1 && rank_ >= 0 && rank_ < size_, "communicator: there is no rank ", rank_, " of ", size_);
    }

    /// See Communicator.
    ///@{
    int rank() const { return rank_; }
    int size() const { return size_; }
    ///@}
    /// Whether there is one process.
    bool alone() const { return size_ == 1; }
    /// Whether this rank writes files and talks to people.
    bool is_root() const { return rank_ == 0; }

    /// See Communicator.
    ///@{
    void all_reduce_sum(D& device, T* p, Index n) const {
        if (!alone() && !device.is_planning()) all_reduce_(communicator_, device, p, n);
    }
    void broadcast(D& device, void* p, std::size_t bytes, int root = 0) const {
        if (!alone() && !device.is_planning()) broadcast_(communicator_, device, p, bytes, root);
    }
    void barrier(D& device) const {
        if (!alone() && !device.is_planning()) barrier_(communicator_, device);
    }
    ///@}

private:
    int rank_ = 0, size_ = 1;
    void* communicator_ = nullptr;
    void (*all_reduce_)(void*, D&, T*, Index) = nullptr;
    void (*broadcast_)(void*, D&, void*, std::size_t, int) = nullptr;
    void (*barrier_)(void*, D&) = nullptr;
};

/// A run of consecutive numbers.
struct Slice {
    Index first = 0, count = 0;  ///< first … first+count−1
};

/// Part `rank` of [0, n) cut into `size` consecutive parts whose lengths differ by at most one.
inline Slice slice_of(Index n, int rank, int size) {
    const Index first = n * rank / size, last = n * (rank + 1) / size;
    return {first, last - first};
}

/// What a step has to know of the other ranks. The losses are means over the global batch, and the gradients of all
/// ranks are added, so each rank weighs its loss with its share of the rows.
template <Device D>
struct DataParallel {
    Ranks<D> ranks;                 ///< the processes of the step
    Index global_batch = 0;         ///< images of a step on all ranks together; looked at with several ranks only
    bool local_batch_norm = false;  ///< BatchNorm's statistics from this rank's rows alone

    /// Rows of the step on all ranks, of which this one has `rows`.
    Index all_rows(Index rows) const { return ranks.alone() ? rows : global_batch; }
    /// Weight of this rank's mean over its `rows` in the mean over all.
    double share(Index rows) const { return static_cast<double>(rows) / static_cast<double>(all_rows(rows)); }
    /// The ranks whose rows BatchNorm takes together.
    DataParallel batch_norm() const { return local_batch_norm ? DataParallel{} : *this; }
};

}  // namespace promptkd
