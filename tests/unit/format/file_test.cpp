// SPDX-License-Identifier: Apache-2.0
#include <promptkd/format/file.hpp>

#include <doctest/doctest.h>

#include <sys/wait.h>

#include <sys/resource.h>
#include <fstream>

#include <csignal>
#include <iterator>
#include <stdexcept>

namespace file_test {

namespace {

using namespace promptkd;

class TemporaryFolder {
public:
    TemporaryFolder() {
        std::string name = (std::filesystem::temp_directory_path() / "promptkd-file-XXXXXX").string();
        REQUIRE(mkdtemp(name.data()) != nullptr);
        path_ = name;
    }
    ~TemporaryFolder() { std::filesystem::remove_all(path_); }
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }
    std::ptrdiff_t entries() const {
        return std::distance(std::filesystem::directory_iterator(path_), std::filesystem::directory_iterator());
    }

private:
    std::string path_;
};

/// Files may grow to `bytes` only, as on a full disk, while this lives.
class SmallDisk {
public:
    explicit SmallDisk(rlim_t bytes) {
        handler_ = std::signal(SIGXFSZ, SIG_IGN);
        REQUIRE(getrlimit(RLIMIT_FSIZE, &before_) == 0);
        rlimit small = before_;
        small.rlim_cur = bytes;
        REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
    }
    ~SmallDisk() {
        setrlimit(RLIMIT_FSIZE, &before_);
        std::signal(SIGXFSZ, handler_);
    }

private:
    rlimit before_{};
    void (*handler_)(int) = nullptr;
};

TEST_CASE("file: bytes written are read back, by reading and by mapping") {
    const TemporaryFolder folder;
    const std::string bytes("a\0b\xff", 4);
    write_atomically(folder / "f", bytes);
    CHECK(read_file(folder / "f") == bytes);
    const auto mapped = MappedFile::open(folder / "f");
    CHECK(mapped->text() == bytes);
    CHECK(mapped->size() == 4);
    CHECK(mapped->path() == folder / "f");
    write_atomically(folder / "f", "");
    CHECK(read_file(folder / "f").empty());
    CHECK(MappedFile::open(folder / "f")->size() == 0);
    CHECK(mapped->text() == bytes);  // the replaced file lives on in the mapping
    CHECK(folder.entries() == 1);
}

TEST_CASE("file: reading reports what is wrong") {
    const TemporaryFolder folder;
    CHECK_THROWS_WITH_AS(read_file(folder / "absent"), doctest::Contains("absent': No such file"), Error);
    CHECK_THROWS_WITH_AS(MappedFile::open(folder / "absent"), doctest::Contains("No such file"), Error);
    CHECK_THROWS_WITH_AS(read_file(folder / ""), doctest::Contains("it is a folder"), Error);
    CHECK_THROWS_WITH_AS(MappedFile::open("/dev/null"), doctest::Contains("not a regular file"), Error);
    write_atomically(folder / "f", "12345");
    CHECK_THROWS_WITH_AS(read_file(folder / "f", 4), doctest::Contains("5 bytes, more than the limit of 4"), Error);
    CHECK(read_file(folder / "f", 5) == "12345");
    CHECK_THROWS_WITH_AS(read_file("/dev/zero", 100), doctest::Contains("larger than the limit of 100"), Error);
}

TEST_CASE("file: an exception while writing leaves the old file and no temporary") {
    const TemporaryFolder folder;
    write_atomically(folder / "f", "old");
    const auto interrupted = [&] {
        write_atomically(folder / "f", [](AtomicFile& file) {
            file.write("half of the new");
            throw std::runtime_error("interrupted");
        });
    };
    CHECK_THROWS_AS(interrupted(), std::runtime_error);
    CHECK(read_file(folder / "f") == "old");
    CHECK(folder.entries() == 1);
}

TEST_CASE("file: a full disk leaves the old file and no temporary, and is reported") {
    const TemporaryFolder folder;
    write_atomically(folder / "f", "old");
    std::string message;
    {
        const SmallDisk disk(4096);
        try {
            write_atomically(folder / "f", std::string(100'000, 'x'));
        } catch (const Error& error) {
            message = error.what();
        }
    }
    CAPTURE(message);
    CHECK(message.find(folder / "f") != std::string::npos);
    CHECK(message.find("File too large") != std::string::npos);
    CHECK(read_file(folder / "f") == "old");
    CHECK(folder.entries() == 1);
}

TEST_CASE("file: folders that cannot be written are reported") {
    const TemporaryFolder folder;
    write_atomically(folder / "f", "a regular file");
    CHECK_THROWS_WITH_AS(write_atomically(folder / "f/below", "x"), doctest::Contains("Not a directory"), Error);
    CHECK_THROWS_WITH_AS(write_atomically(folder / "absent/x", "x"), doctest::Contains("No such file"), Error);
    CHECK_THROWS_WITH_AS(write_atomically(folder / "", "x"), doctest::Contains("it is a folder"), Error);
    CHECK_THROWS_WITH_AS(make_directories(folder / "f/below"), doctest::Contains("cannot create folder"), Error);
    CHECK_THROWS_WITH_AS(make_directories(folder / "f"), doctest::Contains("Not a directory"), Error);
    make_directories(folder / "a/b/c");
    make_directories(folder / "a/b/c");
    CHECK(std::filesystem::is_directory(folder / "a/b/c"));
}

TEST_CASE("file: permissions and symbolic links survive replacement; devices are written directly") {
    const TemporaryFolder folder;
    write_atomically(folder / "target", "old");
    REQUIRE(::chmod((folder / "target").c_str(), 0640) == 0);
    std::filesystem::create_symlink("target", folder / "link");
    write_atomically(folder / "link", "new");
    CHECK(std::filesystem::is_symlink(folder / "link"));
    CHECK(read_file(folder / "target") == "new");
    struct stat status {};
    REQUIRE(::stat((folder / "target").c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0640);
    std::filesystem::create_symlink("/dev/null", folder / "null");
    write_atomically(folder / "null", "gone");
    CHECK(std::filesystem::is_symlink(folder / "null"));
    CHECK(std::filesystem::is_character_file("/dev/null"));
    std::filesystem::create_symlink("/dev/full", folder / "full");
    CHECK_THROWS_WITH_AS(write_atomically(folder / "full", "x"), doctest::Contains("No space left"), Error);
}

TEST_CASE("file: temporaries of processes that are no more are removed by the next one that writes there") {
    const TemporaryFolder folder;
    const pid_t process = ::fork();  // a number that belongs to nobody once it is waited for
    if (process == 0) ::_exit(0);
    ::waitpid(process, nullptr, 0);
    const std::string machine = detail::machine_mark();
    const auto leave = [&](const std::string& mark, pid_t number) {
        std::ofstream(concat(folder / "f", ".tmp-", mark, "-", number, "-7")) << "left over";
    };
    leave(machine, process);
    leave(machine, ::getpid());  // of an earlier process of our number
    leave(machine, 1);           // lives
    leave("0a0b0c0d", process);  // of another machine
    std::ofstream(folder / "f.tmp-notes") << "a user's";
    write_atomically(folder / "f", "new");
    CHECK(folder.entries() == 4);
    CHECK(std::filesystem::exists(concat(folder / "f", ".tmp-", machine, "-1-7")));
    CHECK(std::filesystem::exists(folder / "f.tmp-notes"));
}

TEST_CASE("file: whether a result could be written is asked beforehand, and leaves nothing") {
    const TemporaryFolder folder;
    require_writable(folder / "f");
    CHECK(folder.entries() == 0);
    write_atomically(folder / "f", "old");
    require_writable(folder / "f");
    CHECK(read_file(folder / "f") == "old");
    CHECK_THROWS_WITH_AS(require_writable(folder / "none/f"), doctest::Contains("No such file or directory"), Error);
    CHECK_THROWS_WITH_AS(require_writable(folder / "."), doctest::Contains("it is a folder"), Error);
}

TEST_CASE("file: Git LFS pointers and web pages are recognised, other text is not") {
    CHECK_THROWS_WITH_AS(refuse_placeholder("w.pt", "version https://git-lfs.github.com/spec/v1\n"),
                         doctest::Contains("w.pt: this is a Git LFS pointer"), Error);
    CHECK_THROWS_WITH_AS(refuse_placeholder("w.pt", " \n<!doctype HTML>"), doctest::Contains("HTML page"), Error);
    CHECK_THROWS_WITH_AS(refuse_placeholder("w.pt", "<HTML lang=en>"), doctest::Contains("HTML page"), Error);
    CHECK_NOTHROW(refuse_placeholder("w.pt", ""));
    CHECK_NOTHROW(refuse_placeholder("w.pt", "PK\x03\x04"));
    CHECK_NOTHROW(refuse_placeholder("w.pt", "version https://git-lfs"));
}

}  // namespace

}  // namespace file_test
