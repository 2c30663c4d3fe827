// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/prompt_names.hpp>
#include <promptkd/deploy/onnx_blocks.hpp>
#include <promptkd/op/branch.hpp>

#include <string>
#include <vector>

namespace promptkd {

/// A vision transformer as ONNX operators: what VisionTransformer is on a device, visual prompts included.
class OnnxVisionTransformer {
public:
    /// `map` holds the model under OpenAI's names, `learned` the visual prompts (it may hold none). Both must outlive
    /// this. Throws Error when tensors are missing or do not fit together.
    OnnxVisionTransformer(OnnxGraph& graph, const TensorMap& map, const TensorMap& learned)
        : config_(vision_config(map)),
          layers_(graph, map, schema::vision_transformer, sizes_of(config_)),
          learned_(learned),
          prompts_(visual_prompt_design(learned)) {}

    /// Size e of the features.
    Index embed() const { return config_.embed; }
    /// Height and width of the images.
    Index resolution() const { return config_.resolution(); }

    /// Raw features (N, e) of normalised images (N, 3, r, r), with the visual prompts or without them.
    std::string features(const std::string& images, bool prompted) {
        OnnxGraph& g = layers_.graph();
        const Index prompts = prompted ? prompts_.tokens : 0, first = config_.class_tokens() + config_.cells();
        OnnxBlocks blocks(layers_, {config_.width, config_.heads, config_.layers, config_.blocks, ""});
        if (config_.rotation.order != RotationOrder::none) blocks.rotate(config_, first + prompts);
        std::string x = tokens(images);
        if (prompts > 0) x = with_prompts(x, 0);
        if (config_.first_norm) x = layers_.norm(schema::Role::first_norm, x, config_.blocks.epsilon);
        for (Index i = 0; i < config_.layers; ++i) {
            if (prompts > 0 && i > 0 && i < prompts_.depth) x = with_prompts(detail::onnx_tokens(g, x, 0, first), i);
            x = blocks.block(i, x, config_.reads_one_token() && i + 1 == config_.layers);
        }
        return head(x);
    }

private:
    /// Embedded patches with their positions, behind the class token.
    std::string tokens(const std::string& images) {
        using schema::Role;
        OnnxGraph& g = layers_.graph();
        const std::string map = config_.stem ? stem(images) : layers_.plain_convolution(Role::patch_embedding, images);
        const std::string rows = g.node("Reshape", {map, g.integers({0, config_.width, -1})});
        std::string x = g.node("Transpose", {rows}, {{"perm", std::vector<std::int64_t>{0, 2, 1}}});
        if (!config_.class_token) return g.node("Add", {x, layers_.vector(Role::positions)});
        if (config_.class_position) {
            x = g.node("Concat", {repeated(layers_.vector(Role::class_token), 1, x), x}, {{"axis", std::int64_t{1}}});
            return g.node("Add", {x, layers_.vector(Role::positions)});
        }
        x = g.node("Add", {x, layers_.vector(Role::positions)});
        return g.node("Concat", {repeated(layers_.vector(Role::class_token), 1, x), x}, {{"axis", std::int64_t{1}}});
    }

    /// MobileCLIP-B's patch embedding, see PatchStem.
    std::string stem(const std::string& images) {
        using schema::Role;
        OnnxGraph& g = layers_.graph();
        std::string x = images;
        for (const Role role : {Role::convolution_1, Role::convolution_2})
            x = detail::onnx_gelu(g, Gelu::exact, layers_.convolution(role, x, layers_.tensor(role).shape[3], 0));
        return layers_.plain_convolution(Role::convolution_3, x);
    }

    /// `vectors` (n, d) once for every image of x: (N, n, d). ONNX takes the larger extent of each axis: d.
    std::string repeated(const std::string& vectors, Index n, const std::string& x) {
        OnnxGraph& g = layers_.graph();
        const std::string batch = g.node("Shape", {x}, {{"start", std::int64_t{0}}, {"end", std::int64_t{1}}});
        const std::string shape = g.node("Concat", {batch, g.integers({n, 1})}, {{"axis", std::int64_t{0}}});
        return g.node("Expand", {vectors, shape});
    }

