// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/config.hpp>
#include <promptkd/core/error.hpp>

#include <sys/mman.h>
#include <unistd.h>
#include <cstring>
#include <iterator>
#include <map>

namespace promptkd::test {

/// Memory that the process may touch only while it is open: every allocation has pages of its own in one reserved
/// range, with inaccessible pages around it, and addresses are never used twice. It starts as NaN; the bytes between
/// its end and the end of its page are watched.
class ProtectedMemory {
public:
    ProtectedMemory() {
        void* p = mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        require(p != MAP_FAILED, "emulated CUDA: cannot reserve address space");
        base_ = next_ = static_cast<char*>(p);
    }
    ~ProtectedMemory() { munmap(base_, reserved); }
    ProtectedMemory(const ProtectedMemory&) = delete;
    ProtectedMemory& operator=(const ProtectedMemory&) = delete;

    /// 256-byte aligned, as cudaMalloc's.
    char* allocate(std::size_t bytes) {
        const std::size_t pages = (bytes + page - 1) / page * page, slack = (pages - bytes) / 256 * 256;
        require(next_ + pages + 2 * page <= base_ + reserved, "emulated CUDA: out of address space");
        char* first = next_ + page;
        next_ = first + pages;
        protect(first, pages, PROT_READ | PROT_WRITE);
        std::memset(first, 0xFF, pages);
        if (!open_) protect(first, pages, PROT_NONE);
        char* user = first + slack;
        blocks_[user] = {first, pages, bytes};
        return user;
    }

    /// Gives the pages back. True when the bytes behind the end were still untouched.
    bool release(char* user) {
        const auto at = blocks_.find(user);
        require(at != blocks_.end(), "emulated CUDA: release of an address that was not allocated");
        const Block block = at->second;
        protect(block.first, block.pages, PROT_READ | PROT_WRITE);
        bool clean = true;
        for (char* p = user + block.bytes; p < block.first + block.pages; ++p) clean = clean && *p == char(0xFF);
        protect(block.first, block.pages, PROT_NONE);
        madvise(block.first, block.pages, MADV_DONTNEED);
        blocks_.erase(at);
        return clean;
    }

    /// Makes all allocations accessible or not.
    void open(bool on) {
        open_ = on;
        for (const auto& [user, block] : blocks_)
            protect(block.first, block.pages, on ? PROT_READ | PROT_WRITE : PROT_NONE);
    }

    bool in_range(const void* p) const { return p >= base_ && p < base_ + reserved; }
    /// Whether [p, p + bytes) lies in one allocation.
    bool contains(const void* p, std::size_t bytes) const {
        const char* at = static_cast<const char*>(p);
        auto next = blocks_.upper_bound(const_cast<char*>(at));
        if (next == blocks_.begin()) return false;
        --next;
        return at + bytes <= next->first + next->second.bytes;
    }
    std::size_t live() const { return blocks_.size(); }

private:
    struct Block {
        char* first;
        std::size_t pages, bytes;
    };
    static constexpr std::size_t reserved = std::size_t{1} << 38, page = 4096;

    static void protect(char* p, std::size_t n, int mode) {
        require(mprotect(p, n, mode) == 0, "emulated CUDA: mprotect failed");
    }

    char *base_, *next_;
    bool open_ = false;
    std::map<char*, Block> blocks_;
};

/// Host memory of whole pages, each allocation with a protection of its own.
class PinnedMemory {
public:
    PinnedMemory() = default;
    ~PinnedMemory() {
        for (const auto& [p, bytes] : blocks_) munmap(const_cast<char*>(p), bytes);
    }
    PinnedMemory(const PinnedMemory&) = delete;
    PinnedMemory& operator=(const PinnedMemory&) = delete;

    void* allocate(std::size_t bytes) {
        const std::size_t whole = (bytes + page - 1) / page * page;
        void* p = mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        require(p != MAP_FAILED, "emulated CUDA: out of pinned memory");
        blocks_[static_cast<const char*>(p)] = whole;
        return p;
    }
    void release(void* p) {
        const auto at = blocks_.find(static_cast<const char*>(p));
        require(at != blocks_.end(), "emulated CUDA: release of pinned memory that was not allocated");
        munmap(p, at->second);
        blocks_.erase(at);
    }
    bool contains(const void* p, std::size_t bytes) const { return find(p) && bytes <= left(p); }
    void protect(const void* p, int mode) {
        const auto at = std::prev(blocks_.upper_bound(static_cast<const char*>(p)));
        require(mprotect(const_cast<char*>(at->first), at->second, mode) == 0, "emulated CUDA: mprotect failed");
    }
    std::size_t live() const { return blocks_.size(); }

private:
    static constexpr std::size_t page = 4096;

    bool find(const void* p) const {
        const auto at = blocks_.upper_bound(static_cast<const char*>(p));
        return at != blocks_.begin() && static_cast<const char*>(p) < std::prev(at)->first + std::prev(at)->second;
    }
    std::size_t left(const void* p) const {
        const auto at = std::prev(blocks_.upper_bound(static_cast<const char*>(p)));
        return static_cast<std::size_t>(at->first + at->second - static_cast<const char*>(p));
    }

    std::map<const char*, std::size_t> blocks_;
};

}  // namespace promptkd::test
