// SPDX-License-Identifier: Apache-2.0
// A library for LD_PRELOAD that lets one system call of a command fail. PROMPTKD_FAULT=CALL:N:WHAT makes the N-th call
// of CALL (write, read, fsync, rename, open, mmap or allocate: memory of 64 KiB and more) fail with the errno WHAT, a
// number, or kills the process there (WHAT is "kill"). The file PROMPTKD_FAULT_MARK is made when that happens: without
// it the command has made fewer calls. Calls about standard error and about files of the system do not count.
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
}

namespace {

struct Plan {
    const char* call = "";
    long number = 0;
    int code = 0;  ///< −1: kill
    std::atomic<long> seen{0};

    Plan() {
        const char* text = std::getenv("PROMPTKD_FAULT");
        const char* first = text ? std::strchr(text, ':') : nullptr;
        const char* second = first ? std::strchr(first + 1, ':') : nullptr;
        if (!second) return;
        std::memcpy(name, text,
                    static_cast<std::size_t>(first - text) < sizeof name ? static_cast<std::size_t>(first - text) : 0);
        call = name;
        number = std::strtol(first + 1, nullptr, 10);
        code = std::strcmp(second + 1, "kill") == 0 ? -1 : static_cast<int>(std::strtol(second + 1, nullptr, 10));
    }

private:
    char name[16] = {};
};

Plan& plan() {
    static Plan one;
    return one;
}

/// Whether this call is the one to fail; errno is then set.
bool fails(const char* call) {
    Plan& p = plan();
    if (std::strcmp(p.call, call) != 0 || p.seen.fetch_add(1) + 1 != p.number) return false;
    if (const char* mark = std::getenv("PROMPTKD_FAULT_MARK")) {
        const long fd = ::syscall(SYS_openat, AT_FDCWD, mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        if (fd >= 0) ::syscall(SYS_close, fd);
    }
    if (p.code < 0) ::syscall(SYS_kill, ::getpid(), SIGKILL);
    errno = p.code;
    return true;
}

/// The function that this library stands in front of.
template <class F>
F real(const char* name) {
    return reinterpret_cast<F>(::dlsym(RTLD_NEXT, name));
}

constexpr std::size_t large = std::size_t{64} << 10;

/// Whether the command itself opens the file: the system's libraries read its own.
bool counts(const char* path) {
    for (const char* system : {"/proc/", "/sys/", "/dev/", "/etc/", "/usr/"})
        if (std::strncmp(path, system, std::strlen(system)) == 0) return false;
    return true;
}

mode_t mode_of(int flags, va_list arguments) {
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? static_cast<mode_t>(va_arg(arguments, int)) : 0;
}

}  // namespace

extern "C" {

ssize_t write(int fd, const void* bytes, std::size_t size) {
    if (fd != 2 && fails("write")) return -1;
    return ::syscall(SYS_write, fd, bytes, size);
}

int fsync(int fd) { return fails("fsync") ? -1 : static_cast<int>(::syscall(SYS_fsync, fd)); }

int rename(const char* from, const char* to) noexcept {
    return fails("rename") ? -1 : static_cast<int>(::syscall(SYS_rename, from, to));
}

int open(const char* path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return counts(path) && fails("open") ? -1 : static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

int open64(const char* path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return counts(path) && fails("open") ? -1 : static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

FILE* fopen(const char* path, const char* mode) {
    static const auto next = real<FILE* (*)(const char*, const char*)>("fopen");
    return counts(path) && fails("open") ? nullptr : next(path, mode);
}

DIR* opendir(const char* path) {
    static const auto next = real<DIR* (*)(const char*)>("opendir");
    return counts(path) && fails("open") ? nullptr : next(path);
}

ssize_t read(int fd, void* bytes, std::size_t size) {
    if (fd > 2 && fails("read")) return -1;
    return ::syscall(SYS_read, fd, bytes, size);
}

void* mmap(void* address, std::size_t size, int protection, int flags, int fd, off_t offset) noexcept {
    static const auto next = real<void* (*)(void*, std::size_t, int, int, int, off_t)>("mmap");
    return fd >= 0 && fails("mmap") ? MAP_FAILED : next(address, size, protection, flags, fd, offset);
}

void* malloc(std::size_t size) { return size >= large && fails("allocate") ? nullptr : __libc_malloc(size); }

void* calloc(std::size_t n, std::size_t size) {
    return n != 0 && size >= large / n && fails("allocate") ? nullptr : __libc_calloc(n, size);
}

void* realloc(void* old, std::size_t size) {
    return size >= large && fails("allocate") ? nullptr : __libc_realloc(old, size);
}

int posix_memalign(void** to, std::size_t alignment, std::size_t size) {
    if (size >= large && fails("allocate")) return ENOMEM;
    *to = __libc_memalign(alignment, size);
    return *to == nullptr ? ENOMEM : 0;
}

void* aligned_alloc(std::size_t alignment, std::size_t size) {
    return size >= large && fails("allocate") ? nullptr : __libc_memalign(alignment, size);
}
}
