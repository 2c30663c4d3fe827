// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/format/bytes.hpp>
#include <promptkd/format/crc32.hpp>
#include <promptkd/format/zip_directory.hpp>

#include <zip.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

namespace detail {

/// CRC-32 of `bytes`; a mapped file's pages are dropped behind the reader, so that checking a file does not make it
/// resident.
inline std::uint32_t checked_sum(const std::byte* bytes, std::size_t size, bool mapped) {
    constexpr std::size_t chunk = std::size_t{1} << 20;
    std::uint32_t sum = 0;
    for (std::size_t at = 0; at < size; at += chunk) {
        const std::size_t n = std::min(chunk, size - at);
        sum = crc32_of(sum, bytes + at, n);
        if (mapped) drop_pages(bytes + at, n);
    }
    return sum;
}

}  // namespace detail

/// A zip archive in memory. Stored entries are views into it; deflated ones are unpacked by libzip. The layout is
/// checked when it is opened: names without path tricks or duplicates, entries that neither overlap nor leave the file,
/// our reading of the directory equal to libzip's, and no entry that unpacks to an unreasonable size. Throws Error
/// naming file and entry.
class ZipArchive {
public:
    /// The contents of an entry.
    struct Bytes {
        const std::byte* data = nullptr;    ///< the first byte
        std::size_t size = 0;               ///< number of bytes
        std::shared_ptr<const void> owner;  ///< keeps them alive
        bool mapped = false;                ///< they lie in the mapped file: the entry is stored, not deflated
    };

    /// Whether a file that begins with `head` is a zip archive.
    static bool recognises(std::string_view head) { return head.substr(0, 4) == std::string_view("PK\x03\x04", 4); }

    /// Reads the directory. Throws Error when it is damaged.
    explicit ZipArchive(FileBytes file) : file_(std::move(file)), entries_(detail::read_zip_directory(file_)) {
        open_with_libzip();
        std::uint64_t unpacked = 0;
        for (std::size_t i = 0; i < entries_.size(); ++i) {
            const detail::ZipEntry& e = entries_[i];
            compare_with_libzip(i);
            require(index_.emplace(e.name, i).second, file_.path, ": two entries are called '", e.name, "'");
            if (e.method == ZIP_CM_STORE) continue;
            unpacked += e.size;  // sizes are below 2^63 and entries are few: no overflow
            require(e.size <= unpacked && unpacked <= limit(), file_.path, ": entry '", e.name,
                    "' and those before it unpack to ", unpacked, " bytes from a file of ", file_.size(),
                    "; refused as a zip bomb");
        }
    }

    /// Of the file.
    const std::string& path() const { return file_.path; }
    /// All entries, in the directory's order.
    const std::vector<detail::ZipEntry>& entries() const { return entries_; }
    /// Whether there is an entry of this name.
    bool contains(const std::string& name) const { return index_.count(name) != 0; }

    /// The bytes of one entry, their CRC checked. Throws Error when it is missing or damaged.
    Bytes read(const std::string& name) const {
        const auto it = index_.find(name);
        require(it != index_.end(), file_.path, ": the archive has no entry '", name, "'");
        const detail::ZipEntry& e = entries_[it->second];
        if (e.method != ZIP_CM_STORE) return unpack(it->second);
        const std::byte* data = file_.data() + e.data_offset;
        const std::uint32_t sum = detail::checked_sum(data, static_cast<std::size_t>(e.size), file_.mapped);
        require(sum == e.crc, file_.path, ": entry '", name, "' is damaged (wrong CRC)");
        return {data, static_cast<std::size_t>(e.size), file_.owner, file_.mapped};
    }

private:
    using Handle = std::unique_ptr<zip_t, void (*)(zip_t*)>;

    /// Weights shrink by a few per cent; constants by much. 1 GiB of zeros in a small file is still refused.
    std::uint64_t limit() const { return (std::uint64_t{64} << 20) + 64 * static_cast<std::uint64_t>(file_.size()); }

    void open_with_libzip() {
        zip_error_t error;
        zip_error_init(&error);
        zip_source_t* source = zip_source_buffer_create(file_.data(), file_.size(), 0, &error);
        zip_t* opened = source ? zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, &error) : nullptr;
        const std::string reason = opened ? "" : zip_error_strerror(&error);
        if (!opened && source) zip_source_free(source);
        zip_error_fini(&error);
        require(opened != nullptr, file_.path, ": damaged zip archive: ", reason);
        handle_ = Handle(opened, &zip_discard);
        require(zip_get_num_entries(opened, 0) == static_cast<zip_int64_t>(entries_.size()), file_.path,
                ": damaged zip archive: ", entries_.size(), " entries in its directory, libzip finds ",
                zip_get_num_entries(opened, 0));
    }

    void compare_with_libzip(std::size_t i) const {
        const detail::ZipEntry& e = entries_[i];
        zip_stat_t s;
        zip_stat_init(&s);
        const bool same = zip_stat_index(handle_.get(), i, ZIP_FL_ENC_RAW, &s) == 0 && e.name == s.name &&
                          s.size == e.size && s.comp_size == e.packed_size && s.comp_method == e.method &&
                          s.crc == e.crc;
        require(same, file_.path, ": damaged zip archive: entry '", e.name, "' reads differently through libzip");
        require(s.encryption_method == ZIP_EM_NONE, file_.path, ": entry '", e.name, "' is encrypted");
        require(e.method == ZIP_CM_STORE || e.method == ZIP_CM_DEFLATE, file_.path, ": entry '", e.name,
                "' is packed with method ", e.method, ", which torch does not use");
        require(e.method != ZIP_CM_STORE || e.size == e.packed_size, file_.path, ": entry '", e.name,
                "' is stored, but its two sizes differ");
    }

    Bytes unpack(std::size_t i) const {
        const detail::ZipEntry& e = entries_[i];
        const std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> in(zip_fopen_index(handle_.get(), i, 0), &zip_fclose);
        require(in != nullptr, file_.path, ": entry '", e.name, "' cannot be opened: ", zip_strerror(handle_.get()));
        auto bytes = std::make_shared<std::vector<std::byte>>(static_cast<std::size_t>(e.size));
        std::size_t used = 0;
        while (used < bytes->size()) {
            const zip_int64_t got = zip_fread(in.get(), bytes->data() + used, bytes->size() - used);
            require(got > 0, file_.path, ": entry '", e.name,
                    "' is damaged: ", got < 0 ? zip_file_strerror(in.get()) : "too short");
            used += static_cast<std::size_t>(got);
        }
        std::byte beyond;
        require(zip_fread(in.get(), &beyond, 1) == 0, file_.path, ": entry '", e.name,
                "' is damaged: longer than its directory says, or wrong CRC");
        require(detail::checked_sum(bytes->data(), bytes->size(), false) == e.crc, file_.path, ": entry '", e.name,
                "' is damaged (wrong CRC)");
        Bytes out{bytes->data(), bytes->size(), nullptr, false};
        out.owner = std::move(bytes);
        return out;
    }

    FileBytes file_;
    std::vector<detail::ZipEntry> entries_;
    std::map<std::string, std::size_t> index_;
    Handle handle_{nullptr, &zip_discard};
};

}  // namespace promptkd
