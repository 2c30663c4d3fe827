// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>

#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
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
/// else goes to the handler that was there before. A file that is written over in place is found there, too, by its
/// modification time, as long as it is mapped; one that is replaced by another of its name stays what it was for
/// whoever has it mapped.
namespace promptkd::detail {

/// Which file lies under a name, and as of when.
struct FileVersion {
    dev_t device = 0;
    ino_t number = 0;
    off_t size = 0;
    std::int64_t modified = 0;  ///< nanoseconds

    FileVersion() = default;
    explicit FileVersion(const struct stat& s)
        : device(s.st_dev),
          number(s.st_ino),
          size(s.st_size),
          modified(s.st_mtim.tv_sec * std::int64_t{1000000000} + s.st_mtim.tv_nsec) {}

    /// Whether the same file was written to since. A file that is gone or replaced was not.
    bool is_changed(const char* path) const {
        struct stat status {};
        if (::stat(path, &status) != 0) return false;
        const FileVersion now(status);
        return now.device == device && now.number == number && (now.size != size || now.modified != modified);
    }
};

/// One mapping that the handler knows. All members are atomic: the handler may run at any moment.
struct GuardedMapping {
    std::atomic<std::uintptr_t> begin{0};  ///< 0: the place is free
    std::atomic<std::uintptr_t> end{0};
    std::atomic<const char*> path{nullptr};
    std::atomic<bool> cut{false};
    FileVersion version;  ///< not for the handler
};

class MappingGuard {
public:
    static MappingGuard& instance() {
        static MappingGuard guard;
        return guard;
    }

    /// From now on the guard looks after these bytes; `path` must live until forget(). More mappings than there are
    /// places are not looked after.
    void add(const void* bytes, std::size_t size, const char* path, const FileVersion& version) {
        const std::lock_guard lock(mutex_);
        for (GuardedMapping& place : places_) {
            if (place.begin.load() != 0) continue;
            place.path = path;
            place.cut = false;
            place.version = version;
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

    /// The first file that was written over while it was mapped; empty: none.
    std::string changed_file() {
        const std::lock_guard lock(mutex_);
        for (const GuardedMapping& place : places_)
            if (place.begin.load() != 0 && place.version.is_changed(place.path.load())) return place.path.load();
        return "";
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

/// Throws Error naming a file that another process has cut short or written over while it was in use: what was computed
/// since is wrong.
inline void require_intact_mappings() {
    constexpr const char* consequence =
        " by another program while it was in use; what was made of it since is wrong and was "
        "not kept";
    const std::string cut = detail::MappingGuard::instance().cut_file();
    require(cut.empty(), cut, ": the file was cut short", consequence);
    const std::string changed = detail::MappingGuard::instance().changed_file();
    require(changed.empty(), changed, ": the file was changed", consequence);
}

}  // namespace promptkd
