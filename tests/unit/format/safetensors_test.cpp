// SPDX-License-Identifier: Apache-2.0
#include <promptkd/format/safetensors.hpp>

#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace safetensors_test {

namespace {

using namespace promptkd;

/// A folder of its own, removed with everything in it.
class TemporaryFolder {
public:
    TemporaryFolder() {
        std::string name = (std::filesystem::temp_directory_path() / "promptkd-safetensors-XXXXXX").string();
        REQUIRE(mkdtemp(name.data()) != nullptr);
        path_ = name;
    }
    ~TemporaryFolder() { std::filesystem::remove_all(path_); }
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }

private:
    std::string path_;
};

/// A safetensors file with this header text and `data` zero bytes; `length` overrides the stored header length.
std::string raw_file(const std::string& path, const std::string& header, std::size_t data, long long length = -1) {
    std::ofstream out(path, std::ios::binary);
    const unsigned long long stored = length < 0 ? header.size() : static_cast<unsigned long long>(length);
    for (int i = 0; i < 8; ++i) out.put(static_cast<char>(stored >> (8 * i)));
    out << header << std::string(data, '\0');
    return path;
}

std::string error_of(const std::string& path) {
    try {
        read_safetensors(path);
    } catch (const Error& error) {
        return error.what();
    }
    return "no error";
}

/// Checks that reading a file with this header fails with a message that names the file and contains `expected`.
void check_refused(const std::string& header, std::size_t data, const std::string& expected) {
    const TemporaryFolder folder;
    const std::string path = raw_file(folder / "bad.safetensors", header, data);
    const std::string message = error_of(path);
    CAPTURE(header.substr(0, 200));
    CAPTURE(message);
    CHECK(message.find(expected) != std::string::npos);
    CHECK(message.find(path) != std::string::npos);
}

std::string one_tensor(const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"w":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

TEST_CASE("safetensors: what is written is read back, for every type") {
    const TemporaryFolder folder;
    TensorMap map;
    map.tensors["f64"] = make_tensor<double>({1.5, -2.5}, {2});
    map.tensors["f32"] = make_tensor<float>({1, 2, 3, 4, 5, 6}, {2, 3});
    map.tensors["f16"] = make_tensor<half>({half(0.5f), half(-3.0f), half(65504.0f)}, {3, 1});
    map.tensors["bf16"] = make_tensor<bf16>({bf16(1.0f)}, {});
    map.tensors["i64"] = make_tensor<std::int64_t>({-1, std::int64_t{1} << 62}, {2});
    map.tensors["i32"] = make_tensor<std::int32_t>({7}, {1});
    map.tensors["i16"] = make_tensor<std::int16_t>({-300}, {1});
    map.tensors["i8"] = make_tensor<std::int8_t>({-7, 9, 11}, {3});
    map.tensors["u8"] = make_tensor<std::uint8_t>({255}, {1});
    map.tensors["empty"] = make_tensor<float>({}, {0, 4});
    map.tensors["bool"] = make_tensor<std::uint8_t>({1, 0, 1}, {3});
    map.tensors["bool"].dtype = DType::boolean;
    map.metadata = {{"kind", "test"}, {"text", "line\nquote\" \\ \xC3\xA9"}};
    write_safetensors(folder / "a.safetensors", map);

    const TensorMap back = read_safetensors(folder / "a.safetensors");
    CHECK(back.metadata == map.metadata);
    CHECK(back.source == folder / "a.safetensors");
    REQUIRE(back.tensors.size() == map.tensors.size());
    for (const auto& named : map.tensors) {
        const std::string& name = named.first;
        const HostTensor& tensor = named.second;
        CAPTURE(name);
        const HostTensor& got = back.at(name, tensor.shape);
        CHECK(got.dtype == tensor.dtype);
        CHECK(reinterpret_cast<std::uintptr_t>(got.bytes) % size_of(got.dtype) == 0);
        if (tensor.count() > 0) CHECK(std::memcmp(got.bytes, tensor.bytes, tensor.size_bytes()) == 0);
    }
}

TEST_CASE("safetensors: output is deterministic and padded to 8 bytes") {
    const TemporaryFolder folder;
    TensorMap map;
    map.tensors["b"] = make_tensor<float>({1, 2}, {2});
    map.tensors["a"] = make_tensor<std::uint8_t>({1, 2, 3}, {3});
    map.metadata = {{"k", "v"}};
    write_safetensors(folder / "1", map);
    write_safetensors(folder / "2", read_safetensors(folder / "1"));
    const std::string first = read_file(folder / "1");
    CHECK(first == read_file(folder / "2"));
    const auto length = static_cast<std::size_t>(static_cast<unsigned char>(first[0])) +
                        256 * static_cast<std::size_t>(static_cast<unsigned char>(first[1]));
    CHECK(length % 8 == 0);
    const std::string header = R"({"__metadata__":{"k":"v","promptkd.digest":")" + digest_of(map) +
                               R"(","promptkd.has_digest":"yes"},)"
                               R"("b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                               R"("a":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})";
    CHECK(first.substr(8, header.size()) == header);
    CHECK(first.substr(8 + header.size(), length - header.size()).find_first_not_of(' ') == std::string::npos);
}

