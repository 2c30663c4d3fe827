// SPDX-License-Identifier: Apache-2.0
#include <promptkd/core/tensor.hpp>

#include <doctest/doctest.h>

#include <cstring>

namespace tensor_test {

namespace {

using namespace promptkd;

TEST_CASE("shapes: text and element count") {
    CHECK(to_string(Shape{}) == "()");
    CHECK(to_string(Shape{5}) == "(5)");
    CHECK(to_string(Shape{3, 224, 224}) == "(3, 224, 224)");
    CHECK(count_of({}) == 1);
    CHECK(count_of({2, 3, 4}) == 24);
    CHECK(count_of({2, 0, 4}) == 0);
}

TEST_CASE("tensors: hold what they were made of, shared by copies") {
    HostTensor copy;
    {
        const HostTensor tensor = make_tensor<float>({1, 2, 3, 4, 5, 6}, {2, 3});
        CHECK(tensor.dtype == DType::f32);
        CHECK(tensor.count() == 6);
        CHECK(tensor.size_bytes() == 24);
        copy = tensor;
    }
    CHECK(copy.to<float>() == std::vector<float>{1, 2, 3, 4, 5, 6});
    CHECK(copy.to<double>() == std::vector<double>{1, 2, 3, 4, 5, 6});
    CHECK(copy.to<std::int64_t>() == std::vector<std::int64_t>{1, 2, 3, 4, 5, 6});
    double some[2] = {};
    copy.copy_to(some, 4, 2);
    CHECK(some[0] == 5);
    CHECK(some[1] == 6);
    copy.copy_to(some, 0, 0);  // nothing
    CHECK(some[0] == 5);
    CHECK_THROWS_WITH_AS(make_tensor<float>({1, 2, 3}, {2, 2}), "make_tensor: 3 values for shape (2, 2)", Error);
}

TEST_CASE("tensors: converted from every stored type") {
    const auto check = [](auto unit) {
        using T = decltype(unit);
        const HostTensor tensor = make_tensor<T>({T(3), T(0), T(1)}, {3});
        CAPTURE(name_of(tensor.dtype));
        CHECK(tensor.to<float>() == std::vector<float>{3, 0, 1});
        CHECK(tensor.to<double>() == std::vector<double>{3, 0, 1});
        CHECK(static_cast<float>(tensor.to<half>()[0]) == 3);
        CHECK(static_cast<float>(tensor.to<bf16>()[0]) == 3);
    };
    check(double{});
    check(float{});
    check(half{});
    check(bf16{});
    check(std::int64_t{});
    check(std::int32_t{});
    check(std::int16_t{});
    check(std::int8_t{});
    check(std::uint8_t{});
}

TEST_CASE("tensors: the bytes need not be aligned") {
    std::vector<std::byte> bytes(1 + 3 * sizeof(double));
    const double values[3] = {1.5, -2.25, 1e300};
    std::memcpy(bytes.data() + 1, values, sizeof values);
    HostTensor tensor;
    tensor.dtype = DType::f64;
    tensor.shape = {3};
    tensor.bytes = bytes.data() + 1;
    CHECK(tensor.to<double>() == std::vector<double>{1.5, -2.25, 1e300});
    CHECK(tensor.to<float>()[1] == -2.25f);
}

TEST_CASE("tensors: transposed in their own type") {
    const HostTensor turned = detail::transpose(make_tensor<std::int16_t>({1, 2, 3, 4, 5, 6}, {2, 3}));
    CHECK(turned.dtype == DType::i16);
    CHECK(turned.shape == Shape{3, 2});
    CHECK(turned.to<std::int16_t>() == std::vector<std::int16_t>{1, 4, 2, 5, 3, 6});
}

TEST_CASE("tensor maps: what is missing or misshapen is named") {
    TensorMap map;
    map.source = "model.safetensors";
    map.tensors["a"] = make_tensor<float>({1, 2}, {2});
    CHECK(map.contains("a"));
    CHECK(!map.contains("b"));
    CHECK(map.at("a", {2}).count() == 2);
    CHECK_THROWS_WITH_AS(map.at("b"), "model.safetensors: tensor 'b' is missing", Error);
    CHECK_THROWS_WITH_AS(map.at("a", {1, 2}), "model.safetensors: tensor 'a' has shape (2), expected (1, 2)", Error);
}

TEST_CASE("widening: all binary16 numbers, in blocks and alone") {
    std::vector<half> all(65536);
    for (std::size_t i = 0; i < all.size(); ++i) all[i].bits = static_cast<std::uint16_t>(i);
    const HostTensor tensor = make_tensor(all, {65536});
    const std::vector<float> wide = tensor.to<float>();
    std::size_t different = 0;
    for (std::size_t i = 0; i < all.size(); ++i)
        different += detail::float_bits(wide[i]) != detail::float_bits(static_cast<float>(all[i]));
    CHECK(different == 0);
    float three[3];
    tensor.copy_to(three, 0x3c00, 3);
    CHECK(three[0] == 1.0f);
    CHECK(three[2] == 1.0f + 2.0f / 1024.0f);
}

}  // namespace

}  // namespace tensor_test
