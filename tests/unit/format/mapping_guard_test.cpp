// SPDX-License-Identifier: Apache-2.0
#include "support/sanitizer.hpp"
#include "support/temporary_folder.hpp"

#include <promptkd/format/file.hpp>

#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>

namespace mapping_guard_test {

namespace {

using namespace promptkd;
using promptkd::test::error_of;
using promptkd::test::TemporaryFolder;

/// The exit status of `f` in a process of its own: what is remembered there does not reach the other tests.
template <class F>
int status_of(const F& f) {
    const pid_t process = ::fork();
    if (process == 0) ::_exit(f());
    int status = 0;
    ::waitpid(process, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/// Reads all of a mapped file, for certain.
unsigned sum_of(const MappedFile& file) {
    volatile unsigned sum = 0;
    for (const char c : file.text()) sum = sum + static_cast<unsigned char>(c);
    return sum;
}

TEST_CASE("a mapped file that is cut short is an error, not the end of the process") {
    const TemporaryFolder folder;
    for (const std::size_t left : {std::size_t{0}, std::size_t{1000}, std::size_t{100000}}) {
        const std::string path = folder / "weights";
        write_atomically(path, std::string(300000, '\1'));
        const auto cut = [&] {
            const auto file = MappedFile::open(path);
            if (sum_of(*file) != 300000) return 2;
            require_intact_mappings();
            if (::truncate(path.c_str(), static_cast<off_t>(left)) != 0) return 3;
            if (sum_of(*file) >= 300000) return 4;
            const std::string read = error_of([] { require_intact_mappings(); });
            if (read.find(path + ": the file was cut short by another program") == std::string::npos) return 5;
            const std::string written = error_of([&] { write_atomically(folder / "result", "wrong numbers"); });
            return written == read && !std::filesystem::exists(folder / "result") ? 0 : 6;
        };
        CHECK(status_of(cut) == 0);
    }
}

TEST_CASE("a cut file is remembered when it is mapped no more") {
    const TemporaryFolder folder;
    const std::string path = folder / "weights";
    write_atomically(path, std::string(300000, '\1'));
    const auto cut = [&] {
        auto file = MappedFile::open(path);
        if (::truncate(path.c_str(), 10) != 0) return 3;
        sum_of(*file);
        file.reset();
        return error_of([] { require_intact_mappings(); }).find(path) == 0 ? 0 : 5;
    };
    CHECK(status_of(cut) == 0);
}

TEST_CASE("a mapped file that is written over is an error; one that is replaced is none") {
    const TemporaryFolder folder;
    const std::string path = folder / "weights";
    const auto over = [&](bool mapped, bool replaced) {
        return status_of([&] {
            write_atomically(path, std::string(300000, '\1'));
            auto file = MappedFile::open(path);
            require_intact_mappings();
            if (replaced) {
                write_atomically(path, std::string(300000, '\2'));
            } else {
                const int fd = ::open(path.c_str(), O_WRONLY);
                ::usleep(20000);  // another time stamp
                if (::pwrite(fd, "other", 5, 100) != 5) return 3;
            }
            if (!mapped) file.reset();
            const std::string message = error_of([] { require_intact_mappings(); });
            if (replaced || !mapped) return message == "no error" && (!mapped || sum_of(*file) == 300000) ? 0 : 4;
            return message.find(path + ": the file was changed by another program") == 0 ? 0 : 5;
        });
    };
    CHECK(over(true, false) == 0);
    CHECK(over(false, false) == 0);  // who has used it asks before giving it back
    CHECK(over(true, true) == 0);
    CHECK(over(false, true) == 0);
}

TEST_CASE("a bus error of anything else ends the process as before") {
    const TemporaryFolder folder;
    const auto fault = [&] {
        write_atomically(folder / "other", std::string(10, '\1'));
        const auto file = MappedFile::open(folder / "other");  // the guard is there
        return std::raise(SIGBUS);
    };
#if defined(PROMPTKD_ADDRESS_SANITIZER)  // its handler was there before: it reports, and exits
    CHECK(status_of(fault) != 0);
#else
    CHECK(status_of(fault) == 1000 + SIGBUS);
#endif
}

}  // namespace

}  // namespace mapping_guard_test
