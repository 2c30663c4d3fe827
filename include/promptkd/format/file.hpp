// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/error.hpp>
#include <promptkd/format/mapping_guard.hpp>
#include <promptkd/format/temporaries.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

namespace promptkd {

namespace detail {

/// `text` as an Error: a ResourceError where the errno `code` is no fault of the file.
[[noreturn]] inline void fail_lacking(int code, const std::string& text) {
    if (code == EMFILE || code == ENFILE || code == ENOMEM || code == EIO) throw ResourceError(text);
    throw Error(text);
}

/// "what 'path': strerror(code)" as an Error.
[[noreturn]] inline void fail_errno(const char* what, const std::string& path, int code) {
    fail_lacking(code, concat(what, " '", path, "': ", std::generic_category().message(code)));
}

/// A POSIX file descriptor, closed on destruction.
class Descriptor {
public:
    Descriptor() = default;
    explicit Descriptor(int fd) : fd_(fd) {}
    Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~Descriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    int get() const { return fd_; }
    bool valid() const { return fd_ >= 0; }
    /// Closes now; returns errno or 0. (Some file systems report a full disk only here.)
    int close() {
        const int result = ::close(std::exchange(fd_, -1));
        return result == 0 ? 0 : errno;
    }

private:
    int fd_ = -1;
};

inline Descriptor open_for_reading(const std::string& path, struct stat& status) {
    Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid() || ::fstat(file.get(), &status) != 0) fail_errno("cannot open", path, errno);
    require(!S_ISDIR(status.st_mode), "cannot open '", path, "': it is a folder, a file is needed");
    return file;
}

/// Flushes to the disk. File systems without fsync (EINVAL, ENOTSUP) are not an error.
inline void synchronize(int fd, const std::string& path) {
    if (::fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP || errno == EROFS) return;
    fail_errno("cannot write", path, errno);
}

inline bool starts_with_ignoring_case(std::string_view text, std::string_view prefix) {
    if (text.size() < prefix.size()) return false;
    for (std::size_t i = 0; i < prefix.size(); ++i)
        if (std::tolower(static_cast<unsigned char>(text[i])) != prefix[i]) return false;
    return true;
}

}  // namespace detail

/// A regular file mapped read-only into memory for as long as the object lives. Nothing is read until it is touched.
/// Files that this library replaces (see write_atomically) stay readable through existing mappings; of one that another
/// program cuts short or writes over see require_intact_mappings().
class MappedFile {
public:
    /// Maps `path`. Throws Error when it cannot be opened or is not a regular file.
    static std::shared_ptr<const MappedFile> open(const std::string& path) {
        return std::shared_ptr<const MappedFile>(new MappedFile(path));
    }

    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;
    ~MappedFile() {
        if (size_ == 0) return;
        detail::MappingGuard::instance().forget(address_);
        ::munmap(address_, size_);
    }

    /// The first byte; null for an empty file.
    const std::byte* data() const { return static_cast<const std::byte*>(address_); }
    /// Number of bytes.
    std::size_t size() const { return size_; }
    /// As it was given.
    const std::string& path() const { return path_; }
    /// The contents.
    std::string_view text() const { return {static_cast<const char*>(address_), size_}; }

private:
    explicit MappedFile(const std::string& path) : path_(path) {
        struct stat status {};
        const detail::Descriptor file = detail::open_for_reading(path, status);
        require(S_ISREG(status.st_mode), "cannot map '", path, "': not a regular file");
        if (status.st_size == 0) return;  // mmap refuses length 0
        const auto size = static_cast<std::size_t>(status.st_size);
        void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
        if (address == MAP_FAILED) detail::fail_errno("cannot map", path, errno);
        address_ = address;
        size_ = size;
        detail::MappingGuard::instance().add(address_, size_, path_.c_str(), detail::FileVersion(status));
    }

    std::string path_;
    void* address_ = nullptr;
    std::size_t size_ = 0;
};

/// All bytes of `path` (a pipe or device will do). Throws Error when it cannot be read or exceeds `limit` bytes.
inline std::string read_file(const std::string& path, std::size_t limit = std::size_t{1} << 32) {
    struct stat status {};
    const detail::Descriptor file = detail::open_for_reading(path, status);
    std::string bytes;
    const std::size_t expected = status.st_size > 0 ? static_cast<std::size_t>(status.st_size) : 0;
    require(expected <= limit, "'", path, "' has ", expected, " bytes, more than the limit of ", limit);
    std::size_t used = 0;
    for (;;) {
        if (used == bytes.size()) bytes.resize(used == 0 ? expected + 1 : used + std::max<std::size_t>(used, 65536));
        const ssize_t got = ::read(file.get(), bytes.data() + used, bytes.size() - used);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) detail::fail_errno("cannot read", path, errno);
        if (got == 0) break;
        used += static_cast<std::size_t>(got);
        require(used <= limit, "'", path, "' is larger than the limit of ", limit, " bytes");
    }
    bytes.resize(used);
    return bytes;
}

/// Throws Error when `head`, the first bytes of `path`, shows a Git LFS pointer or a web page saved under its name.
inline void refuse_placeholder(const std::string& path, std::string_view head) {
    require(head.substr(0, 42) != "version https://git-lfs.github.com/spec/v1", path,
            ": this is a Git LFS pointer, not the file itself; fetch it with 'git lfs pull'");
    const std::size_t first = head.substr(0, 1024).find_first_not_of(" \t\r\n");
    if (first == std::string_view::npos) return;
    head.remove_prefix(first);
    const bool page =
        detail::starts_with_ignoring_case(head, "<!doctype html") || detail::starts_with_ignoring_case(head, "<html");
    require(!page, path, ": this is an HTML page, not the file itself; the download returned a web page, repeat it");
}

