// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model_case.hpp"

namespace promptkd::test {

/// Copies the activations of a forward pass to the host, layer by layer.
template <class D>
struct Recorder {
    using A = typename D::Activation;
    D* device;
    std::vector<std::pair<Index, std::vector<A>>>* records;
    void operator()(Index layer, const Matrix<const A>& x) const {
        if (device->is_planning()) return;
        std::vector<A> values(static_cast<std::size_t>(x.count()));
        device->download(values.data(), x.data, values.size() * sizeof(A));
        records->emplace_back(layer, std::move(values));
    }
};

/// image features, text features, logits, probabilities and the activations after ln_pre and the blocks.
template <class D>
void check_zero_shot(D& device, const GoldenCase& c, Report& report) {
    using T = typename D::Scalar;
    using A = typename D::Activation;
    const ClipModel<D> model(device, c.model("model"));
    Arena<D> arena(device);
    const Workspace<D> workspace{device, arena};

    const std::vector<T> images = c.map.at("images").to<T>();
    const Index batch = c.shape("images")[0], embed = model.vision().embed();
    Buffer<D, T> pixels(device, images), features(device, batch * embed);
    std::vector<std::pair<Index, std::vector<A>>> records;
    const auto encode_images = [&] {
        model.vision().forward(workspace, pixels.matrix(batch, pixels.size() / batch), {},
                               features.matrix(batch, embed), nullptr, Recorder<D>{&device, &records});
    };
    plan(device, arena, encode_images);
    encode_images();
    const std::vector<T> image_features = features.to_host();
    report.close("image_features", image_features, c.values("image_features"), 1e-4);
    for (const auto& [layer, values] : records) {
        const std::string name = layer < 0 ? "act.visual.ln_pre" : "act.visual.block" + std::to_string(layer);
        if (c.has(name)) report.close(name, values, c.values(name), 1e-4);
    }

    const TokenRows texts = token_rows(c, "tokens");
    std::vector<T> text_features;
    for (const bool save : {true, false}) {  // with and without cutting at EOT and sharing the prefix
        const TextBatch<D> prepared = model.text().prepare(device, texts, {}, 0, TextSavings{save, save});
        Buffer<D, T> encoded(device, texts.count * embed);
        records.clear();
        const auto encode_texts = [&] {
            model.text().forward(workspace, prepared, {}, encoded.matrix(texts.count, embed), nullptr,
                                 Recorder<D>{&device, &records});
        };
        plan(device, arena, encode_texts);
        encode_texts();
        text_features = encoded.to_host();
        report.close(save ? "text_features" : "text_features (plain)", text_features, c.values("text_features"), 1e-4);
        for (const auto& [layer, values] : records) {
            const std::string name = "act.text.block" + std::to_string(layer);
            if (save || !c.has(name)) continue;
            const std::vector<double> want = c.values(name);  // the first texts only
            report.close(name, values.data(), want.data(), static_cast<Index>(want.size()), 1e-4);
        }
    }

    std::vector<double> logits, probabilities;
    for (Index i = 0; i < batch; ++i) {
        double total = 0;
        const std::size_t first = logits.size();
        for (Index j = 0; j < texts.count; ++j) {
            double dot = 0, uu = 0, ww = 0;
            for (Index e = 0; e < embed; ++e) {
                const double u = image_features[static_cast<std::size_t>(i * embed + e)],
                             w = text_features[static_cast<std::size_t>(j * embed + e)];
                dot += u * w;
                uu += u * u;
                ww += w * w;
            }
            logits.push_back(model.logit_scale() * dot / std::sqrt(uu * ww));
            total += std::exp(logits.back());
        }
        for (std::size_t j = first; j < logits.size(); ++j) probabilities.push_back(std::exp(logits[j]) / total);
    }
    report.close("logits", logits, c.values("logits"), 1e-4);
    if (c.has("probs")) report.close("probs", probabilities, c.values("probs"), 1e-4);
}

}  // namespace promptkd::test
