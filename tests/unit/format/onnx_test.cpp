// SPDX-License-Identifier: Apache-2.0
#include "support/temporary_folder.hpp"

#include <promptkd/format/onnx.hpp>

#include <doctest/doctest.h>

#include <map>

namespace onnx_test {

namespace {

using namespace promptkd;
using namespace promptkd::test;

/// The fields of a message that are integers or length-delimited, by number: their texts, or their values as text.
std::multimap<int, std::string> fields_of(const std::string& bytes) {
    std::multimap<int, std::string> fields;
    std::size_t at = 0;
    const auto varint = [&] {
        std::uint64_t value = 0;
        for (int shift = 0;; shift += 7) {
            REQUIRE(at < bytes.size());
            const auto byte = static_cast<unsigned char>(bytes[at++]);
            value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
            if (byte < 0x80) return value;
        }
    };
    while (at < bytes.size()) {
        const std::uint64_t tag = varint();
        if ((tag & 7) == 0) {
            fields.emplace(static_cast<int>(tag >> 3), std::to_string(varint()));
            continue;
        }
        const std::size_t size = (tag & 7) == 5 ? 4 : varint();
        REQUIRE(at + size <= bytes.size());
        fields.emplace(static_cast<int>(tag >> 3), bytes.substr(at, size));
        at += size;
    }
    return fields;
}

std::string one(const std::multimap<int, std::string>& fields, int number) {
    REQUIRE(fields.count(number) == 1);
    return fields.find(number)->second;
}

/// y = relu(x·W + 1), W (4, 2).
OnnxGraph small_graph(DType elements) {
    OnnxGraph g("small", elements);
    const std::string x = g.input("x", DType::f32, {std::string("batch"), Index{4}});
    const HostTensor w = make_tensor(std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8}, {4, 2});
    const std::string product = g.node("MatMul", {g.cast(x, elements), g.weight("w", w)});
    const std::string sum = g.node("Add", {product, g.number(1)});
    g.output(g.cast(g.node("Relu", {sum}), DType::f32), "y", DType::f32, {std::string("batch"), Index{2}});
    return g;
}

TEST_CASE("protobuf: the encodings of its documentation") {
    CHECK(ProtobufMessage().integer(1, 150).bytes() == std::string("\x08\x96\x01", 3));
    CHECK(ProtobufMessage().text(2, "testing").bytes() == "\x12\x07testing");
    CHECK(ProtobufMessage().message(3, ProtobufMessage().integer(1, 150)).bytes() ==
          std::string("\x1a\x03\x08\x96\x01"));
    CHECK(ProtobufMessage().integer(1, -1).bytes() == "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    CHECK(ProtobufMessage().number(1, 1.0f).bytes() == std::string("\x0d\x00\x00\x80\x3f", 5));
    CHECK(ProtobufMessage().integer(16, 0).bytes() == std::string("\x80\x01\x00", 3));
}

TEST_CASE("onnx: a model's fields, its weights inside or beside it") {
    const TemporaryFolder folder;
    for (const bool apart : {false, true}) {
        CAPTURE(apart);
        const std::string path = folder / "small.onnx";
        OnnxGraph graph = small_graph(DType::f32);
        graph.weight("large", make_tensor(std::vector<float>(1000, 2.5f), {1000}));
        graph.write(path, apart ? 1 : OnnxGraph::embedded_limit);
        const auto model = fields_of(read_file(path));
        CHECK(one(model, 1) == "8");
        CHECK(one(model, 2) == "promptkd");
        CHECK(one(fields_of(one(model, 8)), 2) == "17");
        const auto body = fields_of(one(model, 7));
        CHECK(body.count(1) == 6);  // Cast, MatMul, Add, Relu, Cast, Identity
        CHECK(one(body, 2) == "small");
        REQUIRE(body.count(5) == 3);
        for (auto [at, end] = body.equal_range(5); at != end; ++at) {
            const auto tensor = fields_of(at->second);
            const bool large = one(tensor, 8) == "large";
            CHECK(tensor.count(9) == (apart && large ? 0 : 1));
            CHECK(tensor.count(13) == (apart && large ? 3 : 0));
            CHECK(one(tensor, 2) == "1");
        }
        CHECK(std::filesystem::exists(path + "_data") == apart);
        if (apart) CHECK(std::filesystem::file_size(path + "_data") == 4000);
    }
}

TEST_CASE("onnx: what 16 bits cannot hold is refused by name") {
    OnnxGraph graph = small_graph(DType::f16);
    CHECK_NOTHROW(graph.weight("large", make_tensor(std::vector<float>{-65504}, {1})));
    CHECK(error_of([&] {
              graph.weight("larger", make_tensor(std::vector<float>{1, 65600}, {2}));
          }).find("'larger' holds 65600") != std::string::npos);
    CHECK(error_of([] { OnnxGraph("g", DType::bf16); }).find("bf16") != std::string::npos);
}

}  // namespace

}  // namespace onnx_test
