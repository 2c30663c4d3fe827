// SPDX-License-Identifier: Apache-2.0
#include "support/hostile_files.hpp"

#include <promptkd/format/sha256.hpp>

namespace sha256_test {

namespace {

using namespace promptkd;

std::string sum_of(const std::string& bytes, std::size_t part = 0) {
    Sha256 sum;
    if (part == 0) part = bytes.size() + 1;
    for (std::size_t at = 0; at < bytes.size(); at += part) {
        const std::string piece = bytes.substr(at, part);
        sum.add(piece.data(), piece.size());
    }
    return sum.finish();
}

TEST_CASE("sha256: the standard's examples") {
    CHECK(sum_of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(sum_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(sum_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    CHECK(sum_of(std::string(1000000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("sha256: parts of any size give what the whole gives") {
    std::string bytes;
    for (int i = 0; i < 200; ++i) {
        for (const std::size_t part : {1u, 7u, 63u, 64u, 65u}) CHECK(sum_of(bytes, part) == sum_of(bytes));
        bytes += static_cast<char>(i * 37);
    }
}

TEST_CASE("fingerprint: files and folders") {
    const test::TemporaryFolder folder;
    write_atomically(folder / "b", "abc");
    CHECK(fingerprint(folder / "b") == sum_of("abc"));
    const std::string one = fingerprint(folder.path());
    CHECK(one == sum_of(sum_of("abc") + "  b\n"));
    write_atomically(folder / "a", "abc");
    CHECK(fingerprint(folder.path()) != one);
    CHECK_THROWS_AS(fingerprint(folder / "missing"), Error);
}

}  // namespace

}  // namespace sha256_test
