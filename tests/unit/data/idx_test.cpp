// SPDX-License-Identifier: Apache-2.0
#include "support/temporary_folder.hpp"

#include <promptkd/data/idx.hpp>

#include <doctest/doctest.h>

#include <cstdlib>

namespace idx_test {

namespace {

using namespace promptkd;
using promptkd::test::TemporaryFolder;

std::string idx_bytes(std::uint32_t magic, const std::vector<std::uint32_t>& extents, const std::string& data) {
    std::string bytes;
    const auto put = [&](std::uint32_t x) {
        for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(x >> shift);
    };
    put(magic);
    for (const std::uint32_t extent : extents) put(extent);
    return bytes + data;
}

void write_gzip(const std::string& path, const std::string& bytes) {
    gzFile file = gzopen(path.c_str(), "wb");
    REQUIRE(file != nullptr);
    CHECK(gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size())) == static_cast<int>(bytes.size()));
    CHECK(gzclose(file) == Z_OK);
}

std::string fashion_root() {
    const char* root = std::getenv("PROMPTKD_FASHION_MNIST");
    return root ? root : "/usr/share/datasets/fashion-mnist";
}

/// Writes a tiny Fashion-MNIST: 2 training images of 1×3.
void write_tiny(const TemporaryFolder& folder, const std::string& labels) {
    write_gzip(folder / "train-images-idx3-ubyte.gz",
               idx_bytes(0x803, {2, 1, 3}, std::string("\x01\x02\x03\xff\x80\x00", 6)));
    write_atomically(folder / "train-labels-idx1-ubyte",
                     idx_bytes(0x801, {static_cast<std::uint32_t>(labels.size())}, labels));
}

TEST_CASE("idx: compressed and plain files are read, grey becomes RGB") {
    const TemporaryFolder folder;
    write_tiny(folder, std::string("\x09\x00", 2));
    const Dataset data = load_fashion_mnist(folder.path(), Split::train);
    REQUIRE(data.size() == 2);
    CHECK(data.label(0) == 9);
    CHECK(data.class_names[9] == "Ankle boot");
    CHECK(data.item_name(1).find("train-images-idx3-ubyte.gz#1") != std::string::npos);
    const Image image = data.load(1);
    CHECK(image.height == 1);
    CHECK(image.width == 3);
    CHECK(image.pixels == std::vector<std::uint8_t>{255, 255, 255, 128, 128, 128, 0, 0, 0});
    CHECK_THROWS_WITH_AS(data.load(2), doctest::Contains("image 2 does not exist"), Error);
    CHECK_THROWS_WITH_AS(load_fashion_mnist(folder.path(), Split::test), doctest::Contains("t10k-images"), Error);
}

TEST_CASE("idx: Fashion-MNIST as Debian ships it") {
    const Dataset test = load_fashion_mnist(fashion_root(), Split::test);
    CHECK(test.size() == 10000);
    CHECK(test.classes() == 10);
    CHECK(test.labelled());
    std::vector<Index> count(10);
    for (Index i = 0; i < test.size(); ++i) ++count[static_cast<std::size_t>(test.label(i))];
    CHECK(count == std::vector<Index>(10, 1000));
    CHECK(test.load(0).height == 28);
    CHECK(test.load(0).width == 28);
    CHECK(test.label(0) == 9);
    CHECK(load_fashion_mnist(fashion_root(), Split::train).size() == 60000);
}

TEST_CASE("idx: labels that do not fit are refused") {
    const TemporaryFolder folder;
    write_tiny(folder, "\x01");
    CHECK_THROWS_WITH_AS(load_fashion_mnist(folder.path(), Split::train), doctest::Contains("2 images but"), Error);
    write_tiny(folder, "\x01\x0a");
    CHECK_THROWS_WITH_AS(load_fashion_mnist(folder.path(), Split::train),
                         doctest::Contains("label 10 of image 1 is outside 0 … 9"), Error);
}

TEST_CASE("idx: malformed files are refused with file and numbers") {
    const TemporaryFolder folder;
    const std::string path = folder / "x";
    const auto refused = [&](const std::string& bytes, const std::string& expected) {
        write_atomically(path, bytes);
        CAPTURE(expected);
        CHECK_THROWS_WITH_AS(read_idx(path, 3), doctest::Contains(expected.c_str()), Error);
        CHECK_THROWS_WITH_AS(read_idx(path, 3), doctest::Contains(path.c_str()), Error);
    };
    refused("", "truncated in the header");
    refused("\x00\x00", "truncated in the header");
    refused(idx_bytes(0x803, {2, 2}, ""), "truncated in the header");
    refused(idx_bytes(0x801, {2, 1, 1}, "ab"), "magic number 2049, expected 2051");
    refused(idx_bytes(0x803, {0, 1, 1}, ""), "dimension 0 of 0");
    refused(idx_bytes(0x803, {0xffffffff, 0xffffffff, 0xffffffff}, "ab"), "dimension 1 of 4294967295");
    refused(idx_bytes(0x803, {65536, 256, 257}, "ab"), "dimension 2 of 257 is zero or too large");
    refused(idx_bytes(0x803, {1, 65536, 65536}, "ab"), "truncated: 2 bytes of data, the header promises 4294967296");
    refused(idx_bytes(0x803, {2, 1, 3}, "abcde"), "truncated: 5 bytes of data, the header promises 6");
    refused(idx_bytes(0x803, {2, 1, 3}, "abcdefg"), "more data than the 6 bytes");
    CHECK_THROWS_WITH_AS(read_idx(folder / "absent", 3), doctest::Contains("No such file"), Error);
    CHECK_THROWS_WITH_AS(read_idx(folder.path(), 3), doctest::Contains("it is a folder"), Error);
}

TEST_CASE("idx: damaged and truncated compressed files are refused") {
    const TemporaryFolder folder;
    std::string data;
    for (unsigned i = 0; i < 30000; ++i) data += static_cast<char>(i * i * 7 + i / 13);
    write_gzip(folder / "x.gz", idx_bytes(0x803, {100, 30, 10}, data));
    CHECK(read_idx(folder / "x.gz", 3).bytes.size() == 30000);
    const std::string bytes = read_file(folder / "x.gz");
    for (const std::size_t cut : {bytes.size() - 1, bytes.size() - 9, bytes.size() / 2, std::size_t{12}}) {
        write_atomically(folder / "cut.gz", bytes.substr(0, cut));
        CAPTURE(cut);
        CHECK_THROWS_AS(read_idx(folder / "cut.gz", 3), Error);
    }
    std::string flipped = bytes;
    flipped[bytes.size() - 6] = static_cast<char>(flipped[bytes.size() - 6] ^ 1);  // the checksum
    write_atomically(folder / "flipped.gz", flipped);
    CHECK_THROWS_WITH_AS(read_idx(folder / "flipped.gz", 3), doctest::Contains("damaged or truncated"), Error);
}

}  // namespace

}  // namespace idx_test