TEST_CASE("safetensors: the tensors outlive the map, and a file may be rewritten from its own tensors") {
    const TemporaryFolder folder;
    HostTensor kept;
    {
        TensorMap map;
        map.tensors["x"] = make_tensor<float>({3, 4}, {2});
        write_safetensors(folder / "x", map);
        map = read_safetensors(folder / "x");
        kept = map.at("x");
        map.tensors["y"] = make_tensor<float>({9}, {1});
        write_safetensors(folder / "x", map);
    }
    CHECK(kept.to<float>() == std::vector<float>{3, 4});
    CHECK(read_safetensors(folder / "x").at("x").to<float>() == std::vector<float>{3, 4});
    CHECK(read_safetensors(folder / "x").at("y").to<float>() == std::vector<float>{9});
}

TEST_CASE("safetensors: an empty file without tensors is valid") {
    const TemporaryFolder folder;
    write_safetensors(folder / "none", TensorMap{});
    CHECK(read_safetensors(folder / "none").tensors.empty());
}

TEST_CASE("safetensors: files of the published implementation are read") {
    for (const char* name : {"zero_shot", "promptkd.t1", "model.student"}) {
        const TensorMap map = read_safetensors(std::string(PROMPTKD_TEST_DATA) + "/golden/" + name + ".safetensors");
        CHECK_FALSE(map.tensors.empty());
        CHECK(map.source.find(name) != std::string::npos);
    }
}

TEST_CASE("safetensors: a missing or misshapen tensor is named") {
    const TemporaryFolder folder;
    TensorMap map;
    map.tensors["w"] = make_tensor<float>({3, 4}, {2});
    write_safetensors(folder / "x", map);
    map = read_safetensors(folder / "x");
    CHECK_THROWS_WITH_AS(map.at("v"), doctest::Contains("tensor 'v' is missing"), Error);
    CHECK_THROWS_WITH_AS(map.at("w", {1, 2}), doctest::Contains("(2), expected (1, 2)"), Error);
}

TEST_CASE("safetensors: truncated and foreign files are refused") {
    const TemporaryFolder folder;
    CHECK(error_of(folder / "absent").find("No such file") != std::string::npos);
    CHECK(error_of(folder / "").find("folder") != std::string::npos);
    write_atomically(folder / "short", "1234567");
    CHECK(error_of(folder / "short").find("7 bytes are too few") != std::string::npos);
    write_atomically(folder / "zero", "");
    CHECK(error_of(folder / "zero").find("0 bytes are too few") != std::string::npos);
    CHECK(error_of(raw_file(folder / "h", "{}", 0, 3)).find("header of 3 bytes in a file of 10") != std::string::npos);
    CHECK(error_of(raw_file(folder / "h", "{}", 0, 100'000'001)).find("limit of 100000000") != std::string::npos);
    CHECK(error_of(raw_file(folder / "h", "{}", 0, 0x7fffffffffffffff)).find("limit") != std::string::npos);
    CHECK(error_of(raw_file(folder / "h", "[]", 0)).find("does not start with '{'") != std::string::npos);
    CHECK(error_of(raw_file(folder / "h", "", 4)).find("does not start with '{'") != std::string::npos);
    write_atomically(folder / "lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n");
    CHECK(error_of(folder / "lfs").find("Git LFS pointer") != std::string::npos);
    write_atomically(folder / "html", "\n<!DOCTYPE HTML><html><title>404</title></html>");
    CHECK(error_of(folder / "html").find("HTML page") != std::string::npos);
}

