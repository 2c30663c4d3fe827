// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/image_rotation.hpp>
#include <promptkd/deploy/onnx_layers.hpp>

#include <cmath>
#include <string>
#include <vector>

namespace promptkd {

/// The residual attention blocks of one tower as ONNX operators: what Block is on a device.
class OnnxBlocks {
public:
    /// What all blocks of the tower have in common.
    struct Tower {
        Index width = 0, heads = 0, layers = 0;  ///< d, attention heads, blocks
        BlockDesign design;                      ///< beyond the sizes
        std::string mask;                        ///< added to all scores; empty: none
    };

    /// `layers` must outlive this.
    OnnxBlocks(OnnxLayers& layers, Tower tower) : layers_(&layers), tower_(std::move(tower)) {}

    /// Queries and keys of an image are turned: tokens [first, first + cells) of `tokens`, the others stand still.
    void rotate(const VisionConfig& config, Index tokens) {
        const std::vector<double> angles = rotation_angles(config);
        const Index pairs = static_cast<Index>(angles.size()) / config.cells();
        std::vector<float> cosine(static_cast<std::size_t>(tokens * pairs), 1), sine(cosine.size(), 0);
        const std::size_t first = static_cast<std::size_t>(config.class_tokens() * pairs);
        for (std::size_t i = 0; i < angles.size(); ++i) {
            cosine[first + i] = static_cast<float>(std::cos(angles[i]));
            sine[first + i] = static_cast<float>(std::sin(angles[i]));
        }
        OnnxGraph& g = layers_->graph();
        const std::string label = "_" + std::to_string(tokens);
        cosine_ = g.weight("rotation_cosine" + label, make_tensor(std::move(cosine), {1, tokens, 1, pairs}));
        sine_ = g.weight("rotation_sine" + label, make_tensor(std::move(sine), {1, tokens, 1, pairs}));
    }

    /// Block `i` of x (N, tokens, d). With `one` the first token alone is read behind it, so that queries, projection
    /// and MLP run for it alone: (N, 1, d).
    std::string block(Index i, const std::string& x, bool one) {
        using schema::Role;
        OnnxGraph& g = layers_->graph();
        layers_->in_block({i, 0});
        const bool before = tower_.design.norms == NormPlace::before;
        const double epsilon = tower_.design.epsilon;
        const std::string residual = one ? detail::onnx_tokens(g, x, 0, 1) : x;
        const std::string read = before ? layers_->norm(Role::norm_1, x, epsilon) : x;
        const std::string middle = join(Role::norm_1, Role::scale_1, residual, attention(read, one));
        const std::string second = before ? layers_->norm(Role::norm_2, middle, epsilon) : middle;
        const std::string out = join(Role::norm_2, Role::scale_2, middle, mlp(second));
        layers_->outside_blocks();
        return out;
    }

private:
    /// x + the branch `f`, scaled or normalised where the tower says so.
    std::string join(schema::Role norm, schema::Role scale, const std::string& x, std::string f) {
        OnnxGraph& g = layers_->graph();
        if (tower_.design.norms == NormPlace::after) f = layers_->norm(norm, f, tower_.design.epsilon);
        if (layers_->is_there(scale)) f = g.node("Mul", {f, layers_->vector(scale)});
        return g.node("Add", {x, f});
    }

    std::string attention(const std::string& x, bool one) {
        using schema::Role;
        OnnxGraph& g = layers_->graph();
        const Index d = tower_.width;
        const std::string reading = one ? detail::onnx_tokens(g, x, 0, 1) : x;
        OnnxGraph::Values qkv;
        if (one)
            qkv = {layers_->linear_part(Role::attention_in, reading, 0, d),
                   layers_->linear_part(Role::attention_in, x, d, d),
                   layers_->linear_part(Role::attention_in, x, 2 * d, d)};
        else
            qkv = g.nodes("Split", 3, {layers_->linear(Role::attention_in, x), g.integers({d, d, d})},
                          {{"axis", std::int64_t{-1}}});
        if (!cosine_.empty()) {
            if (!one) qkv[0] = turned(qkv[0]);
            qkv[1] = turned(qkv[1]);
        }
        std::string o = detail::onnx_attention(g, qkv, tower_.heads, d, tower_.mask);
        if (layers_->is_there(Role::attention_norm)) o = layers_->norm(Role::attention_norm, o, tower_.design.epsilon);
        return layers_->linear(Role::attention_out, o);
    }

    std::string mlp(const std::string& x) {
        using schema::Role;
        OnnxGraph& g = layers_->graph();
        std::string hidden = layers_->linear(Role::mlp_in, x);
        if (layers_->is_there(Role::mlp_gate)) {
            const std::string gate = layers_->linear(Role::mlp_gate, x);
            hidden = g.node("Mul", {hidden, g.node("Mul", {gate, g.node("Sigmoid", {gate})})});
        } else {
            hidden = detail::onnx_gelu(g, tower_.design.gelu, hidden);
        }
        if (layers_->is_there(Role::mlp_norm)) hidden = layers_->norm(Role::mlp_norm, hidden, tower_.design.epsilon);
        return layers_->linear(Role::mlp_out, hidden);
    }

    /// (a, b) → (a·cos − b·sin, b·cos + a·sin) for neighbouring components of each head.
    std::string turned(const std::string& x) {
        OnnxGraph& g = layers_->graph();
        const Index pairs = tower_.width / tower_.heads / 2;
        const std::string shaped = g.node("Reshape", {x, g.integers({0, -1, tower_.heads, pairs, 2})});
        const OnnxGraph::Values parts = g.nodes("Split", 2, {shaped, g.integers({1, 1})}, {{"axis", std::int64_t{-1}}});
        const auto flat = [&](const std::string& v) { return g.node("Squeeze", {v, g.integers({-1})}); };
        const std::string a = flat(parts[0]), b = flat(parts[1]);
        const auto times = [&](const std::string& u, const std::string& v) { return g.node("Mul", {u, v}); };
        const std::string left = g.node("Sub", {times(a, cosine_), times(b, sine_)});
        const std::string right = g.node("Add", {times(b, cosine_), times(a, sine_)});
        const auto deep = [&](const std::string& v) { return g.node("Unsqueeze", {v, g.integers({-1})}); };
        const std::string joined = g.node("Concat", {deep(left), deep(right)}, {{"axis", std::int64_t{-1}}});
        return g.node("Reshape", {joined, g.integers({0, -1, tower_.width})});
    }

    OnnxLayers* layers_;
    Tower tower_;
    std::string cosine_, sine_;
};

}  // namespace promptkd
