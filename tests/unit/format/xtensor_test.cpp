// SPDX-License-Identifier: Apache-2.0
#include <promptkd/format/npy.hpp>
#include <promptkd/format/xtensor.hpp>

#include <doctest/doctest.h>
#include <xtensor/xview.hpp>

#include <cstdlib>

namespace xtensor_test {

namespace {

using namespace promptkd;

class TemporaryFolder {
public:
    TemporaryFolder() {
        std::string name = (std::filesystem::temp_directory_path() / "promptkd-npy-XXXXXX").string();
        REQUIRE(mkdtemp(name.data()) != nullptr);
        path_ = name;
    }
    ~TemporaryFolder() { std::filesystem::remove_all(path_); }
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }

private:
    std::string path_;
};

TEST_CASE("xtensor: arrays, views and column-major arrays become row-major tensors") {
    const xt::xarray<float> array{{1, 2, 3}, {4, 5, 6}};
    const HostTensor tensor = from_xtensor(array);
    CHECK(tensor.shape == Shape{2, 3});
    CHECK(tensor.dtype == DType::f32);
    CHECK(tensor.to<float>() == std::vector<float>{1, 2, 3, 4, 5, 6});
    CHECK(from_xtensor(xt::view(array, xt::all(), 1)).to<float>() == std::vector<float>{2, 5});
    const xt::xarray<float, xt::layout_type::column_major> columns = array;
    CHECK(from_xtensor(columns).to<float>() == tensor.to<float>());
    CHECK(from_xtensor(array * 2.0f).to<float>()[5] == 12);
    const xt::xarray<bool> flags{true, false};
    CHECK(from_xtensor(flags).dtype == DType::boolean);
    CHECK(from_xtensor(flags).to<std::uint8_t>() == std::vector<std::uint8_t>{1, 0});
}

TEST_CASE("xtensor: tensors become arrays, converted where asked") {
    const HostTensor tensor = make_tensor<half>({half(0.5f), half(2.0f)}, {2, 1});
    const xt::xarray<float> array = to_xarray<float>(tensor);
    CHECK(array.dimension() == 2);
    CHECK(array(0, 0) == 0.5f);
    CHECK(to_xtensor<double, 2>(tensor)(1, 0) == 2.0);
    CHECK_THROWS_WITH_AS((to_xtensor<float, 1>(tensor)), doctest::Contains("(2, 1) where 1 dimensions"), Error);
    const xt::xarray<float> scalar = to_xarray<float>(make_tensor<float>({7}, {}));
    CHECK(scalar.dimension() == 0);
    CHECK(scalar() == 7);
}

TEST_CASE("xtensor: images") {
    Image image(2, 1);
    image.pixels = {1, 2, 3, 4, 5, 6};
    const xt::xtensor<std::uint8_t, 3> array = to_xtensor(image);
    CHECK(array(1, 0, 2) == 6);
    const Image back = to_image(array);
    CHECK(back.height == 2);
    CHECK(back.width == 1);
    CHECK(back.pixels == image.pixels);
    CHECK_THROWS_WITH_AS(to_image(xt::xtensor<std::uint8_t, 3>::from_shape({2, 2, 4})), doctest::Contains("found 4"),
                         Error);
}

TEST_CASE("npy: byte for byte what NumPy writes") {
    const TemporaryFolder folder;
    // numpy.save of [[1.5, -2.5], [3, 4]]
    std::string numpy("\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2), }", 69);
    numpy += std::string(127 - numpy.size(), ' ') + "\n";
    for (const char* high : {"\xf8\x3f", "\x04\xc0", "\x08\x40", "\x10\x40"}) numpy += std::string(6, '\0') + high;
    const xt::xarray<double> array{{1.5, -2.5}, {3, 4}};
    write_npy(folder / "a.npy", array);
    CHECK(read_file(folder / "a.npy") == numpy);
    CHECK(read_npy<double>(folder / "a.npy") == array);
    CHECK(read_npy<float>(folder / "a.npy")(0, 1) == -2.5f);
    write_atomically(folder / "b.npy", numpy);
    CHECK(read_npy(folder / "b.npy").to<double>() == std::vector<double>{1.5, -2.5, 3, 4});
}

TEST_CASE("npy: every type and rank comes back; bf16 as f32") {
    const TemporaryFolder folder;
    const auto check = [&](const HostTensor& tensor) {
        write_npy(folder / "x.npy", tensor);
        const HostTensor back = read_npy(folder / "x.npy");
        CHECK(back.dtype == tensor.dtype);
        CHECK(back.shape == tensor.shape);
        CHECK(back.to<double>() == tensor.to<double>());
        CHECK((read_file(folder / "x.npy").size() - tensor.size_bytes()) % 64 == 0);
    };
    check(make_tensor<double>({1}, {}));
    check(make_tensor<float>({1, 2}, {2}));
    check(make_tensor<half>({half(1), half(2)}, {1, 2, 1}));
    check(make_tensor<std::int64_t>({-5}, {1}));
    check(make_tensor<std::int32_t>({-5}, {1}));
    check(make_tensor<std::int16_t>({-5}, {1}));
    check(make_tensor<std::int8_t>({-5}, {1}));
    check(make_tensor<std::uint8_t>({250}, {1}));
    check(make_tensor<float>({}, {0, 3}));
    check(make_tensor<float>({1}, Shape(32, 1)));
    write_npy(folder / "x.npy", make_tensor<bf16>({bf16(1.5f)}, {1}));
    CHECK(read_npy(folder / "x.npy").dtype == DType::f32);
    CHECK(read_npy(folder / "x.npy").to<float>()[0] == 1.5f);
}

/// A version 1 file with this header and `data` zero bytes.
std::string npy_bytes(const std::string& header, std::size_t data) {
    std::string bytes("\x93NUMPY\x01\x00", 8);
    bytes += static_cast<char>(header.size());
    bytes += static_cast<char>(header.size() >> 8);
    return bytes + header + std::string(data, '\0');
}

TEST_CASE("npy: malformed files are refused") {
    const TemporaryFolder folder;
    const std::string path = folder / "x.npy";
    const auto refused = [&](const std::string& bytes, const std::string& expected) {
        write_atomically(path, bytes);
        CAPTURE(expected);
        CHECK_THROWS_WITH_AS(read_npy(path), doctest::Contains(expected.c_str()), Error);
        CHECK_THROWS_WITH_AS(read_npy(path), doctest::Contains(path.c_str()), Error);
    };
    const std::string f4 = "{'descr': '<f4', 'fortran_order': False, 'shape': ";
    write_atomically(path, npy_bytes(f4 + "(2,), }  \n", 8));
    CHECK(read_npy(path).shape == Shape{2});
    refused("", "not a .npy file");
    refused("\x93NUMPY\x01", "not a .npy file");
    refused("<html><body>not found</body></html>", "HTML page");
    refused(std::string("\x93NUMPY\x04\x00\x00\x00\x00\x00", 12), "version 4");
    refused(std::string("\x93NUMPY\x02\x00\x00\x00\x00", 11), "truncated in the .npy header");
    refused(std::string("\x93NUMPY\x01\x00\xff\x00{}", 12), "header of 255 bytes in a file of 12");
    refused(npy_bytes(f4 + "(2,)}", 7), "needs 8 bytes, the file holds 7");
    refused(npy_bytes(f4 + "(2,)}", 9), "needs 8 bytes, the file holds 9");
    refused(npy_bytes(f4 + "(4294967296, 4294967296)}", 8), "the shape overflows");
    refused(npy_bytes(f4 + "(99999999999999999999,)}", 8), "the shape overflows");
    refused(npy_bytes(f4 + "(-1,)}", 8), "a number expected");
    refused(npy_bytes(f4 + "(2 2)}", 8), "')' expected");
    refused(npy_bytes(f4 + "(2,)", 8), "'}' expected");
    refused(npy_bytes(f4 + "(2,)} x", 8), "text after the dictionary");
    refused(npy_bytes(f4 + "(2,), 'shape': (2,)}", 8), "unexpected or repeated key 'shape'");
    refused(npy_bytes("{'descr': '<f4', 'shape': (2,)}", 8), "is missing");
    refused(npy_bytes("{'descr': '>f4', 'fortran_order': False, 'shape': (2,)}", 8), "type '>f4' is not supported");
    refused(npy_bytes("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", 8), "type '|O' is not supported");
    refused(npy_bytes("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2)}", 8), "Fortran order");
    refused(npy_bytes("{'descr': '<f4', 'fortran_order': 1, 'shape': (1, 2)}", 8), "must be True or False");
    refused(npy_bytes("{'descr: ", 0), "a string is not closed");
    refused(npy_bytes("{descr", 0), "a string expected");
    refused(npy_bytes("", 0), "'{' expected");
}

}  // namespace

}  // namespace xtensor_test
