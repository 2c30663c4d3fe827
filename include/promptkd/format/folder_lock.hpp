// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/format/file.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>

namespace promptkd {

/// An advisory lock (flock) on an output folder, so that two runs never write into the same one. It is the file ".lock"
/// in the folder, which holds the number of the process at work; it ends with the object, and with the process however
/// that ends. Of file systems without locks nothing is asked. What killed runs have left half written in the folder,
/// and in the folder "checkpoint" in it, is removed: they may write nothing there any more.
class FolderLock {
public:
    /// What to do where another process holds the lock.
    enum class Busy { fail, wait };

    /// Locks `folder`, which is created where it is missing. A process that holds the lock already gets the same one
    /// again. Throws Error naming the other process where it is busy, followed by `hint`, and for a folder that cannot
    /// be written.
    static std::shared_ptr<const FolderLock> acquire(const std::string& folder, Busy busy = Busy::fail,
                                                     const std::string& hint = "") {
        make_directories(folder);
        const std::string key = std::filesystem::canonical(folder).string();
        const std::lock_guard guard(mutex());
        std::weak_ptr<const FolderLock>& held = locks()[key];
        if (auto known = held.lock()) return known;
        std::shared_ptr<const FolderLock> fresh(new FolderLock(folder, busy, hint));
        held = fresh;
        detail::remove_left_by_runs(folder);
        return fresh;
    }

    FolderLock(const FolderLock&) = delete;
    FolderLock& operator=(const FolderLock&) = delete;
    ~FolderLock() {
        if (file_.valid()) ::unlink(path_.c_str());  // while it is held: whoever waits looks whether it is still there
    }

private:
    FolderLock(const std::string& folder, Busy busy, const std::string& hint) : path_(folder + "/.lock") {
        while (!try_lock(folder, busy, hint)) {
        }
    }

    static std::mutex& mutex() {
        static std::mutex one;
        return one;
    }
    static std::map<std::string, std::weak_ptr<const FolderLock>>& locks() {
        static std::map<std::string, std::weak_ptr<const FolderLock>> held;
        return held;
    }

    /// False where the file was removed by its holder meanwhile: there is a new one.
    bool try_lock(const std::string& folder, Busy busy, const std::string& hint) {
        file_ = detail::Descriptor(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
        if (!file_.valid()) detail::fail_errno("cannot write", path_, errno);
        while (::flock(file_.get(), LOCK_EX | (busy == Busy::fail ? LOCK_NB : 0)) != 0) {
            if (errno == EINTR) continue;
            if (errno != EWOULDBLOCK) return true;  // no locks here
            const std::string holder = read_holder();
            file_ = detail::Descriptor();
            fail(folder, ": ", holder, " is at work in this folder; use another output folder, or wait for its end",
                 hint);
        }
        struct stat mine {};
        struct stat now {};
        if (::fstat(file_.get(), &mine) != 0 || ::stat(path_.c_str(), &now) != 0 || mine.st_ino != now.st_ino)
            return false;
        const std::string text = std::to_string(::getpid()) + "\n";
        if (::ftruncate(file_.get(), 0) != 0 || ::write(file_.get(), text.data(), text.size()) < 0)
            detail::fail_errno("cannot write", path_, errno);
        return true;
    }

    std::string read_holder() const {
        char text[32] = {};
        const ssize_t n = ::pread(file_.get(), text, sizeof text - 1, 0);
        const std::string number(text, n > 0 ? static_cast<std::size_t>(n) : 0);
        const std::size_t end = number.find_first_not_of("0123456789");
        return end == 0 || number.empty() ? "another process" : "process " + number.substr(0, end);
    }

    std::string path_;
    detail::Descriptor file_;
};

}  // namespace promptkd