TEST_CASE("safetensors: a file in memory is the file, and outlives the bytes it was read from") {
    const TemporaryFolder folder;
    TensorMap written;
    written.tensors["a"] = make_tensor(std::vector<float>{1, 2, 3}, {3});
    written.metadata["note"] = "of a file";
    write_safetensors(folder / "a.safetensors", written);
    std::string bytes = read_file(folder / "a.safetensors");
    const auto span = [&] { return std::as_bytes(std::span<const char>(bytes.data(), bytes.size())); };
    const TensorMap read = read_safetensors(span(), "the model inside");
    bytes[bytes.size() - 1] ^= 1;
    CHECK(read.at("a").to<float>() == std::vector<float>{1, 2, 3});
    CHECK(read.metadata.at("note") == "of a file");
    CHECK(read.source == "the model inside");
    std::string message;
    try {
        read_safetensors(span(), "the model inside");
    } catch (const Error& error) {
        message = error.what();
    }
    CHECK(message.find("the model inside: damaged or changed") != std::string::npos);
}

TEST_CASE("safetensors: every truncation of a valid file is refused") {
    const TemporaryFolder folder;
    TensorMap map;
    map.tensors["w"] = make_tensor<float>({3, 4}, {2});
    map.tensors["b"] = make_tensor<std::uint8_t>({1}, {1});
    write_safetensors(folder / "x", map);
    const std::string bytes = read_file(folder / "x");
    for (std::size_t n = 0; n < bytes.size(); ++n) {
        write_atomically(folder / "cut", std::string_view(bytes).substr(0, n));
        CAPTURE(n);
        CHECK_THROWS_AS(read_safetensors(folder / "cut"), Error);
    }
}

