// SPDX-License-Identifier: Apache-2.0
#include "support/hostile_files.hpp"

#include <promptkd/format/torch_archive.hpp>
#include <promptkd/format/torch_writer.hpp>

namespace torch_archive_test {

namespace {

using namespace promptkd;
using test::error_of;
using test::little_endian;
using test::make_zip;
using test::TemporaryFolder;
using test::ZipPart;

const std::string formats = std::string(PROMPTKD_TEST_DATA) + "/formats/";
const std::string proto("\x80\x02", 2);

std::string text(const std::string& s) { return "X" + little_endian(s.size(), 4) + s; }
std::string number(long long n) { return "\x8a\x08" + little_endian(static_cast<unsigned long long>(n), 8); }
std::string tuple(const std::vector<long long>& values) {
    std::string out = "(";
    for (const long long value : values) out += number(value);
    return out + "t";
}

/// The opcodes of one tensor in storage "0".
std::string tensor(const std::string& type, long long count, long long offset, const std::vector<long long>& size,
                   const std::vector<long long>& stride, const std::string& function = "_rebuild_tensor_v2") {
    return "ctorch._utils\n" + function + "\n((" + text("storage") + "ctorch\n" + type + "\n" + text("0") +
           text("cpu") + number(count) + "tQ" + number(offset) + tuple(size) + tuple(stride) + "\x89}tR";
}

/// A torch zip {"w": <tensor opcodes>} whose storage "0" is `data`.
std::string archive(const std::string& value, const std::string& data) {
    return make_zip({{"m/data.pkl", proto + "}" + text("w") + value + "s."}, {"m/data/0", data}, {"m/version", "3\n"}});
}

std::string floats(const std::vector<float>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

TensorMap read(const std::string& bytes) {
    const auto kept = std::make_shared<const std::string>(bytes);
    return read_torch(FileBytes{"some.pt", *kept, kept, false});
}

void check_refused(const std::string& bytes, const std::string& expected) {
    const std::string message = error_of([&] { read(bytes); });
    CAPTURE(message);
    CHECK(message.find("some.pt: ") == 0);
    CHECK(message.find(expected) != std::string::npos);
}

TEST_CASE("torch: the three forms hold the same tensors") {
    const TensorMap script = read_torch(formats + "openai.pt"), legacy = read_torch(formats + "state_dict_legacy.pt");
    CHECK(script.metadata.at("file_format") == "TorchScript archive");
    CHECK(legacy.metadata.at("file_format") == "torch legacy pickle");
    CHECK(script.tensors.size() == 65);
    CHECK(legacy.tensors.size() == 62);
    CHECK(script.at("vocab_size").dtype == DType::i64);
    CHECK(script.at("visual.proj").dtype == DType::f16);
    CHECK(script.at("visual.proj").mapped);
    CHECK(legacy.at("visual.proj").dtype == DType::f32);
    for (const auto& named : legacy.tensors) {
        CAPTURE(named.first);
        CHECK(script.at(named.first, named.second.shape).to<half>().size() == named.second.to<half>().size());
        const std::vector<float> a = script.at(named.first).to<float>(), b = named.second.to<float>();
        for (std::size_t i = 0; i < a.size(); i += 97)
            CHECK(static_cast<float>(half(a[i])) == static_cast<float>(half(b[i])));
    }
}

TEST_CASE("torch: what is written is read back, bit for bit") {
    const TemporaryFolder folder;
    TensorMap map;
    map.tensors["f"] = make_tensor<float>({1, 2, 3, 4, 5, 6}, {2, 3});
    map.tensors["h"] = make_tensor<half>({half(0.5f)}, {1, 1, 1});
    map.tensors["n"] = make_tensor<std::int64_t>({1ll << 40}, {});
    map.tensors["b"] = make_tensor<bf16>({bf16(2.0f), bf16(3.0f)}, {2});
    map.tensors["none"] = make_tensor<double>({}, {0, 4});
    write_torch_checkpoint(folder / "a.pth", map.tensors, 20, {{"learner", "coop"}});
    const TensorMap back = read_torch(folder / "a.pth");
    CHECK(back.metadata.at("epoch") == "20");
    CHECK(back.metadata.at("learner") == "coop");
    REQUIRE(back.tensors.size() == map.tensors.size());
    for (const auto& named : map.tensors) {
        const HostTensor& got = back.at(named.first, named.second.shape);
        CHECK(got.dtype == named.second.dtype);
        if (got.count() > 0) {
            CHECK(reinterpret_cast<std::uintptr_t>(got.bytes) % 64 == 0);
            CHECK(std::memcmp(got.bytes, named.second.bytes, got.size_bytes()) == 0);
        }
    }
    write_torch_checkpoint(folder / "b.pth", back.tensors, 20, {{"learner", "coop"}});
    CHECK(read_file(folder / "a.pth") == read_file(folder / "b.pth"));
}

TEST_CASE("torch: views are read through their strides and offsets") {
    const std::string data = floats({0, 1, 2, 3, 4, 5, 6, 7});
    CHECK(read(archive(tensor("FloatStorage", 8, 2, {2, 3}, {3, 1}), data)).at("w").to<float>() ==
          std::vector<float>{2, 3, 4, 5, 6, 7});
    CHECK(read(archive(tensor("FloatStorage", 8, 0, {3, 2}, {1, 3}), data)).at("w").to<float>() ==
          std::vector<float>{0, 3, 1, 4, 2, 5});
    CHECK(read(archive(tensor("FloatStorage", 8, 7, {2, 2}, {0, 0}), data)).at("w").to<float>() ==
          std::vector<float>{7, 7, 7, 7});
    CHECK(read(archive(tensor("FloatStorage", 8, 3, {}, {}), data)).at("w").to<float>() == std::vector<float>{3});
    CHECK(read(archive(tensor("FloatStorage", 8, 9, {0, 4}, {4, 1}), data)).at("w").count() == 0);
    const std::string parameter =
        "ctorch._utils\n_rebuild_parameter\n(" + tensor("FloatStorage", 8, 1, {2}, {1}) + "\x88}tR";
    CHECK(read(archive(parameter, data)).at("w").to<float>() == std::vector<float>{1, 2});
}

TEST_CASE("torch: views that leave their storage are refused") {
    const std::string data = floats({0, 1, 2, 3});
    const auto refused = [&](const std::string& type, long long count, long long offset,
                             const std::vector<long long>& size, const std::vector<long long>& stride,
                             const std::string& expected) {
        check_refused(archive(tensor(type, count, offset, size, stride), data), "tensor 'w': " + expected);
    };
    refused("FloatStorage", 4, 1, {2, 2}, {2, 1},
            "size (2, 2) with its strides from offset 1 on reaches element 4 of a storage of 4");
    refused("FloatStorage", 4, 4, {1}, {1}, "size (1)");
    refused("FloatStorage", 4, -1, {1}, {1}, "storage offset is -1");
    refused("FloatStorage", 4, 0, {-2}, {1}, "size is -2");
    refused("FloatStorage", 4, 0, {2}, {-1}, "stride is -1");
    refused("FloatStorage", 4, 0, {2, 2}, {1}, "2 sizes but 1 strides");
    refused("FloatStorage", 4, 0, {1ll << 40, 1ll << 40}, {0, 0}, "the size (1099511627776, 1099511627776) overflows");
    refused("FloatStorage", 4, 1ll << 62, {1}, {1}, "size (1)");
    refused("FloatStorage", 4, 0, {3}, {1ll << 61}, "size (3)");
    refused("FloatStorage", 4, 0, {9}, {1ll << 62}, "the stride 4611686018427387904 overflows");
    refused("FloatStorage", 4, 0, {1ll << 40}, {0}, "size (1099511627776) repeats a storage of 4 elements");
    refused("FloatStorage", 4, 0, std::vector<long long>(33, 1), std::vector<long long>(33, 1), "size has 33 entries");
    refused("FloatStorage", 5, 0, {4}, {1}, "its storage '0' has 16 bytes, but 5 elements of f32 are 20");
    refused("DoubleStorage", 4, 0, {4}, {1}, "its storage '0' has 16 bytes, but 4 elements of f64 are 32");
    refused("ComplexFloatStorage", 2, 0, {2}, {1}, "storage type 'torch.ComplexFloatStorage' is not supported");
    refused("QUInt8Storage", 4, 0, {4}, {1}, "storage type 'torch.QUInt8Storage' is not supported");
}

TEST_CASE("torch: tensors of other kinds and malformed descriptions are refused") {
    const std::string data = floats({0, 1, 2, 3});
    check_refused(archive(tensor("FloatStorage", 4, 0, {4}, {1}, "_rebuild_qtensor"), data),
                  "tensor 'w' is of a kind that is not supported (torch._utils._rebuild_qtensor)");
    check_refused(archive("ctorch._utils\n_rebuild_tensor_v2\n)R", data), "0 parts, too few");
    check_refused(archive("ctorch._utils\n_rebuild_tensor_v2\n(NNNNtR", data), "not a torch storage");
    check_refused(archive("ctorch._utils\n_rebuild_tensor_v2\n((" + text("module") + "NNNNtQNNNtR", data),
                  "persistent id");
    check_refused(make_zip({{"m/data.pkl", proto + "K\x01."}}), "neither a dictionary of tensors nor a module");
    check_refused(make_zip({{"m/data.pkl", proto + "}" + text("w") + tensor("FloatStorage", 4, 0, {4}, {1}) + "s."}}),
                  "no entry 'm/data/0'");
    std::string chain = tensor("FloatStorage", 4, 0, {4}, {1});
    for (int i = 0; i < 6; ++i) chain = "ctorch._utils\n_rebuild_parameter\n(" + chain + "\x88}tR";
    check_refused(archive(chain, data), "a parameter of a parameter");
}

TEST_CASE("torch: calls in a pickle are skipped, never made") {
    const TemporaryFolder folder;
    const std::string witness = folder / "witness";
    const std::string call = "cos\nsystem\n" + text("touch " + witness) + "\x85R";
    const std::string data = floats({0, 1, 2, 3});
    const TensorMap map = read(make_zip(
        {{"m/data.pkl", proto + "}(" + text("evil") + call + text("w") + tensor("FloatStorage", 4, 0, {4}, {1}) + "u."},
         {"m/data/0", data}}));
    CHECK(map.tensors.size() == 1);
    CHECK_FALSE(std::filesystem::exists(witness));
}

TEST_CASE("torch: module trees that are deep or refer to themselves end with an error") {
    const std::string object = "c__torch__\nRoot\n)\x81q" + std::string(1, '\0');
    check_refused(make_zip({{"m/data.pkl", proto + object + "}" + text("self") + "h" + std::string(1, '\0') + "sb."}}),
                  "modules nest deeper than 64");
    std::string wide = proto + object + "}(";
    for (int i = 0; i < 8; ++i) wide += text("a" + std::to_string(i)) + "h" + std::string(1, '\0');
    check_refused(make_zip({{"m/data.pkl", wide + "ub."}}), "modules");
    const TensorMap nested =
        read(make_zip({{"m/data.pkl", proto + "c__torch__\nRoot\n)\x81}" + text("layer") + "c__torch__\nInner\n)\x81}" +
                                          text("weight") + tensor("FloatStorage", 1, 0, {}, {}) + "sbsb."},
                       {"m/data/0", floats({5})}}));
    CHECK(nested.at("layer.weight").to<float>() == std::vector<float>{5});
}

TEST_CASE("zip: path tricks, duplicates and lies about the layout are refused") {
    for (const std::string name : {"/etc/passwd", "../m/data.pkl", "m/../../x", "m\\data.pkl", "C:/x", "m/.."})
        check_refused(make_zip({{name, "x"}}), "leaves the archive");
    check_refused(make_zip({{"m/a", "x"}, {"m/a", "y"}}), "");
    check_refused(make_zip({{"m/a", "x", -1, -1, -1, false, "m/b"}}), "another name in its local header");
    check_refused(make_zip({{"m/a", "xxxxxxxxxx"}, {"m/b", "y", -1, -1, 0, false}}), "");
    check_refused(make_zip({{"m/a", "x", 5}}), "");
    check_refused(make_zip({{"m/a", "x"}}), "no entry 'FOLDER/data.pkl'");
    check_refused(make_zip({{"m/data.pkl", "x"}, {"n/data.pkl", "y"}}), "more than one");
    const std::string good = archive(tensor("FloatStorage", 4, 0, {4}, {1}), floats({0, 1, 2, 3}));
    CHECK(read(good).tensors.size() == 1);
    for (std::size_t n = 0; n < good.size(); n += 7) CHECK_THROWS_AS(read(good.substr(0, n)), Error);
    check_refused(good + "x", "no end record");
}

TEST_CASE("zip: overlapping entries are refused") {
    // The second entry lies inside the data of the first.
    const std::string inner = "PK\x03\x04" + little_endian(20, 2) + little_endian(0, 4) + little_endian(0x210000, 4) +
                              little_endian(test::crc_of("y"), 4) + little_endian(1, 4) + little_endian(1, 4) +
                              little_endian(3, 2) + little_endian(0, 2) + "m/by";
    check_refused(make_zip({{"m/a", inner + "rest"}, {"m/b", "y", -1, -1, 33}}), "overlap");
}

TEST_CASE("zip: damaged data is noticed by its CRC") {
    std::string bytes = archive(tensor("FloatStorage", 4, 0, {4}, {1}), floats({0, 1, 2, 3}));
    const std::size_t at = bytes.find(floats({1, 2}));
    REQUIRE(at != std::string::npos);
    bytes[at] = 'x';
    check_refused(bytes, "entry 'm/data/0' is damaged (wrong CRC)");
    check_refused(make_zip({{"m/data.pkl", proto + "}.", -1, 1234}}), "wrong CRC");
    check_refused(make_zip({{"m/data.pkl", proto + "}.", -1, 1234, -1, true}}), "damaged");
}

TEST_CASE("zip: deflated entries are unpacked, bombs are refused") {
    const std::string pickle = proto + "}" + text("w") + tensor("FloatStorage", 4, 0, {4}, {1}) + "s.";
    const TensorMap map = read(
        make_zip({{"m/data.pkl", pickle, -1, -1, -1, true}, {"m/data/0", floats({0, 1, 2, 3}), -1, -1, -1, true}}));
    CHECK(map.at("w").to<float>() == std::vector<float>{0, 1, 2, 3});
    check_refused(make_zip({{"m/data.pkl", std::string(std::size_t{100} << 20, '\0'), -1, -1, -1, true}}), "zip bomb");
    check_refused(make_zip({{"m/data.pkl", "abc", 0x7fffffff, -1, -1, true}}), "zip bomb");
    check_refused(make_zip({{"m/data.pkl", pickle, static_cast<long long>(pickle.size()) + 5, -1, -1, true}}),
                  "damaged");
    check_refused(make_zip({{"m/data.pkl", pickle, static_cast<long long>(pickle.size()) - 5, -1, -1, true}}),
                  "damaged");
}

TEST_CASE("torch: big-endian files and strangers are refused") {
    check_refused(make_zip({{"m/data.pkl", proto + "}."}, {"m/byteorder", "big"}}), "big-endian");
    check_refused("hello", "not a file of torch");
    check_refused("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer");
    check_refused("<!DOCTYPE html><html></html>", "HTML page");
}

TEST_CASE("torch: every damage to a legacy file is noticed") {
    const std::string good = read_file(formats + "state_dict_legacy.pt");
    CHECK(read(good).tensors.size() == 62);
    check_refused(good.substr(0, good.size() - 1), "truncated in storage");
    check_refused(good + "x", "1 bytes after the last storage");
    check_refused(good.substr(0, 100), "truncated");
    const std::string magic(detail::legacy_magic);
    const auto legacy = [&](const std::string& system, const std::string& object, const std::string& keys,
                            const std::string& rest) {
        return magic + proto + "M\xe9\x03." + proto + system + "." + proto + object + "." + proto + keys + "." + rest;
    };
    const std::string system = "}" + text("little_endian") + "\x88s",
                      object = "}" + text("w") + tensor("FloatStorage", 2, 0, {2}, {1}) + "s";
    CHECK(
        read(legacy(system, object, "]" + text("0") + "a", little_endian(2, 8) + floats({1, 2}))).at("w").to<float>() ==
        std::vector<float>{1, 2});
    check_refused(legacy("}" + text("little_endian") + "\x89s", object, "]", ""), "big-endian");
    check_refused(legacy(system, object, "]" + text("0") + "a", little_endian(3, 8) + floats({1, 2, 3})),
                  "has 3 elements, its description says 2");
    check_refused(legacy(system, object, "]" + text("7") + "a", ""), "storage '7' is used by no tensor");
    check_refused(legacy(system, object, "]", ""), "storage '0' is missing");
    check_refused(legacy(system, object, "](" + text("0") + text("0") + "e",
                         little_endian(2, 8) + floats({1, 2}) + little_endian(2, 8) + floats({1, 2})),
                  "occurs twice");
    check_refused(magic + proto + "K\x01." + proto + system + "." + proto + object + "." + proto + "].", "protocol 1");
}

}  // namespace

}  // namespace torch_archive_test
