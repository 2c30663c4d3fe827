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
inline TensorMap projector_tensors(const ClosedFormFit& fit) {
    const HiddenLayer& first = fit.hidden;
    const OutputLayer& second = fit.output;
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

}  // namespace promptkd
