// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/folded_convolution.hpp>
#include <promptkd/format/onnx.hpp>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Puts the layers of one architecture into an ONNX graph: the cursor says where in the schema the weights stand, and
/// names are OpenAI's, so that an exported weight is found again by its name. Products are written as ONNX has them,
/// x·Wᵀ with Wᵀ (in, out) stored.
class OnnxLayers : public TensorCursor {
public:
    /// `graph` and `map` (OpenAI's names) must outlive this.
    OnnxLayers(OnnxGraph& graph, const TensorMap& map, const schema::Architecture& architecture,
               const schema::Sizes& sizes)
        : TensorCursor(map, architecture, sizes), graph_(&graph) {}

    /// The graph that grows.
    OnnxGraph& graph() const { return *graph_; }

    /// What OpenAI calls the tensor.
    std::string name(schema::Role role, schema::Part part = schema::Part::weight) const {
        return schema::name_of(weight(role, part));
    }

    /// A vector of weights as it is.
    std::string vector(schema::Role role, schema::Part part = schema::Part::weight) {
        return graph_->weight(name(role, part), tensor(role, part));
    }

    /// x·Wᵀ + b, with the bias that the file has, if any.
    std::string linear(schema::Role role, const std::string& x) {
        const std::string y = graph_->node("MatMul", {x, graph_->weight(name(role), detail::transpose(tensor(role)))});
        return is_there(role, schema::Part::bias) ? graph_->node("Add", {y, vector(role, schema::Part::bias)}) : y;
    }
    /// The outputs [first, first + count) of that layer, with weights of their own.
    std::string linear_part(schema::Role role, const std::string& x, Index first, Index count) {
        const HostTensor rows = rows_of(tensor(role), first, count);
        const std::string label = part_label(first, count);
        const std::string y = graph_->node("MatMul", {x, graph_->weight(name(role) + label, detail::transpose(rows))});
        if (!is_there(role, schema::Part::bias)) return y;
        return graph_->node("Add", {y, vector_part(role, schema::Part::bias, first, count)});
    }
    /// Elements [first, first + count) of a vector of weights.
    std::string vector_part(schema::Role role, schema::Part part, Index first, Index count) {
        return graph_->weight(name(role, part) + part_label(first, count), rows_of(tensor(role, part), first, count));
    }

    /// LayerNorm over the last axis.
    std::string norm(schema::Role role, const std::string& x, double epsilon) {
        return graph_->node("LayerNormalization", {x, vector(role), vector(role, schema::Part::bias)},
                            {{"axis", std::int64_t{-1}}, {"epsilon", static_cast<float>(epsilon)}});
    }

    /// A convolution with the BatchNorm behind it (running statistics) folded in; no padding but `padding` on all
    /// sides.
    std::string convolution(schema::Role role, const std::string& x, std::int64_t stride, std::int64_t padding) {
        const HostTensor weight = tensor(role);
        const BatchNormAffine norm = read_batch_norm(*this, role);
        std::vector<double> w = weight.to<double>();
        const std::size_t each = w.size() / norm.factor.size();
        for (std::size_t i = 0; i < w.size(); ++i) w[i] *= norm.factor[i / each];
        const Shape shape = weight.shape;
        return convolve(x, graph_->weight(name(role), make_tensor(std::move(w), shape)),
                        graph_->weight(name(role, schema::Part::norm_bias), make_tensor(norm.shift, {shape[0]})),
                        {shape[3], stride, padding});
    }
    /// A convolution with the bias that the file has, if any.
    std::string plain_convolution(schema::Role role, const std::string& x) {
        const HostTensor weight = tensor(role);
        const std::int64_t kernel = weight.shape[3];
        const std::string bias = is_there(role, schema::Part::bias) ? vector(role, schema::Part::bias) : "";
        return convolve(x, graph_->weight(name(role), weight), bias, {kernel, kernel, 0});
    }

private:
    struct Window {
        std::int64_t kernel, stride, padding;
    };

