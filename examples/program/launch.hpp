// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/parallel/communicator.hpp>
#if defined(PROMPTKD_WITH_MPI)
#include <promptkd/device/parallel/mpi.hpp>
#endif
#if defined(PROMPTKD_PROGRAM_CUDA) && defined(PROMPTKD_WITH_NCCL) && defined(PROMPTKD_WITH_MPI)
#include <promptkd/device/cuda/nccl.hpp>
#endif

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <thread>

namespace promptkd::cli {

/// This process among those that mpirun has started, known before MPI is: from the environment.
struct Launch {
    int rank = 0, size = 1;
    int local_rank = 0;  ///< among those on this machine: the GPU that this process takes

    bool alone() const { return size == 1; }
    bool is_root() const { return rank == 0; }
};

namespace launching {

/// The first of these variables that holds a number, else `otherwise`.
inline int environment_number(std::initializer_list<const char*> names, int otherwise) {
    for (const char* name : names) {
        const char* text = std::getenv(name);
        if (!text || !*text) continue;
        char* end = nullptr;
        const long value = std::strtol(text, &end, 10);
        if (*end == '\0' && value >= 0 && value < (1L << 24)) return static_cast<int>(value);
    }
    return otherwise;
}

}  // namespace launching

/// Open MPI's and MPICH's variables.
inline const Launch& launch() {
    static const Launch found = [] {
        Launch l;
        l.size = launching::environment_number({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}, 1);
        l.rank = launching::environment_number({"OMPI_COMM_WORLD_RANK", "PMI_RANK"}, 0);
        l.local_rank = launching::environment_number({"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"}, 0);
        if (l.size < 1 || l.rank >= l.size) l = {};
        return l;
    }();
    return found;
}

#if defined(PROMPTKD_WITH_MPI)
/// MPI, started when first asked for.
inline MpiSession& mpi_session() {
    static std::unique_ptr<MpiSession> session = std::make_unique<MpiSession>();
    return *session;
}
inline bool& mpi_started() {
    static bool started = false;
    return started;
}
#endif

/// Ends all ranks after an error of this one. The others may have met the same error and are about to say so: rank 0
/// speaks first, and what the rest would say is then lost with them.
inline void end_ranks([[maybe_unused]] int status) {
#if defined(PROMPTKD_WITH_MPI)
    if (mpi_started()) MpiSession::abort(status);
#endif
}
inline void let_rank_0_speak() {
    if (!launch().is_root()) std::this_thread::sleep_for(std::chrono::seconds(5));
}

#if defined(PROMPTKD_WITH_MPI)
namespace launching {

#if defined(PROMPTKD_PROGRAM_CUDA) && defined(PROMPTKD_WITH_NCCL)
template <class T, class A, class F>
void with_communicator(Cuda<T, A>& device, MpiCommunicator& mpi, const F& f) {
    ncclUniqueId id{};
    if (mpi.rank() == 0) id = NcclCommunicator::make_id();
    detail::mpi_check(MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, MPI_COMM_WORLD), "MPI_Bcast");
    NcclCommunicator nccl(device, id, mpi.rank(), mpi.size());
    f(Ranks<Cuda<T, A>>(nccl));
}
#endif
template <Device D, class F>
void with_communicator(D&, MpiCommunicator& mpi, const F& f) {
    f(Ranks<D>(mpi));
}

}  // namespace launching
#endif

/// f(ranks): all processes that mpirun has started, or this one alone.
template <Device D, class F>
void with_ranks(D& device, const F& f) {
    if (launch().alone()) return f(Ranks<D>());
#if defined(PROMPTKD_WITH_MPI)
    mpi_session();
    mpi_started() = true;
    MpiCommunicator mpi;
    launching::with_communicator(device, mpi, f);
#else
    (void)device;
    fail("this program was built without MPI and cannot share work among ", launch().size,
         " processes; configure with -DPROMPTKD_MPI=ON, or start it without mpirun");
#endif
}

}  // namespace promptkd::cli
