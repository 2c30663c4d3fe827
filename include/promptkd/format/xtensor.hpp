// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/image.hpp>
#include <promptkd/core/tensor.hpp>
#include <promptkd/format/npy.hpp>

#include <xtensor/xarray.hpp>
#include <xtensor/xtensor.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <type_traits>
#include <vector>

namespace promptkd {

namespace detail {

/// Element types that HostTensor and xtensor share.
template <class T>
inline constexpr bool is_array_element =
    std::is_same_v<T, double> || std::is_same_v<T, float> || std::is_same_v<T, std::int64_t> ||
    std::is_same_v<T, std::int32_t> || std::is_same_v<T, std::int16_t> || std::is_same_v<T, std::int8_t> ||
    std::is_same_v<T, std::uint8_t> || std::is_same_v<T, bool>;

}  // namespace detail

/// A tensor that owns a row-major copy of any xtensor expression (array, view, result of arithmetic).
template <class E>
HostTensor from_xtensor(const xt::xexpression<E>& expression) {
    using T = std::remove_cv_t<typename E::value_type>;
    static_assert(detail::is_array_element<T>, "element type has no counterpart in HostTensor");
    const xt::xarray<T, xt::layout_type::row_major> array = expression.derived_cast();
    // bool arrays are copied as bytes, for std::vector<bool> has none
    using Stored = std::conditional_t<std::is_same_v<T, bool>, std::uint8_t, T>;
    HostTensor tensor =
        make_tensor(std::vector<Stored>(array.begin(), array.end()), Shape(array.shape().begin(), array.shape().end()));
    tensor.dtype = dtype_of<T>;
    return tensor;
}

/// The tensor as an array of T (converted where its type differs), for example to_xarray<float>(tensor).
template <class T>
xt::xarray<T> to_xarray(const HostTensor& tensor) {
    static_assert(detail::is_array_element<T>, "element type has no counterpart in HostTensor");
    xt::xarray<T> array(std::vector<std::size_t>(tensor.shape.begin(), tensor.shape.end()));
    tensor.copy_to(array.data(), 0, tensor.count());
    return array;
}

/// The tensor as an array of N dimensions. Throws Error when it has another number.
template <class T, std::size_t N>
xt::xtensor<T, N> to_xtensor(const HostTensor& tensor) {
    require(tensor.shape.size() == N, "tensor of shape ", to_string(tensor.shape), " where ", N,
            " dimensions are needed");
    return to_xarray<T>(tensor);
}

/// Array (height, width, 3) of the image's bytes.
inline xt::xtensor<std::uint8_t, 3> to_xtensor(const Image& image) {
    xt::xtensor<std::uint8_t, 3> array(
        {static_cast<std::size_t>(image.height), static_cast<std::size_t>(image.width), 3});
    std::copy(image.pixels.begin(), image.pixels.end(), array.begin());
    return array;
}

/// Image of an array (height, width, 3) of bytes. Throws Error for another shape.
inline Image to_image(const xt::xtensor<std::uint8_t, 3>& array) {
    require(array.shape()[2] == 3, "an image needs 3 channels in its last dimension, found ", array.shape()[2]);
    Image image(static_cast<Index>(array.shape()[0]), static_cast<Index>(array.shape()[1]));
    std::copy(array.begin(), array.end(), image.pixels.begin());
    return image;
}

/// Reads a .npy file as an array of T, converted where its type differs (see read_npy).
template <class T>
xt::xarray<T> read_npy(const std::string& path) {
    return to_xarray<T>(promptkd::read_npy(path));
}

/// Writes an xtensor expression as a .npy file, all or nothing (see write_npy).
template <class E>
void write_npy(const std::string& path, const xt::xexpression<E>& expression) {
    write_npy(path, from_xtensor(expression));
}

}  // namespace promptkd
