// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/parallel/communicator.hpp>

#include <mpi.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <string>
#include <type_traits>
#include <vector>

namespace promptkd {

namespace detail {

/// Throws Error with MPI's own text unless `status` is success.
inline void mpi_check(int status, const char* call) {
    if (status == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    MPI_Error_string(status, text, &length);
    fail(call, " failed: ", std::string(text, static_cast<std::size_t>(length)),
         "; another rank may have ended: see its message");
}

template <class T>
MPI_Datatype mpi_type() {
    static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>);
    return std::is_same_v<T, float> ? MPI_FLOAT : MPI_DOUBLE;
}

}  // namespace detail

/// MPI from its start to its end: one object in a program, made before any other use of MPI.
class MpiSession {
public:
    MpiSession() {
        int provided = 0;
        detail::mpi_check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
        MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    }
    /// Ends MPI together with the other ranks. A rank that leaves by an exception must not come here (the others would
    /// wait for it): abort() first.
    ~MpiSession() { MPI_Finalize(); }
    MpiSession(const MpiSession&) = delete;
    MpiSession& operator=(const MpiSession&) = delete;

    /// Ends every rank with exit status `status`; does not return.
    static void abort(int status) { MPI_Abort(MPI_COMM_WORLD, status); }
};

/// Data-parallel ranks over MPI. On a device that computes in host memory the sums are made in place; for others the
/// values travel through the host (which waits for the device).
class MpiCommunicator {
public:
    /// The ranks of `world`; MPI must be initialised, see MpiSession.
    explicit MpiCommunicator(MPI_Comm world = MPI_COMM_WORLD) : world_(world) {
        detail::mpi_check(MPI_Comm_rank(world_, &rank_), "MPI_Comm_rank");
        detail::mpi_check(MPI_Comm_size(world_, &size_), "MPI_Comm_size");
    }

    /// See Communicator.
    ///@{
    int rank() const { return rank_; }
    int size() const { return size_; }

    template <Device D>
    void all_reduce_sum(D& device, typename D::Scalar* p, Index n) {
        using T = typename D::Scalar;
        through_host(device, p, static_cast<std::size_t>(n) * sizeof(T), true, [&](void* host) {
            in_parts(n, [&](Index first, int count) {
                detail::mpi_check(MPI_Allreduce(MPI_IN_PLACE, static_cast<T*>(host) + first, count,
                                                detail::mpi_type<T>(), MPI_SUM, world_),
                                  "MPI_Allreduce");
            });
        });
    }

    template <Device D>
    void broadcast(D& device, void* p, std::size_t bytes, int root) {
        through_host(device, p, bytes, rank_ == root, [&](void* host) {
            in_parts(static_cast<Index>(bytes), [&](Index first, int count) {
                detail::mpi_check(MPI_Bcast(static_cast<char*>(host) + first, count, MPI_BYTE, root, world_),
                                  "MPI_Bcast");
            });
        });
    }

    template <Device D>
    void barrier(D& device) {
        device.synchronize();
        detail::mpi_check(MPI_Barrier(world_), "MPI_Barrier");
    }
    ///@}

private:
    /// f(first, count) over parts whose counts fit MPI's int.
    template <class F>
    static void in_parts(Index n, const F& f) {
        constexpr Index part = Index{1} << 30;
        for (Index first = 0; first < n; first += part) f(first, static_cast<int>(std::min(part, n - first)));
    }

    /// f(host copy of the bytes at p), then back; `read`: f looks at what is there.
    template <Device D, class F>
    void through_host(D& device, void* p, std::size_t bytes, bool read, const F& f) {
        if (bytes == 0) return;
        if constexpr (requires { requires D::host_memory; }) {
            f(p);
        } else {
            staging_.resize(std::max(staging_.size(), bytes));
            if (read) device.download(staging_.data(), p, bytes);
            f(staging_.data());
            device.upload(p, staging_.data(), bytes);
            device.synchronize();  // before the staging memory is used again
        }
    }

    MPI_Comm world_;
    int rank_ = 0, size_ = 1;
    std::vector<char> staging_;
};

}  // namespace promptkd
