// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/format/bytes.hpp>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace promptkd::detail {

/// One entry of a zip archive's central directory, and where its data lies in the file.
struct ZipEntry {
    std::string name;
    std::uint64_t size = 0, packed_size = 0, header_offset = 0, data_offset = 0;
    std::uint32_t crc = 0;
    std::uint16_t method = 0;
};

/// Reads the central directory of a zip archive (APPNOTE.TXT 4.3, zip64 included): libzip does not tell where the data
/// of an entry starts, and stored tensors are used where they lie.
class ZipDirectory {
public:
    explicit ZipDirectory(const FileBytes& file) : file_(file), text_(file.text) {}

    std::vector<ZipEntry> read() {
        find_directory();
        std::vector<ZipEntry> entries;
        std::uint64_t at = directory_offset_;
        for (std::uint64_t i = 0; i < count_; ++i) entries.push_back(read_entry(at));
        check(at == directory_offset_ + directory_size_, "its directory has another length than its end record says");
        for (ZipEntry& entry : entries) locate(entry);
        check_overlap(entries);
        return entries;
    }

private:
    static constexpr std::uint32_t local_signature = 0x04034b50;
    static constexpr std::uint32_t central_signature = 0x02014b50;
    static constexpr std::uint32_t end_signature = 0x06054b50;
    static constexpr std::uint32_t end64_signature = 0x06064b50;
    static constexpr std::uint32_t locator_signature = 0x07064b50;
    static constexpr std::uint64_t entry_limit = 1'000'000;

    template <class... Args>
    void check(bool good, const Args&... what) const {
        if (!good) fail(file_.path, ": damaged zip archive: ", what...);
    }

    std::uint64_t le(std::uint64_t offset, std::size_t n) const {
        check(offset <= text_.size() && n <= text_.size() - offset, "it ends too early");
        return read_le(text_, static_cast<std::size_t>(offset), n);
    }

    void find_directory() {
        check(text_.size() >= 22, "truncated: ", text_.size(), " bytes");
        const std::size_t lowest = text_.size() > 22 + 65535 ? text_.size() - 22 - 65535 : 0;
        std::size_t end = text_.size() - 22;
        while (le(end, 4) != end_signature || end + 22 + le(end + 20, 2) != text_.size()) {
            check(end > lowest, "no end record (truncated download?)");
            --end;
        }
        check(le(end + 4, 2) == 0 && le(end + 6, 2) == 0 && le(end + 8, 2) == le(end + 10, 2),
              "archives in several parts are not supported");
        count_ = le(end + 10, 2);
        directory_size_ = le(end + 12, 4);
        directory_offset_ = le(end + 16, 4);
        std::uint64_t directory_end = end;
        if (end >= 20 && le(end - 20, 4) == locator_signature) {
            const std::uint64_t record = le(end - 12, 8);
            check(le(record, 4) == end64_signature, "its zip64 end record is not where its locator says");
            count_ = le(record + 32, 8);
            directory_size_ = le(record + 40, 8);
            directory_offset_ = le(record + 48, 8);
            directory_end = record;
        }
        check(count_ <= entry_limit, count_, " entries");
        check(directory_offset_ <= directory_end && directory_size_ <= directory_end - directory_offset_,
              "its directory lies outside the file");
        check(directory_offset_ + directory_size_ == directory_end, "bytes between its directory and its end record");
    }

    ZipEntry read_entry(std::uint64_t& at) const {
        check(le(at, 4) == central_signature, "no directory entry at byte ", at);
        ZipEntry e;
        e.method = static_cast<std::uint16_t>(le(at + 10, 2));
        e.crc = static_cast<std::uint32_t>(le(at + 16, 4));
        e.packed_size = le(at + 20, 4);
        e.size = le(at + 24, 4);
        e.header_offset = le(at + 42, 4);
        const std::uint64_t name = le(at + 28, 2);
        const std::uint64_t extra = le(at + 30, 2);
        const std::uint64_t comment = le(at + 32, 2);
        const std::uint64_t length = 46 + name + extra + comment;
        check(length <= text_.size() - at, "it ends too early");
        e.name = std::string(text_.substr(static_cast<std::size_t>(at + 46), static_cast<std::size_t>(name)));
        check_name(e.name);
        read_zip64(e, at + 46 + name, extra);
        at += length;
        return e;
    }

    /// The 64-bit fields that the 32-bit ones point to with all bits set.
    void read_zip64(ZipEntry& e, std::uint64_t at, std::uint64_t length) const {
        const std::uint64_t end = at + length;
        while (at + 4 <= end) {
            const std::uint64_t id = le(at, 2), size = le(at + 2, 2);
            check(size <= end - at - 4, "an extra field of '", e.name, "' is too long");
            std::uint64_t field = at + 4;
            at += 4 + size;
            if (id != 1) continue;
            for (std::uint64_t* value : {&e.size, &e.packed_size, &e.header_offset}) {
                if (*value != 0xffffffff) continue;
                check(field + 8 <= at, "the zip64 field of '", e.name, "' is too short");
                *value = le(field, 8);
                field += 8;
            }
        }
    }

    void check_name(const std::string& name) const {
        check(!name.empty() && name.find('\0') == std::string::npos,
              "an entry without a name, or with a zero byte in it");
        bool tricky = name[0] == '/' || name.find('\\') != std::string::npos || (name.size() > 1 && name[1] == ':');
        for (std::size_t at = 0; at <= name.size();) {
            const std::size_t end = std::min(name.find('/', at), name.size());
            tricky = tricky || name.compare(at, end - at, "..") == 0;
            at = end + 1;
        }
        check(!tricky, "the entry name '", name, "' leaves the archive (absolute, '..' or '\\')");
    }

    /// The local header must agree with the directory's name; its extra field may differ, so it decides where data
    /// starts.
    void locate(ZipEntry& e) const {
        check(e.header_offset < directory_offset_ && directory_offset_ - e.header_offset >= 30 &&
                  le(e.header_offset, 4) == local_signature,
              "entry '", e.name, "' has no local header");
        const std::uint64_t name = le(e.header_offset + 26, 2), extra = le(e.header_offset + 28, 2);
        check(name == e.name.size() &&
                  text_.substr(static_cast<std::size_t>(e.header_offset + 30), e.name.size()) == e.name,
              "entry '", e.name, "' has another name in its local header");
        e.data_offset = e.header_offset + 30 + name + extra;
        check(e.data_offset <= directory_offset_ && e.packed_size <= directory_offset_ - e.data_offset, "entry '",
              e.name, "' runs into the directory");
    }

    void check_overlap(const std::vector<ZipEntry>& entries) const {
        std::vector<const ZipEntry*> order;
        for (const ZipEntry& e : entries) order.push_back(&e);
        std::sort(order.begin(), order.end(),
                  [](const ZipEntry* a, const ZipEntry* b) { return a->header_offset < b->header_offset; });
        for (std::size_t i = 1; i < order.size(); ++i)
            check(order[i - 1]->data_offset + order[i - 1]->packed_size <= order[i]->header_offset, "entries '",
                  order[i - 1]->name, "' and '", order[i]->name, "' overlap");
    }

    const FileBytes& file_;
    std::string_view text_;
    std::uint64_t count_ = 0, directory_size_ = 0, directory_offset_ = 0;
};

inline std::vector<ZipEntry> read_zip_directory(const FileBytes& file) { return ZipDirectory(file).read(); }

}  // namespace promptkd::detail
