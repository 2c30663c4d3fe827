// SPDX-License-Identifier: Apache-2.0
#include "support/temporary_folder.hpp"

#include <promptkd/format/folder_lock.hpp>

#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>

namespace folder_lock_test {

namespace {

using namespace promptkd;
using promptkd::test::error_of;
using promptkd::test::TemporaryFolder;

/// A process that holds the lock on `folder` for so many milliseconds, once it has it.
class Holder {
public:
    Holder(const std::string& folder, int milliseconds) {
        int ready[2];
        REQUIRE(::pipe(ready) == 0);
        process_ = ::fork();
        if (process_ == 0) {
            const auto lock = FolderLock::acquire(folder);
            (void)!::write(ready[1], "x", 1);
            ::usleep(static_cast<useconds_t>(1000 * milliseconds));
            ::_exit(0);  // as if it was killed: the lock file stays
        }
        char byte;
        REQUIRE(::read(ready[0], &byte, 1) == 1);
        ::close(ready[0]);
        ::close(ready[1]);
    }
    ~Holder() { ::waitpid(process_, nullptr, 0); }
    pid_t process() const { return process_; }

private:
    pid_t process_ = 0;
};

TEST_CASE("folder lock: the second process is refused, and told whom it meets") {
    const TemporaryFolder folder;
    const std::string out = folder / "out";
    const Holder holder(out, 300);
    const std::string message = error_of([&] { FolderLock::acquire(out, FolderLock::Busy::fail, ", or give up"); });
    CHECK(message == concat(out, ": process ", holder.process(),
                            " is at work in this folder; use another output folder, or wait for its end, or give up"));
}

TEST_CASE("folder lock: one may wait for it; a lock file of a killed process is no lock") {
    const TemporaryFolder folder;
    const std::string out = folder / "out";
    {
        const Holder holder(out, 200);
        const auto start = std::chrono::steady_clock::now();
        const auto lock = FolderLock::acquire(out, FolderLock::Busy::wait);
        CHECK(std::chrono::steady_clock::now() - start > std::chrono::milliseconds(100));
    }
    CHECK(!std::filesystem::exists(out + "/.lock"));  // nothing is left of a lock that was given back
}

TEST_CASE("folder lock: within a process it is one lock") {
    const TemporaryFolder folder;
    const auto first = FolderLock::acquire(folder / "out");
    CHECK(FolderLock::acquire((folder / "out") + "/.") == first);
    CHECK(FolderLock::acquire(folder / "other") != first);
}

TEST_CASE("folder lock: removes what killed processes have left, in the checkpoint's folder too, and nothing else") {
    const TemporaryFolder folder;
    const std::string out = folder / "out";
    const std::string dead = concat(".tmp-", detail::machine_mark(), "-2147483646-0");  // no process has this number
    const std::string alive = concat(".tmp-", detail::machine_mark(), "-", ::getppid(), "-0");
    const std::string elsewhere = ".tmp-00000000-2147483646-0";
    std::filesystem::create_directories(out + "/checkpoint");
    for (const std::string& place : {out + "/bundle", out + "/checkpoint/state"})
        for (const std::string& left : {dead, alive, elsewhere, std::string()}) std::ofstream(place + left) << "bytes";
    const auto lock = FolderLock::acquire(out);
    for (const std::string& place : {out + "/bundle", out + "/checkpoint/state"}) {
        CHECK(!std::filesystem::exists(place + dead));
        CHECK(std::filesystem::exists(place + alive));
        CHECK(std::filesystem::exists(place + elsewhere));
        CHECK(std::filesystem::exists(place));
    }
}

}  // namespace

}  // namespace folder_lock_test
