// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/prompt_names.hpp>
#include <promptkd/format/onnx.hpp>
#include <promptkd/op/batch_norm.hpp>

#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// PromptKD's projector as ONNX operators: y (N, e_t) of x (N, e_s), from its tensors under the published names, of
/// `layers` Linears; every BatchNorm (running statistics) is folded into the Linear in front of it:
/// W·factor, b·factor + shift (see BatchNormAffine).
inline std::string onnx_projector(OnnxGraph& g, const TensorMap& learned, Index layers, std::string x) {
    for (Index layer = 0; layer < layers; ++layer) {
        const std::string weight = projector_name(3 * layer, "weight"), bias = projector_name(3 * layer, "bias");
        const Shape shape = learned.at(weight).shape;
        require(shape.size() >= 2, learned.source, ": '", weight, "' has shape ", to_string(shape));
        const Index out = shape[0], in = shape[1];
        std::vector<double> w = learned.at(weight, {out, in, 1, 1}).to<double>();
        std::vector<double> b = learned.at(bias, {out}).to<double>();
        const bool last = layer + 1 == layers;
        if (!last) {
            const auto norm = [&](const char* part) {
                return learned.at(projector_name(3 * layer + 1, part), {out}).to<double>();
            };
            const BatchNormAffine behind =
                batch_norm_affine(norm("weight"), norm("bias"), norm("running_mean"), norm("running_var"));
            for (std::size_t o = 0; o < b.size(); ++o) b[o] = b[o] * behind.factor[o] + behind.shift[o];
            for (std::size_t i = 0; i < w.size(); ++i) w[i] *= behind.factor[i / static_cast<std::size_t>(in)];
        }
        const HostTensor turned = detail::transpose(make_tensor(std::move(w), {out, in}));
        x = g.node("MatMul", {x, g.weight(weight, turned)});
        x = g.node("Add", {x, g.weight(bias, make_tensor(std::move(b), {out}))});
        if (!last) x = g.node("Relu", {x});
    }
    return x;
}

}  // namespace promptkd
