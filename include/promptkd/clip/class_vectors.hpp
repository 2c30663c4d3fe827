// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/model.hpp>
#include <promptkd/clip/prompts.hpp>
#include <promptkd/device/compiled.hpp>
#include <promptkd/op/norm.hpp>

namespace promptkd {

/// Text features (count, embed) of tokenised prompts, un-normalised, on the host. `prompts` may be null or hold the
/// context `prompt_learner.ctx` (which replaces the tokens after SOT) and deep prompts `text_encoder.…VPT_shallow`.
/// Texts are encoded in groups of `group`, so memory does not grow with their number.
template <Device D>
std::vector<typename D::Scalar> encode_texts(D& device, const ClipModel<D>& model, const TokenRows& tokens,
                                             const TensorMap* prompts = nullptr, Index group = 512,
                                             TextSavings savings = {}) {
    using T = typename D::Scalar;
    const TextTransformer<D>& text = model.text();
    ParamSet<D> params(device);
    PromptLayers<T> layers;
    if (prompts) {
        const PromptDesign design = text_prompt_design(*prompts);
        require_depth("text", design.depth, text.config().layers);
        layers = add_text_prompts(params, design.tokens, design.depth, text.config().width);
    }
    params.bind_frozen();
    if (prompts) params.load_all(*prompts);
    std::vector<T> all;
    Arena<D> arena(device);
    for (Index first = 0; first < tokens.count; first += group) {
        const TokenRows part = tokens.slice(first, std::min(group, tokens.count - first));
        const ContextLayout context =
            layers.empty() ? ContextLayout{} : ContextLayout::after_start(part.count, layers.tokens);
        const TextBatch<D> batch = text.prepare(device, part, context, layers.depth() > 1 ? layers.tokens : 0, savings);
        Buffer<D, T> features(device, part.count * text.embed());
        const TextPrompts<T> learned{layers.empty() ? nullptr : layers.layers[0]->value,
                                     layers.empty() ? nullptr : &layers};
        const auto encode = [&] {
            text.forward(Workspace<D>{device, arena}, batch, learned, features.matrix(part.count, text.embed()),
                         nullptr);
        };
        arena.plan(encode);
        encode();
        const std::vector<T> values = features.to_host();
        all.insert(all.end(), values.begin(), values.end());
    }
    return all;
}

/// Rows of `embed` values scaled to unit length, in place. Throws Error for a row of zeros or a non-finite one.
template <class T>
void normalize_rows(std::vector<T>& rows, Index embed) {
    for (std::size_t first = 0; first < rows.size(); first += static_cast<std::size_t>(embed)) {
        double square = 0;
        for (Index j = 0; j < embed; ++j)
            square += static_cast<double>(rows[first + static_cast<std::size_t>(j)]) *
                      rows[first + static_cast<std::size_t>(j)];
        require(square > 0 && std::isfinite(square), "text features of row ", first / static_cast<std::size_t>(embed),
                " cannot be normalised");
        const double inverse = 1 / std::sqrt(square);
        for (Index j = 0; j < embed; ++j) {
            T& value = rows[first + static_cast<std::size_t>(j)];
            value = static_cast<T>(value * inverse);
        }
    }
}

/// The mean of `n` consecutive blocks of `values` values: features averaged over templates.
template <class T>
std::vector<T> average_rows(const std::vector<T>& blocks, Index n, Index values) {
    require(static_cast<Index>(blocks.size()) == n * values, "average: ", blocks.size(), " values are not ", n,
            " blocks of ", values);
    std::vector<double> total(static_cast<std::size_t>(values));
    for (std::size_t i = 0; i < blocks.size(); ++i) total[i % total.size()] += static_cast<double>(blocks[i]);
    std::vector<T> mean;
    for (const double x : total) mean.push_back(static_cast<T>(x / static_cast<double>(n)));
    return mean;
}

/// The class vectors W (count, embed): normalised text features, computed once and shared by teacher and student.
template <Device D>
std::vector<typename D::Scalar> class_vectors(D& device, const ClipModel<D>& model, const TokenRows& tokens,
                                              const TensorMap* prompts = nullptr) {
    std::vector<typename D::Scalar> vectors = encode_texts(device, model, tokens, prompts);
    normalize_rows(vectors, model.text().embed());
    return vectors;
}

PROMPTKD_COMPILED_FUNCTION(std::vector<float> encode_texts(Cpu<float>&, const ClipModel<Cpu<float>>&, const TokenRows&,
                                                           const TensorMap*, Index, TextSavings));

}  // namespace promptkd
