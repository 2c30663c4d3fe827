// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/deploy/onnx_layers.hpp>

#include <string>
#include <vector>

namespace promptkd {

/// CLIP's ModifiedResNet as ONNX operators: what ModifiedResNet is on a device, BatchNorms folded.
class OnnxModifiedResNet {
public:
    /// `map` holds the model under OpenAI's names and must outlive this. Throws Error when tensors are missing or do
    /// not fit together.
    OnnxModifiedResNet(OnnxGraph& graph, const TensorMap& map)
        : config_(resnet_config(map)), layers_(graph, map, schema::modified_resnet, sizes_of(config_)) {}

    /// Size e of the features.
    Index embed() const { return config_.embed; }
    /// Height and width of the images.
    Index resolution() const { return config_.resolution(); }

    /// Raw features (N, e) of normalised images (N, 3, r, r).
    std::string features(const std::string& images) {
        using schema::Role;
        std::string x = active(Role::convolution_1, images, 2, 1);
        x = active(Role::convolution_2, x, 1, 1);
        x = pool(active(Role::convolution_3, x, 1, 1), 2);
        Index channels = config_.width;
        for (Index stage = 1; stage <= 4; ++stage)
            for (Index i = 0; i < config_.layers[static_cast<std::size_t>(stage - 1)]; ++i) {
                layers_.in_block({stage, i});
                layers_.sizes().set(schema::Size::planes, config_.width << (stage - 1));
                layers_.sizes().set(schema::Size::input, channels);
                x = bottleneck(x, stage > 1 && i == 0 ? 2 : 1);
                channels = 4 * (config_.width << (stage - 1));
            }
        layers_.outside_blocks();
        return attention_pool(x);
    }

private:
    OnnxGraph& graph() { return layers_.graph(); }

    std::string active(schema::Role role, const std::string& x, std::int64_t stride, std::int64_t padding) {
        return graph().node("Relu", {layers_.convolution(role, x, stride, padding)});
    }

    std::string pool(const std::string& x, std::int64_t window) {
        const std::vector<std::int64_t> both{window, window};
        return graph().node("AveragePool", {x}, {{"kernel_shape", both}, {"strides", both}});
    }

    /// relu(conv3(pool(conv2(conv1(x)))) + shortcut(x)); pooled by `stride`.
    std::string bottleneck(const std::string& x, std::int64_t stride) {
        using schema::Role;
        std::string inner = active(Role::convolution_2, active(Role::convolution_1, x, 1, 0), 1, 1);
        if (stride > 1) inner = pool(inner, stride);
        std::string around = x;
        if (layers_.is_there(Role::shortcut))
            around = layers_.convolution(Role::shortcut, stride > 1 ? pool(x, stride) : x, 1, 0);
        return graph().node("Relu",
                            {graph().node("Add", {layers_.convolution(Role::convolution_3, inner, 1, 0), around})});
    }

    /// Attention of the mean of all cells over itself and them.
    std::string attention_pool(const std::string& map) {
        using schema::Role;
        OnnxGraph& g = graph();
        const Index d = config_.features();
        const std::string rows = g.node("Reshape", {map, g.integers({0, d, -1})});
        const std::string cells = g.node("Transpose", {rows}, {{"perm", std::vector<std::int64_t>{0, 2, 1}}});
        const std::string mean =
            g.node("ReduceMean", {cells}, {{"axes", std::vector<std::int64_t>{1}}, {"keepdims", std::int64_t{1}}});
        const std::string tokens = g.node("Concat", {mean, cells}, {{"axis", std::int64_t{1}}});
        const std::string x = g.node("Add", {tokens, layers_.vector(Role::positions)});
        const OnnxGraph::Values qkv{layers_.linear(Role::pool_query, detail::onnx_tokens(g, x, 0, 1)),
                                    layers_.linear(Role::pool_key, x), layers_.linear(Role::pool_value, x)};
        const std::string o = detail::onnx_attention(g, qkv, config_.heads, d, "");
        return g.node("Reshape", {layers_.linear(Role::pool_out, o), g.integers({-1, config_.embed})});
    }

    ResNetConfig config_;
    OnnxLayers layers_;
};

}  // namespace promptkd