    std::string convolve(const std::string& x, const std::string& weight, const std::string& bias, const Window& by) {
        OnnxGraph::Values inputs{x, weight};
        if (!bias.empty()) inputs.push_back(bias);
        return graph_->node("Conv", inputs,
                            {{"kernel_shape", std::vector<std::int64_t>{by.kernel, by.kernel}},
                             {"strides", std::vector<std::int64_t>{by.stride, by.stride}},
                             {"pads", std::vector<std::int64_t>(4, by.padding)}});
    }

    static std::string part_label(Index first, Index count) {
        return "." + std::to_string(first) + "." + std::to_string(count);
    }

    static HostTensor rows_of(const HostTensor& tensor, Index first, Index count) {
        HostTensor part = tensor;
        const Index row = tensor.count() / tensor.shape[0];
        part.shape[0] = count;
        part.bytes += static_cast<std::size_t>(first * row) * size_of(tensor.dtype);
        return part;
    }

    OnnxGraph* graph_;
};

namespace detail {

/// One of the GELUs: x·σ(1.702x), x·Φ(x), or its approximation by tanh.
inline std::string onnx_gelu(OnnxGraph& g, Gelu gelu, const std::string& x) {
    const auto times = [&](const std::string& a, double b) { return g.node("Mul", {a, g.number(b)}); };
    if (gelu == Gelu::quick) return g.node("Mul", {x, g.node("Sigmoid", {times(x, 1.702)})});
    std::string inner;
    if (gelu == Gelu::exact) {
        inner = g.node("Erf", {times(x, std::sqrt(0.5))});
    } else {
        const std::string cube = g.node("Mul", {x, g.node("Mul", {x, x})});
        const std::string sum = g.node("Add", {x, times(cube, 0.044715)});
        inner = g.node("Tanh", {times(sum, std::sqrt(2 / 3.14159265358979323846))});
    }
    return g.node("Mul", {times(x, 0.5), g.node("Add", {inner, g.number(1)})});
}

/// Rows [first, end) of the second axis of x.
inline std::string onnx_tokens(OnnxGraph& g, const std::string& x, Index first, Index end) {
    return g.node("Slice", {x, g.integers({first}), g.integers({end}), g.integers({1})});
}

/// x/‖x‖ over the last axis, in f32 whatever x is.
inline std::string onnx_normalized(OnnxGraph& g, const std::string& x) {
    const std::string wide = g.cast(x, DType::f32);
    const std::string norm =
        g.node("ReduceL2", {wide}, {{"axes", std::vector<std::int64_t>{-1}}, {"keepdims", std::int64_t{1}}});
    return g.node("Div", {wide, norm});
}

/// Scaled dot-product attention of `heads` heads: q (N, n, d), k and v (N, t, d), the result (N, n, d). `mask`, where
/// it is not empty, is added to the scores.
inline std::string onnx_attention(OnnxGraph& g, const OnnxGraph::Values& qkv, Index heads, Index width,
                                  const std::string& mask) {
    const auto split = [&](const std::string& x, const std::vector<std::int64_t>& order) {
        const std::string shaped = g.node("Reshape", {x, g.integers({0, -1, heads, width / heads})});
        return g.node("Transpose", {shaped}, {{"perm", order}});
    };
    const double scale = 1 / std::sqrt(static_cast<double>(width / heads));
    const std::string q = split(g.node("Mul", {qkv[0], g.number(scale)}), {0, 2, 1, 3});
    std::string scores = g.node("MatMul", {q, split(qkv[1], {0, 2, 3, 1})});
    if (!mask.empty()) scores = g.node("Add", {scores, mask});
    const std::string p = g.node("Softmax", {scores}, {{"axis", std::int64_t{-1}}});
    const std::string mixed = g.node("MatMul", {p, split(qkv[2], {0, 2, 1, 3})});
    const std::string joined = g.node("Transpose", {mixed}, {{"perm", std::vector<std::int64_t>{0, 2, 1, 3}}});
    return g.node("Reshape", {joined, g.integers({0, -1, width})});
}

}  // namespace detail

}  // namespace promptkd
