// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/prompts.hpp>

#include <string>
#include <vector>

namespace promptkd {

namespace detail {

/// y = x·Wᵀ + b in double, for the rows of x (n, in), W (out, in): MaPLe's Linears, applied once to frozen prompts.
inline HostTensor apply_linear(const TensorMap& map, const std::string& linear, const HostTensor& x,
                               const std::string& x_name) {
    const HostTensor& weight = map.at(linear + ".weight");
    require(weight.shape.size() == 2 && x.shape.size() == 2 && x.shape[1] == weight.shape[1], map.source, ": '", linear,
            ".weight' ", to_string(weight.shape), " does not fit '", x_name, "' ", to_string(x.shape));
    const Index n = x.shape[0], out = weight.shape[0], in = weight.shape[1];
    const std::vector<double> w = weight.to<double>(), b = map.at(linear + ".bias", {out}).to<double>(),
                              v = x.to<double>();
    std::vector<float> y(static_cast<std::size_t>(n * out));
    for (Index i = 0; i < n; ++i)
        for (Index j = 0; j < out; ++j) {
            double sum = b[static_cast<std::size_t>(j)];
            for (Index k = 0; k < in; ++k)
                sum += w[static_cast<std::size_t>(j * in + k)] * v[static_cast<std::size_t>(i * in + k)];
            y[static_cast<std::size_t>(i * out + j)] = static_cast<float>(sum);
        }
    return make_tensor(std::move(y), {n, out});
}

}  // namespace detail

/// Whether these learned parameters are MaPLe's.
inline bool is_maple(const TensorMap& map) { return map.contains("prompt_learner.proj.weight"); }

/// MaPLe's learned parameters (Khattak et al., CVPR 2023) as prompts of two independent branches, which is what they
/// are once training is over: visual prompts proj(ctx) in front of block 0 and
/// compound_prompt_projections[i−1](compound_prompts_text[i−1]) at block i; text prompts ctx and
/// compound_prompts_text[i−1]. Names as IVLP's: `prompt_learner.ctx`, `image_encoder.VPT`,
/// `{image,text}_encoder.transformer.resblocks.{i}.VPT_shallow`. Throws Error where a Linear is missing or does not
/// fit.
inline TensorMap expand_maple(const TensorMap& map) {
    TensorMap out;
    out.metadata = map.metadata, out.source = map.source;
    const HostTensor& context = map.at(context_name);
    out.tensors[context_name] = context;
    out.tensors[visual_prompt_name] = detail::apply_linear(map, "prompt_learner.proj", context, context_name);
    for (Index i = 1;; ++i) {
        const std::string number = std::to_string(i - 1), text = "prompt_learner.compound_prompts_text." + number;
        const std::string projection = "prompt_learner.compound_prompt_projections." + number;
        if (!map.contains(text)) {
            require(!map.contains(projection + ".weight"), map.source, ": tensor '", text, "' is missing");
            return out;
        }
        out.tensors[detail::deep_name(text_encoder_prefix, i)] = map.at(text);
        out.tensors[detail::deep_name(image_encoder_prefix, i)] =
            detail::apply_linear(map, projection, map.at(text), text);
    }
}

/// Learned parameters as fixed prompts of the two branches: MaPLe's are expanded, others are what they are. Throws
/// Error for CoCoOp's, whose context depends on the image.
inline TensorMap fixed_prompts(const TensorMap& map) {
    require(!map.contains("prompt_learner.meta_net.linear1.weight"), map.source,
            ": CoCoOp's context depends on each image; its checkpoint cannot be used as fixed prompts");
    require(map.contains(context_name) || map.contains(visual_prompt_name), map.source, ": holds no learned prompts ('",
            context_name, "' or '", visual_prompt_name, "')");
    return is_maple(map) ? expand_maple(map) : map;
}

}  // namespace promptkd