/// A small file of ours: two tensors, names and metadata that are not ASCII.
std::string written(const std::string& path) {
    TensorMap map;
    map.tensors["a"] = make_tensor(std::vector<float>{1, -2.5f, 0}, {3});
    map.tensors["b.caf\xc3\xa9"] = make_tensor(std::vector<std::uint8_t>{0, 255}, {1, 2});
    map.metadata["format"] = "test";
    map.metadata["note"] = "a \"quoted\" \xc3\xa9";
    write_safetensors(path, map);
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

TEST_CASE("safetensors: any flipped bit in a file of ours is found") {
    const TemporaryFolder folder;
    const std::string path = folder / "ours.safetensors", bytes = written(path);
    CHECK(error_of(path) == "no error");
    for (std::size_t i = 0; i < 8 * bytes.size(); ++i) {
        std::string damaged = bytes;
        damaged[i / 8] = static_cast<char>(damaged[i / 8] ^ (1 << i % 8));
        std::ofstream(path, std::ios::binary) << damaged;
        const std::string message = error_of(path);
        CHECK_MESSAGE(message.find(path) != std::string::npos, "bit ", i, ": ", message);
    }
}

TEST_CASE("safetensors: a digest says whether the contents are those that were written") {
    const TemporaryFolder folder;
    const std::string path = folder / "ours.safetensors";
    std::string bytes = written(path);
    const TensorMap map = read_safetensors(path);
    CHECK(map.metadata == std::map<std::string, std::string>{{"format", "test"}, {"note", "a \"quoted\" \xc3\xa9"}});
    bytes[bytes.size() - 1] = 3;
    std::ofstream(path, std::ios::binary) << bytes;
    CHECK(error_of(path).find(
              path + ": damaged or changed since it was written: its contents have the digest xxh3-128:") == 0);
    for (const char* key : {"promptkd.digest", "promptkd.has_digest"}) {
        std::string other = bytes;
        other.replace(other.find(concat("\"", key, "\"")) + 1, 1, "q");
        std::ofstream(path, std::ios::binary) << other;
        CHECK(error_of(path).find("one of the two entries about its digest is missing") != std::string::npos);
    }
}

TEST_CASE("safetensors: metadata that is not UTF-8 is escaped") {
    const TemporaryFolder folder;
    TensorMap map;
    map.metadata["file"] = "x\xff.png";
    write_safetensors(folder / "m", map);
    CHECK(read_safetensors(folder / "m").metadata.at("file") == "x\\xff.png");
}

TEST_CASE("safetensors: malformed headers are refused with file, tensor and numbers") {
    const std::string good = R"("dtype":"F32","shape":[1],"data_offsets":[0,4])";
    check_refused("{", 0, "not valid JSON");
    check_refused("{}x", 0, "not valid JSON");
    check_refused("{\"\xff\":1}", 0, "not valid JSON");
    check_refused(R"({"w":3})", 0, "'w' must be an object, found the number 3");
    check_refused(R"({"w":[]})", 0, "'w' must be an object, found an array");
    check_refused(R"({"w":{)" + good + R"(},"w":{)" + good + "}}", 4, "duplicate tensor name 'w'");
    check_refused(R"({"w":{"dtype":"F32",)" + good + "}}", 4, "duplicate field 'dtype'");
    check_refused(R"({"w":{"extra":1,)" + good + "}}", 4, "unknown field 'extra'");
    check_refused(R"({"w":{"dtype":"F32","shape":[1]}})", 4, "'data_offsets' is missing");
    check_refused(R"({"w":{"shape":[1],"data_offsets":[0,4]}})", 4, "'dtype' is missing");
    check_refused(R"({"w":{"dtype":"F32","data_offsets":[0,4]}})", 4, "'shape' is missing");
    check_refused(R"({"w":{"dtype":7,"shape":[1],"data_offsets":[0,4]}})", 4, "unexpected the number 7 in 'dtype'");
    check_refused(R"({"w":{"dtype":["F32"],"shape":[1],"data_offsets":[0,4]}})", 4, "unexpected an array in 'dtype'");
    check_refused(R"({"__metadata__":{"k":1}})", 0, "metadata 'k' must be a string");
    check_refused(R"({"__metadata__":{"k":{}}})", 0, "metadata 'k' must be a string");
    check_refused(R"({"__metadata__":"k"})", 0, "'__metadata__' must be an object");
    check_refused(R"({"__metadata__":{"k":"1","k":"2"}})", 0, "duplicate metadata key 'k'");
}

TEST_CASE("safetensors: shapes, types and offsets that disagree with the file are refused") {
    check_refused(one_tensor("F33", "[1]", "[0,4]"), 4, "tensor 'w': unknown dtype 'F33'");
    check_refused(one_tensor("F32", "[-1]", "[0,4]"), 4, "negative number -1");
    check_refused(one_tensor("F32", "[1.5]", "[0,4]"), 4, "the number 1.5");
    check_refused(one_tensor("F32", "[[1]]", "[0,4]"), 4, "unexpected an array");
    check_refused(one_tensor("F32", "[18446744073709551615]", "[0,4]"), 4, "overflows");
    check_refused(one_tensor("F32", "[18446744073709551616]", "[0,4]"), 4, "the number 18446744073709551616");
    check_refused(one_tensor("F32", "[4294967296,4294967296]", "[0,4]"), 4, "overflows");
    check_refused(one_tensor("F32", "[0,9223372036854775808]", "[0,0]"), 0, "overflows");
    check_refused(one_tensor("F32", "[1]", "[4,0]"), 4, "begin at 4 after their end 0");
    check_refused(one_tensor("F32", "[1]", "[0,8]"), 4, "end at 8 but the file holds 4");
    check_refused(one_tensor("F32", "[1]", "[0,18446744073709551615]"), 4, "but the file holds 4");
    check_refused(one_tensor("F32", "[2]", "[0,4]"), 4, "span 4 bytes, but shape (2) of F32 needs 8");
    check_refused(one_tensor("F32", "[1]", "[0]"), 4, "has 1 entries, expected 2");
    check_refused(one_tensor("F32", "[1]", "[0,4]"), 5, "1 bytes after the last tensor");
    check_refused(one_tensor("F32", "[1]", "[1,5]"), 5, "1 unused bytes before tensor 'w'");
    check_refused(
        R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
        6, "tensors 'a' and 'b' overlap at data byte 2");
}

TEST_CASE("safetensors: deep nesting and endless shapes are refused at once") {
    check_refused("{\"w\":" + std::string(1'000'000, '['), 0, "found an array");
    check_refused("{\"w\":{\"shape\":" + std::string(1'000'000, '['), 0, "unexpected an array");
    std::string shape = "[1";
    for (int i = 0; i < 100'000; ++i) shape += ",1";
    check_refused(one_tensor("F32", shape + "]", "[0,4]"), 4, "more than 32 entries");
}

TEST_CASE("safetensors: names that the format cannot hold are refused when writing") {
    const TemporaryFolder folder;
    TensorMap map;
    map.tensors["__metadata__"] = make_tensor<float>({1}, {1});
    CHECK_THROWS_WITH_AS(write_safetensors(folder / "x", map), doctest::Contains("__metadata__"), Error);
    TensorMap invalid;
    invalid.tensors["\xff"] = make_tensor<float>({1}, {1});
    CHECK_THROWS_WITH_AS(write_safetensors(folder / "x", invalid), doctest::Contains("not valid UTF-8"), Error);
    CHECK_FALSE(std::filesystem::exists(folder / "x"));
}

}  // namespace

}  // namespace safetensors_test
