// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

/// Mapped files that another process cuts short. To touch a page behind the new end raises SIGBUS, which would end the
/// program without a word. The guard is a handler of SIGBUS for the mappings of this library alone: it puts a page of
/// zeros where the file has none any more and remembers the file. The work goes on with wrong numbers until
/// require_intact_mappings() is asked: after each batch, and before any file becomes permanent. A SIGBUS of anything
/// else goes to the handler that was there before.
namespace promptkd::detail {

/// One mapping that the handler knows. All members are atomic: the handler may run at any moment.
struct GuardedMapping {
    std::atomic<std::uintptr_t> begin{0};  ///< 0: the place is free
    std::atomic<std::uintptr_t> end{0};
    std::atomic<const char*> path{nullptr};
    std::atomic<bool> cut{false};
};

class MappingGuard {
public:
    static MappingGuard& instance() {
        static MappingGuard guard;
        return guard;
    }

    /// From now on the guard looks after these bytes; `path` must live until forget(). More mappings than there are
    /// places are not looked after.
    void add(const void* bytes, std::size_t size, const char* path) {
        const std::lock_guard lock(mutex_);
        for (GuardedMapping& place : places_) {
            if (place.begin.load() != 0) continue;
            place.path = path;
            place.cut = false;
            place.end = reinterpret_cast<std::uintptr_t>(bytes) + size;
            place.begin = reinterpret_cast<std::uintptr_t>(bytes);
            return;
        }
    }

    void forget(const void* bytes) {
        const std::lock_guard lock(mutex_);
        for (GuardedMapping& place : places_) {
            if (place.begin.load() != reinterpret_cast<std::uintptr_t>(bytes)) continue;
            if (place.cut.load()) lost_ = place.path.load();
            place.begin = 0;
        }
    }

    /// The first file that was cut short while it was mapped; empty: none.
    std::string cut_file() {
        if (!any_cut_.load()) return "";
        const std::lock_guard lock(mutex_);
        for (const GuardedMapping& place : places_)
            if (place.begin.load() != 0 && place.cut.load()) return place.path.load();
        return lost_;
    }

private:
    MappingGuard() : page_(static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE))) {
        struct sigaction action {};
        action.sa_sigaction = &handle;
        action.sa_flags = SA_SIGINFO | SA_NODEFER;
        sigemptyset(&action.sa_mask);
        self() = this;
        ::sigaction(SIGBUS, &action, &before_);
    }

    static MappingGuard*& self() {
        static MappingGuard* guard = nullptr;
        return guard;
    }

    static void handle(int number, siginfo_t* info, void* context) {
        MappingGuard& guard = *self();
        if (guard.mend(reinterpret_cast<std::uintptr_t>(info->si_addr))) return;
        if ((guard.before_.sa_flags & SA_SIGINFO) != 0 && guard.before_.sa_sigaction != nullptr)
            return guard.before_.sa_sigaction(number, info, context);
        if (guard.before_.sa_handler != SIG_DFL && guard.before_.sa_handler != SIG_IGN)
            return guard.before_.sa_handler(number);
        ::signal(number, SIG_DFL);
        ::raise(number);  // not ours: the process ends as it would have without the guard
    }

    /// Zeros from the page of `address` to the end of its mapping. False where it lies in none.
    bool mend(std::uintptr_t address) {
        for (GuardedMapping& place : places_) {
            const std::uintptr_t begin = place.begin.load(), end = place.end.load();
            if (begin == 0 || address < begin || address >= (end + page_ - 1) / page_ * page_) continue;
            place.cut = true;
            any_cut_ = true;
            const std::uintptr_t from = address / page_ * page_;
            void* zeros = ::mmap(reinterpret_cast<void*>(from), end - from, PROT_READ,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            return zeros != MAP_FAILED;
        }
        return false;
    }

    std::array<GuardedMapping, 1024> places_;
    std::atomic<bool> any_cut_{false};
    std::mutex mutex_;
    std::string lost_;  ///< a file that was cut short and is mapped no more
    std::uintptr_t page_;
    struct sigaction before_ {};
};

}  // namespace promptkd::detail

namespace promptkd {

/// Throws Error naming a file that another process has cut short while it was in use: what was computed since is wrong.
inline void require_intact_mappings() {
    const std::string path = detail::MappingGuard::instance().cut_file();
    require(path.empty(), path,
            ": the file was cut short by another program while it was in use; what was made of it "
            "since is wrong and was not kept");
}

}  // namespace promptkd
