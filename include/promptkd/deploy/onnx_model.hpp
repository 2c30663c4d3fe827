// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/preprocessing.hpp>
#include <promptkd/deploy/onnx_projector.hpp>
#include <promptkd/deploy/onnx_resnet.hpp>
#include <promptkd/deploy/onnx_text.hpp>
#include <promptkd/deploy/onnx_vision.hpp>
#include <promptkd/evaluate/bundle.hpp>

#include <optional>
#include <string>
#include <vector>

namespace promptkd {

/// How a model is written as ONNX.
struct OnnxOptions {
    DType elements = DType::f32;  ///< of the weights and of the encoder's arithmetic: f32 or f16
    bool raw_pixels = false;      ///< images are bytes 0 … 255; their normalisation is part of the model
    bool features = false;        ///< a further output: the student's normalised features u
};

/// Names of inputs and outputs, those of the common image classification clients.
///@{
inline constexpr const char* onnx_pixels = "pixel_values";
inline constexpr const char* onnx_tokens_input = "input_ids";
inline constexpr const char* onnx_logits = "logits";
inline constexpr const char* onnx_features = "features";
///@}

namespace detail {

/// An image encoder of either kind.
class OnnxImageEncoder {
public:
    OnnxImageEncoder(OnnxGraph& graph, const TensorMap& map, const TensorMap& learned) {
        if (schema::image_architecture(map) == &schema::modified_resnet)
            resnet_.emplace(graph, map);
        else
            transformer_.emplace(graph, map, learned);
    }
    Index embed() const { return resnet_ ? resnet_->embed() : transformer_->embed(); }
    Index resolution() const { return resnet_ ? resnet_->resolution() : transformer_->resolution(); }
    std::string features(const std::string& images, bool prompted) {
        return resnet_ ? resnet_->features(images) : transformer_->features(images, prompted);
    }

private:
    std::optional<OnnxVisionTransformer> transformer_;
    std::optional<OnnxModifiedResNet> resnet_;
};

/// The input of an image model, as the encoder takes it: normalised, in the type of the graph.
inline std::string onnx_images(OnnxGraph& g, const Preprocessing& p, Index resolution, bool raw) {
    const std::vector<OnnxExtent> shape{std::string("batch"), Index{3}, resolution, resolution};
    const std::string input = g.input(onnx_pixels, raw ? DType::u8 : DType::f32, shape);
    if (!raw) return g.elements() == DType::f32 ? input : g.cast(input, g.elements());
    std::vector<float> scale, shift;
    for (std::size_t c = 0; c < 3; ++c) {
        const double deviation = p.normalization.deviation[c];
        scale.push_back(static_cast<float>(p.rescale / deviation));
        shift.push_back(static_cast<float>(-p.normalization.mean[c] / deviation));
    }
    const std::string scaled =
        g.node("Mul", {g.cast(input, DType::f32), g.constant("pixel_scale", make_tensor(std::move(scale), {3, 1, 1}))});
    const std::string x = g.node("Add", {scaled, g.constant("pixel_shift", make_tensor(std::move(shift), {3, 1, 1}))});
    return g.elements() == DType::f32 ? x : g.cast(x, g.elements());
}

/// log softmax(factor·u·Wᵀ) for normalised u (N, e), W (K, e); f32, the factor folded into W.
inline std::string onnx_log_softmax(OnnxGraph& g, const std::string& u, const std::string& name,
                                    std::vector<double> vectors, Index classes, double factor) {
    const Index e = static_cast<Index>(vectors.size()) / classes;
    for (double& v : vectors) v *= factor;
    const HostTensor turned = transpose(make_tensor(std::vector<float>(vectors.begin(), vectors.end()), {classes, e}));
    const std::string logits = g.node("MatMul", {u, g.constant(name, turned)});
    return g.node("LogSoftmax", {logits}, {{"axis", std::int64_t{-1}}});
}

/// w (N, 1) = a/(1 + (ℓ(x)/c_g)⁴) of raw features x (N, e_s), f32: see Guard.
inline std::string onnx_guard(OnnxGraph& g, const Mixture& mixture, const std::string& x) {
    const std::string a = g.number(mixture.weight, DType::f32);
    if (!mixture.guard) return a;
    const Guard& guard = *mixture.guard;
    const auto narrow = [](const std::vector<double>& values, double factor) {
        std::vector<float> out;
        for (const double v : values) out.push_back(static_cast<float>(v * factor));
        return out;
    };
    const std::string mean = g.constant("guard.mean", make_tensor(narrow(guard.mean, 1), {guard.width}));
    const std::string precision = g.constant(
        "guard.precision", make_tensor(narrow(guard.precision, 1 / guard.cutoff), {guard.width, guard.width}));
    const std::string from_mean = g.node("Sub", {x, mean});
    const std::string products = g.node("Mul", {g.node("MatMul", {from_mean, precision}), from_mean});
    const std::string sum = g.node("ReduceSum", {products, g.integers({-1})}, {{"keepdims", std::int64_t{1}}});
    const double own = 1 / (static_cast<double>(guard.images) * guard.cutoff);
    const std::string ratio = g.node("Add", {sum, g.number(own, DType::f32)});
    const std::string square = g.node("Mul", {ratio, ratio});
    const std::string fourth = g.node("Mul", {square, square});
    return g.node("Div", {a, g.node("Add", {fourth, g.number(1, DType::f32)})});
}

/// log(w·exp(a) + (1 − w)·exp(b)) of log-probabilities a and b, without underflow of both.
inline std::string onnx_log_mixture(OnnxGraph& g, const std::string& w, const std::string& a, const std::string& b) {
    const std::string top = g.node("Max", {a, b});
    const auto share = [&](const std::string& weight, const std::string& log) {
        return g.node("Mul", {weight, g.node("Exp", {g.node("Sub", {log, top})})});
    };
    const std::string rest = g.node("Sub", {g.number(1, DType::f32), w});
    const std::string sum = g.node("Add", {share(w, a), share(rest, b)});
    const std::string least = g.number(1e-30, DType::f32);
    return g.node("Add", {top, g.node("Log", {g.node("Max", {sum, least})})});
}

}  // namespace detail

/// A student bundle as an ONNX model: `pixel_values` (batch, 3, r, r) in, normalised or, with raw_pixels, bytes of the
/// right size; `logits` (batch, K) out: log-probabilities, so that the softmax that the common clients apply gives the
/// probabilities of Classifier, mixture and guard included. Encoder and projector compute in options.elements, what
/// follows in f32. Throws Error naming what of a bundle ONNX cannot express or the bundle lacks.
inline OnnxGraph onnx_student(const BundleParts& parts, const OnnxOptions& options) {
    for (const std::string& feature : parts.required)
        require(feature == "tower" || feature == "preprocessing", parts.clip.source, ": a student that needs '",
                feature, "' is not exported yet");
    OnnxGraph g("promptkd_student", options.elements);
    detail::OnnxImageEncoder encoder(g, parts.clip, parts.learned);
    const StudentConfig config = student_config(parts);
    const Index classes = static_cast<Index>(parts.class_names.size()), e = config.embed;
    const Preprocessing preprocessing = preprocessing_of(parts.clip, encoder.resolution());
    const std::string images = detail::onnx_images(g, preprocessing, encoder.resolution(), options.raw_pixels);
    const std::string x = encoder.features(images, true);
    const std::string u = detail::onnx_normalized(g, onnx_projector(g, parts.learned, config.projector_layers, x));
    const std::vector<double> vectors = parts.class_vectors.to<double>();
    const double factor = parts.mixture ? parts.mixture->distilled_scale : logit_scale_of(parts.clip);
    std::string logits = detail::onnx_log_softmax(g, u, "class_vectors", vectors, classes, factor);
    if (parts.mixture) {
        const Mixture& m = *parts.mixture;
        require(m.width == encoder.embed(), parts.clip.source, ": the mixture reads features of ", m.width,
                " values, but the encoder makes ", encoder.embed());
        const bool second = m.features == MixtureFeatures::plain && config.prompts > 0;
        const std::string raw = g.cast(second ? encoder.features(images, false) : x, DType::f32);
        const std::string zero_shot =
            detail::onnx_log_softmax(g, detail::onnx_normalized(g, raw), "mixture.student_text", m.student_text,
                                     classes, m.zero_shot_scale * m.temperature);
        logits = detail::onnx_log_mixture(g, detail::onnx_guard(g, m, raw), logits, zero_shot);
    }
    g.output(logits, onnx_logits, DType::f32, {std::string("batch"), classes});
    if (options.features) g.output(u, onnx_features, DType::f32, {std::string("batch"), e});
    g.metadata("class_names", json_text(nlohmann::json(parts.class_names)));
    return g;
}

/// The image branch of a CLIP model as an ONNX model: `pixel_values` in as in onnx_student(), `features` (batch, e)
/// out, not normalised. `learned` may hold visual prompts.
inline OnnxGraph onnx_image_encoder(const TensorMap& model, const TensorMap& learned, const OnnxOptions& options) {
    OnnxGraph g("promptkd_image_encoder", options.elements);
    detail::OnnxImageEncoder encoder(g, model, learned);
    const Preprocessing preprocessing = preprocessing_of(model, encoder.resolution());
    const std::string images = detail::onnx_images(g, preprocessing, encoder.resolution(), options.raw_pixels);
    const std::string features = g.cast(encoder.features(images, true), DType::f32);
    g.output(features, onnx_features, DType::f32, {std::string("batch"), encoder.embed()});
    return g;
}

/// The text branch of a CLIP model as an ONNX model: `input_ids` (batch, context length) int64 in, `features` (batch,
/// e) out, not normalised.
inline OnnxGraph onnx_text_encoder(const TensorMap& model, const OnnxOptions& options) {
    OnnxGraph g("promptkd_text_encoder", options.elements);
    OnnxTextTransformer encoder(g, model);
    const std::string ids = g.input(onnx_tokens_input, DType::i64, {std::string("batch"), encoder.context_length()});
    const std::string features = g.cast(encoder.features(ids), DType::f32);
    g.output(features, onnx_features, DType::f32, {std::string("batch"), encoder.embed()});
    return g;
}

}  // namespace promptkd