/// Creates `path` and its parents. Throws Error with the reason when that fails.
inline void make_directories(const std::string& path) {
    std::error_code code;
    std::filesystem::create_directories(path, code);
    if (!code && !std::filesystem::is_directory(path, code) && !code)
        code = std::make_error_code(std::errc::not_a_directory);
    require(!code, "cannot create folder '", path, "': ", code.message());
}

/// Throws Error when the folder `path` cannot be made. Leaves nothing behind that was not there.
inline void require_creatable(const std::string& path) {
    std::vector<std::filesystem::path> missing;
    std::error_code code;
    for (std::filesystem::path at = std::filesystem::path(path).lexically_normal();
         !at.empty() && !std::filesystem::exists(at, code); at = at.parent_path())
        missing.push_back(at);
    make_directories(path);
    for (const std::filesystem::path& made : missing) std::filesystem::remove(made, code);
}

/// A file that appears under its name only when complete: bytes go to a temporary name in the same folder; commit()
/// flushes them to the disk and renames. Without commit (an exception, a full disk) the temporary is removed and an
/// existing file keeps its contents. An existing symbolic link keeps its place; a device or pipe is written directly.
class AtomicFile {
public:
    /// Throws Error when the folder cannot be written.
    explicit AtomicFile(const std::string& path) : path_(path), target_(path) {
        struct stat status {};
        const bool exists = ::stat(path.c_str(), &status) == 0;
        require(!exists || !S_ISDIR(status.st_mode), "cannot write '", path, "': it is a folder");
        if (exists && !S_ISREG(status.st_mode)) {  // renaming over /dev/stdout would destroy it
            file_ = detail::Descriptor(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
            if (!file_.valid()) detail::fail_errno("cannot write", path, errno);
            return;
        }
        if (exists) resolve_link();
        create_temporary();
        // Same permissions as the file it replaces; failing to copy them is not worth an error.
        if (exists && ::fchmod(file_.get(), status.st_mode & 07777) != 0) return;
    }

    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;
    ~AtomicFile() {
        if (!temporary_.empty()) ::unlink(temporary_.c_str());
    }

    /// Appends `size` bytes. Throws Error with the reason (for example, no space left on device).
    void write(const void* bytes, std::size_t size) {
        const char* next = static_cast<const char*>(bytes);
        while (size > 0) {
            const ssize_t done = ::write(file_.get(), next, std::min(size, std::size_t{1} << 30));
            if (done < 0 && errno == EINTR) continue;
            if (done < 0) detail::fail_errno("cannot write", path_, errno);
            next += done;
            size -= static_cast<std::size_t>(done);
        }
    }
    /// Appends. Throws Error when the disk is full.
    void write(std::string_view bytes) { write(bytes.data(), bytes.size()); }

    /// Makes the file permanent under its name. Throws Error when that fails, and where its contents may have been made
    /// of a mapped file that was cut short.
    void commit() {
        require_intact_mappings();
        detail::synchronize(file_.get(), path_);
        if (const int code = file_.close()) detail::fail_errno("cannot write", path_, code);
        if (temporary_.empty()) return;
        if (::rename(temporary_.c_str(), target_.c_str()) != 0) detail::fail_errno("cannot write", path_, errno);
        temporary_.clear();
        const detail::Descriptor directory(::open(folder_of(target_).c_str(), O_RDONLY | O_CLOEXEC));
        if (directory.valid()) detail::synchronize(directory.get(), path_);
    }

private:
    void resolve_link() {
        const std::unique_ptr<char, void (*)(void*)> real(::realpath(path_.c_str(), nullptr), std::free);
        if (real) target_ = real.get();
    }

    void create_temporary() {
        const std::string folder = folder_of(target_);
        detail::remove_left_behind(folder);
        for (int attempt = 0; attempt < 100; ++attempt) {
            const std::string name = detail::temporary_name(target_);
            file_ = detail::Descriptor(::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
            if (file_.valid()) {
                temporary_ = name;
                return;
            }
            if (errno != EEXIST) break;
        }
        detail::fail_errno("cannot write", path_, errno);
    }

    static std::string folder_of(const std::string& path) {
        const std::string folder = std::filesystem::path(path).parent_path().string();
        return folder.empty() ? "." : folder;
    }

    std::string path_, target_, temporary_;
    detail::Descriptor file_;
};

/// Replaces `path` with what `write(AtomicFile&)` writes, all or nothing. Throws Error naming the path and the reason.
template <class F>
requires std::is_invocable_v<F, AtomicFile&>
void write_atomically(const std::string& path, F&& write) {
    AtomicFile file(path);
    write(file);
    file.commit();
}

/// Throws Error naming the reason where `path` could not be written now: asked before long work whose result goes
/// there.
inline void require_writable(const std::string& path) { AtomicFile{path}; }

/// Replaces `path` with `bytes`, all or nothing. Throws Error naming the path and the reason.
inline void write_atomically(const std::string& path, std::string_view bytes) {
    write_atomically(path, [&](AtomicFile& file) { file.write(bytes); });
}

}  // namespace promptkd
