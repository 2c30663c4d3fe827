// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/core/tensor.hpp>
#include <promptkd/distill/closed_form/fit.hpp>

#include <string>
#include <vector>

namespace promptkd {

namespace detail {

/// A matrix (rows, columns) transposed, as a 1×1 convolution (columns, rows, 1, 1).
inline HostTensor as_convolution(const std::vector<double>& matrix, Index rows, Index columns) {
    std::vector<double> values(matrix.size());
    for (Index i = 0; i < rows; ++i)
        for (Index j = 0; j < columns; ++j)
            values[static_cast<std::size_t>(j * rows + i)] = matrix[static_cast<std::size_t>(i * columns + j)];
    return make_tensor(std::move(values), {columns, rows, 1, 1});
}

}  // namespace detail

/// A fit's projector under the published names, as a Student of two projector layers of this width loads it: Linear Rᵀ
/// and b, BatchNorm 1 and 0 with the statistics μ and v, Linear Bᵀ and c.
inline TensorMap projector_tensors(const HiddenLayer& first, const OutputLayer& second) {
    const auto width = static_cast<std::size_t>(first.width);
    TensorMap map;
    map.source = "closed form";
    map.tensors[projector_name(0, "weight")] = detail::as_convolution(first.weight, first.inputs, first.width);
    map.tensors[projector_name(0, "bias")] = make_tensor(first.bias, {first.width});
    map.tensors[projector_name(1, "weight")] = make_tensor(std::vector<double>(width, 1), {first.width});
    map.tensors[projector_name(1, "bias")] = make_tensor(std::vector<double>(width, 0), {first.width});
    map.tensors[projector_name(1, "running_mean")] = make_tensor(first.mean, {first.width});
    map.tensors[projector_name(1, "running_var")] = make_tensor(first.variance, {first.width});
    map.tensors[projector_name(3, "weight")] = detail::as_convolution(second.weight, second.inputs, second.outputs);
    map.tensors[projector_name(3, "bias")] = make_tensor(second.bias, {second.outputs});
    return map;
}

/// The projector of a fit.
inline TensorMap projector_tensors(const ClosedFormFit& fit) { return projector_tensors(fit.hidden, fit.output); }

namespace detail {

/// The values of a 1×1 convolution (columns, rows, 1, 1) as a matrix (rows, columns).
inline std::vector<double> as_matrix(const std::vector<double>& values, Index rows, Index columns) {
    std::vector<double> matrix(values.size());
    for (Index i = 0; i < rows; ++i)
        for (Index j = 0; j < columns; ++j)
            matrix[static_cast<std::size_t>(i * columns + j)] = values[static_cast<std::size_t>(j * rows + i)];
    return matrix;
}

}  // namespace detail

/// Layers that projector_tensors() wrote as `prefix` + name, of e_s inputs and e_t outputs. `read(name, shape)` gives a
/// tensor's values, and throws Error where there is none of this shape.
template <class Read>
void read_projector_tensors(const Read& read, Index inputs, Index width, Index outputs, HiddenLayer& first,
                            OutputLayer& second) {
    first.inputs = inputs;
    first.width = width;
    first.weight = detail::as_matrix(read(projector_name(0, "weight"), Shape{width, inputs, 1, 1}), inputs, width);
    first.bias = read(projector_name(0, "bias"), Shape{width});
    first.mean = read(projector_name(1, "running_mean"), Shape{width});
    first.variance = read(projector_name(1, "running_var"), Shape{width});
    second.inputs = width;
    second.outputs = outputs;
    second.weight = detail::as_matrix(read(projector_name(3, "weight"), Shape{outputs, width, 1, 1}), width, outputs);
    second.bias = read(projector_name(3, "bias"), Shape{outputs});
}

}  // namespace promptkd
