// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/format/file.hpp>

#include <openssl/evp.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace promptkd {

/// SHA-256 (FIPS 180-4) of bytes that arrive in parts, by OpenSSL's libcrypto. Throws Error when the library refuses
/// to start (SHA-256 switched off by its configuration).
class Sha256 {
public:
    Sha256() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
        check(context_ != nullptr && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
    }

    /// Appends `size` bytes.
    void add(const void* bytes, std::size_t size) { check(EVP_DigestUpdate(context_.get(), bytes, size) == 1); }

    /// Appends a text and its length, so that "ab", "c" differ from "a", "bc".
    void add_text(std::string_view text) {
        const std::uint64_t size = text.size();
        add(&size, sizeof size);
        add(text.data(), text.size());
    }

    /// The digest, 64 hexadecimal digits; nothing may be added after it.
    std::string finish() {
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned size = 0;
        check(EVP_DigestFinal_ex(context_.get(), digest, &size) == 1);
        std::string text;
        for (unsigned i = 0; i < size; ++i) {
            constexpr const char* digits = "0123456789abcdef";
            text += digits[digest[i] >> 4];
            text += digits[digest[i] & 15];
        }
        return text;
    }

private:
    static void check(bool good) { require(good, "SHA-256: OpenSSL's libcrypto cannot compute it on this machine"); }

    std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context_;
};

/// SHA-256 of a file; of a folder, that of the digests and names of its files, sorted (folders inside are left out).
/// Throws Error when something cannot be read.
inline std::string fingerprint(const std::string& path) {
    namespace fs = std::filesystem;
    Sha256 sum;
    std::error_code ignored;  // what cannot be looked at cannot be opened either
    if (!fs::is_directory(path, ignored)) {
        const auto file = MappedFile::open(path);
        sum.add(file->data(), file->size());
        return sum.finish();
    }
    std::vector<std::string> names;
    std::error_code code;
    for (fs::directory_iterator entry(path, code); !code && entry != fs::directory_iterator(); entry.increment(code))
        if (entry->is_regular_file(ignored)) names.push_back(entry->path().filename().string());
    if (code) detail::fail_errno("cannot read folder", path, code.value());
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
        const std::string line = fingerprint(path + "/" + name) + "  " + name + "\n";
        sum.add(line.data(), line.size());
    }
    return sum.finish();
}

}  // namespace promptkd
