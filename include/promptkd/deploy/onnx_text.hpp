// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/deploy/onnx_blocks.hpp>

#include <limits>
#include <string>
#include <vector>

namespace promptkd {

/// A text transformer as ONNX operators: what TextTransformer is on a device, for whole texts of token ids.
class OnnxTextTransformer {
public:
    /// `map` holds the model under OpenAI's names and must outlive this. Throws Error when tensors are missing or do
    /// not fit together, and for a text tower with a class token behind the text.
    OnnxTextTransformer(OnnxGraph& graph, const TensorMap& map)
        : config_(text_config(map)), layers_(graph, map, schema::text_transformer, sizes_of(config_)) {
        require(config_.pooling != TextPooling::class_token, map.source,
                ": a text tower with a class token behind the text (CoCa) is not exported");
    }

    /// Size e of the features.
    Index embed() const { return config_.embed; }
    /// Token ids of a text.
    Index context_length() const { return config_.context_length; }

    /// Raw features (N, e) of token ids (N, context_length), int64.
    std::string features(const std::string& ids) {
        using schema::Role;
        OnnxGraph& g = layers_.graph();
        std::string x = g.node("Gather", {layers_.vector(Role::token_table), ids});
        x = g.node("Add", {x, layers_.vector(Role::positions)});
        OnnxBlocks blocks(layers_, {config_.width, config_.heads, config_.layers, config_.blocks,
                                    config_.causal ? causal_mask() : std::string()});
        for (Index i = 0; i < config_.layers; ++i) x = blocks.block(i, x, false);
        x = layers_.norm(Role::last_norm, read_row(ids, x), config_.blocks.epsilon);
        if (config_.projection) x = layers_.linear(Role::projection, x);
        return g.node("Reshape", {x, g.integers({-1, config_.embed})});
    }

private:
    /// 0 where a token sees another, the least number where it does not.
    std::string causal_mask() {
        const Index n = config_.context_length;
        OnnxGraph& g = layers_.graph();
        const float hidden = g.elements() == DType::f16 ? -65504.0f : std::numeric_limits<float>::lowest();
        std::vector<float> mask(static_cast<std::size_t>(n * n), 0);
        for (Index i = 0; i < n; ++i)
            for (Index j = i + 1; j < n; ++j) mask[static_cast<std::size_t>(i * n + j)] = hidden;
        return g.weight("causal_mask", make_tensor(std::move(mask), {1, 1, n, n}));
    }

    /// The row of each text (N, 1, d) where its features are taken.
    std::string read_row(const std::string& ids, const std::string& x) {
        OnnxGraph& g = layers_.graph();
        const Index n = config_.context_length;
        if (config_.pooling == TextPooling::first) return detail::onnx_tokens(g, x, 0, 1);
        if (config_.pooling == TextPooling::last) return detail::onnx_tokens(g, x, n - 1, n);
        std::string judged = ids;
        if (config_.end_id >= 0) judged = g.cast(g.node("Equal", {ids, g.integers({config_.end_id})}), DType::i64);
        const std::string end = g.node("ArgMax", {judged}, {{"axis", std::int64_t{1}}, {"keepdims", std::int64_t{1}}});
        std::vector<std::int64_t> places;
        for (Index i = 0; i < n; ++i) places.push_back(i);
        const std::string here = g.cast(g.node("Equal", {end, g.integers(places)}), g.elements());
        return g.node("MatMul", {g.node("Unsqueeze", {here, g.integers({1})}), x});
    }

    TextConfig config_;
    OnnxLayers layers_;
};

}  // namespace promptkd