    /// x with the visual prompts of block `i` behind it.
    std::string with_prompts(const std::string& x, Index i) {
        OnnxGraph& g = layers_.graph();
        const std::string name = i == 0 ? visual_prompt_name : detail::deep_name(image_encoder_prefix, i);
        const std::string vectors = g.weight(name, learned_.at(name, {prompts_.tokens, config_.width}));
        return g.node("Concat", {x, repeated(vectors, prompts_.tokens, x)}, {{"axis", std::int64_t{1}}});
    }

    /// What stands behind the blocks, see VisionHead.
    std::string head(const std::string& blocks) {
        using schema::Role;
        OnnxGraph& g = layers_.graph();
        std::string x = blocks;
        const auto last_norm = [&] { return layers_.norm(Role::last_norm, x, config_.blocks.epsilon); };
        const bool norm_before = config_.last_norm && config_.pool_norm == NormPlace::before;
        if (norm_before) x = last_norm();
        x = pooled(x);
        layers_.sizes().set(schema::Size::width, config_.pooled_width);
        if (config_.last_norm && !norm_before) x = last_norm();
        if (config_.projection) x = layers_.linear(Role::projection, x);
        layers_.sizes().set(schema::Size::width, config_.width);
        return g.node("Reshape", {x, g.integers({-1, config_.embed})});
    }

    std::string pooled(const std::string& x) {
        OnnxGraph& g = layers_.graph();
        if (config_.pooling == Pooling::attention) return attention_pool(x);
        if (config_.pooling == Pooling::class_token) return x;
        const Index first = config_.class_tokens();
        return g.node("ReduceMean", {detail::onnx_tokens(g, x, first, first + config_.cells())},
                      {{"axes", std::vector<std::int64_t>{1}}, {"keepdims", std::int64_t{1}}});
    }

    /// Attention of a learned query over all tokens, see AttentionPool.
    std::string attention_pool(const std::string& tokens) {
        using schema::Role;
        OnnxGraph& g = layers_.graph();
        layers_.sizes().set(schema::Size::pooled, config_.pooled_width);
        const bool norm_key = layers_.is_there(Role::pool_norm_key);
        const std::string x = norm_key ? layers_.norm(Role::pool_norm_key, tokens, config_.blocks.epsilon) : tokens;
        const std::string o =
            detail::onnx_attention(g, {repeated(pool_part(query(), 0), 1, x), pool_part(x, 1), pool_part(x, 2)},
                                   config_.pool_heads, config_.pooled_width, "");
        const std::string z = layers_.linear(Role::pool_out, o);
        if (!layers_.is_there(Role::pool_mlp_in)) return z;
        const std::string read = layers_.norm(Role::pool_norm, z, config_.blocks.epsilon);
        const std::string hidden = detail::onnx_gelu(g, config_.blocks.gelu, layers_.linear(Role::pool_mlp_in, read));
        return g.node("Add", {z, layers_.linear(Role::pool_mlp_out, hidden)});
    }

    /// The learned query (1, 1, p); of several the first, normalised (CoCa, whose ε is CLIP's).
    std::string query() {
        using schema::Role;
        OnnxGraph& g = layers_.graph();
        if (!layers_.is_there(Role::pool_queries))
            return g.node("Reshape", {layers_.vector(Role::pool_probe), g.integers({1, 1, -1})});
        const std::string first =
            g.node("Slice", {layers_.vector(Role::pool_queries), g.integers({0}), g.integers({1}), g.integers({0})});
        const std::string row = g.node("Reshape", {first, g.integers({1, 1, -1})});
        return layers_.norm(Role::pool_norm_query, row, layer_norm_epsilon);
    }

    /// Queries, keys or values (0, 1, 2) of the pooling: a part of one layer, or a matrix with a part of one bias.
    std::string pool_part(const std::string& x, Index part) {
        using schema::Role;
        constexpr Role apart[] = {Role::pool_query, Role::pool_key, Role::pool_value};
        const Index d = config_.pooled_width;
        if (layers_.is_there(Role::pool_in)) return layers_.linear_part(Role::pool_in, x, part * d, d);
        const std::string y = layers_.linear(apart[part], x);
        return layers_.graph().node("Add", {y, layers_.vector_part(Role::pool_in, schema::Part::bias, part * d, d)});
    }

    VisionConfig config_;
    OnnxLayers layers_;
    const TensorMap& learned_;
    PromptDesign prompts_;
};

}  // namespace promptkd
