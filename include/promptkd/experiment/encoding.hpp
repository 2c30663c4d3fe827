// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/clip/image_tower.hpp>
#include <promptkd/device/compiled.hpp>
#include <promptkd/experiment/data.hpp>
#include <promptkd/experiment/evaluation.hpp>
#include <promptkd/experiment/models.hpp>
#include <promptkd/format/finite.hpp>
#include <promptkd/format/json_text.hpp>
#include <promptkd/format/safetensors.hpp>
#include <promptkd/op/cosine.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace promptkd {

/// Features of one kind of input: of given tensors, of texts, or of the images of a data set.
struct EncodingSpec {
    ModelFile model;      ///< the encoder
    std::string tensors;  ///< safetensors with 'images' (n, 3, r, r; normalised) and/or 'tokens' (n, context length)
    std::vector<std::string> texts;  ///< to be encoded
    std::string data;                ///< "NAME:ROOT", see open_dataset()
    std::string pattern;             ///< with texts: "{}" stands for the text; empty: the text alone
    std::string vocabulary;          ///< with texts: the tokenizer's file; empty: the one beside the weights
    bool truncate = false;           ///< with texts: those longer than the model's context are cut, not refused
    bool normalize = false;          ///< features of texts and of a data set to unit length
    Index batch = 32;                ///< images at a time
    WeightStorage storage = WeightStorage::packed;  ///< of the image encoder
};

namespace detail {

/// FrozenImageTower with or without the normalisation.
template <Device D>
struct TowerEncoder {
    FrozenImageTower<D>& tower;
    bool normalize;

    const Preprocessing& preprocessing() const { return tower.preprocessing(); }
    Index embed() const { return tower.embed(); }
    const typename D::Scalar* encode(const typename D::Scalar* images, Index n) {
        return normalize ? tower.encode(images, n) : tower.encode_raw(images, n);
    }
};

/// Features (n, e) of normalised pixels (n, 3, r, r) on the host.
template <Device D>
std::vector<typename D::Scalar> encode_pixels(D& device, const ClipModel<D>& model, const HostTensor& images,
                                              Index batch) {
    using T = typename D::Scalar;
    const Index n = images.shape[0];
    FrozenImageTower<D> tower(device, model, nullptr, std::min(batch, n));
    const Index size = 3 * tower.resolution() * tower.resolution(), embed = tower.embed();
    Buffer<D, T> pixels(device, tower.max_batch() * size);
    std::vector<T> all(static_cast<std::size_t>(n * embed)), host(static_cast<std::size_t>(tower.max_batch() * size));
    for (Index first = 0; first < n; first += tower.max_batch()) {
        const Index rows = std::min(tower.max_batch(), n - first);
        images.copy_to(host.data(), first * size, rows * size);
        device.upload(pixels.data(), host.data(), static_cast<std::size_t>(rows * size) * sizeof(T));
        const T* features = tower.encode_raw(pixels.data(), rows);
        device.download(all.data() + first * embed, features, static_cast<std::size_t>(rows * embed) * sizeof(T));
    }
    return all;
}

/// exp(s)·u·wᵀ, plus the model's logit bias, of raw features (n, e) and (classes, e) on the host.
template <Device D, class T>
HostTensor logits_of_features(D& device, const ClipModel<D>& model, std::vector<T> images, std::vector<T> texts) {
    const Index embed = model.vision().embed();
    const Index n = static_cast<Index>(images.size()) / embed, classes = static_cast<Index>(texts.size()) / embed;
    normalize_rows(images, embed);
    normalize_rows(texts, embed);
    Buffer<D, T> u(device, images), w(device, texts), logits(device, n * classes);
    cosine_logits(device, u.matrix(n, embed), w.matrix(classes, embed), model.logit_scale(), logits.matrix(n, classes));
    std::vector<T> values = logits.to_host();
    if (model.logit_bias() != 0)
        for (T& value : values) value += static_cast<T>(model.logit_bias());
    return make_tensor(std::move(values), {n, classes});
}

template <Device D>
TensorMap encode_tensors(D& device, const ClipModel<D>& model, const EncodingSpec& spec) {
    using T = typename D::Scalar;
    const TensorMap in = read_safetensors(spec.tensors);
    require_finite(in);
    require(in.contains("images") || in.contains("tokens"), spec.tensors, ": holds neither 'images' nor 'tokens'");
    const Index embed = model.vision().embed(), r = model.vision().resolution();
    std::vector<T> image_features, text_features;
    TensorMap out;
    if (in.contains("images")) {
        const HostTensor& images = in.at("images");
        require(images.shape.size() == 4 && images.shape[1] == 3 && images.shape[2] == r && images.shape[3] == r,
                spec.tensors, ": 'images' has shape ", to_string(images.shape), ", expected (n, 3, ", r, ", ", r, ")");
        image_features = encode_pixels(device, model, images, spec.batch);
        out.tensors["image_features"] = make_tensor(image_features, {images.shape[0], embed});
    }
    if (in.contains("tokens")) {
        const HostTensor& ids = in.at("tokens");
        require(ids.shape.size() == 2 && !is_floating(ids.dtype), spec.tensors,
                ": 'tokens' must be (n, context length) integers, found ", name_of(ids.dtype), " ",
                to_string(ids.shape));
        const TokenRows rows{ids.to<std::int32_t>(), ids.shape[0], ids.shape[1]};
        text_features = encode_texts(device, model, rows);
        out.tensors["text_features"] = make_tensor(text_features, {rows.count, embed});
    }
    if (!image_features.empty() && !text_features.empty())
        out.tensors["logits"] = logits_of_features(device, model, std::move(image_features), std::move(text_features));
    return out;
}

template <Device D>
TensorMap encode_lines(D& device, const ClipModel<D>& model, const EncodingSpec& spec) {
    const Tokenizer tokenizer = load_tokenizer(spec.vocabulary, spec.model.path, spec.truncate);
    const TokenRows rows = tokenize_classes(tokenizer, model.text().config(), model.source(), spec.texts,
                                            spec.pattern.empty() ? "{}" : spec.pattern);
    auto features = encode_texts(device, model, rows);
    if (spec.normalize) normalize_rows(features, model.text().embed());
    TensorMap out;
    out.tensors["text_features"] = make_tensor(std::move(features), {rows.count, model.text().embed()});
    out.metadata["texts"] = json_text(nlohmann::json(spec.texts));
    return out;
}

template <Device D>
TensorMap encode_dataset(D& device, const ClipModel<D>& model, const EncodingSpec& spec, Observer& observer) {
    const Dataset data = open_dataset(spec.data, Split::test, {}, FolderLabels::none, teller(observer));
    const Index batch = fitting_batch(spec.batch, data);
    FrozenImageTower<D> tower(device, model, nullptr, batch);
    TowerEncoder<D> encoder{tower, spec.normalize};
    auto set = encode_images(device, encoder, data, {"encode", batch, observer});
    nlohmann::json files = nlohmann::json::array();
    for (const Index i : set.indices) files.push_back(data.item_name(i));
    TensorMap out;
    out.tensors["image_features"] = make_tensor(std::move(set.values), {set.size(), tower.embed()});
    out.metadata["images"] = json_text(files);
    return out;
}

}  // namespace detail

namespace detail {

/// The model; of given images of another size with its positions interpolated for them, which is said.
inline TensorMap load_for_tensors(const EncodingSpec& spec, Observer& observer) {
    TensorMap weights = load_model(spec.model, observer);
    if (spec.tensors.empty() || spec.model.images.resolution > 0 || !schema::has_vision_transformer(weights))
        return weights;
    const TensorMap in = read_safetensors(spec.tensors);
    if (!in.contains("images") || in.at("images").shape.size() != 4) return weights;
    const Shape& shape = in.at("images").shape;
    const Index own = vision_config(weights).resolution();
    if (shape[2] == own || shape[2] != shape[3]) return weights;
    ModelFile resized = spec.model;
    resized.images.resolution = shape[2];
    observer.on_warning(concat(spec.tensors, ": images of ", shape[2], " pixels; the positions of the model for ", own,
                               " pixels are interpolated"));
    return load_model(resized, observer);
}

}  // namespace detail

/// Encodes as `spec` says: image_features (n, e) and the metadata `images` (names), text_features (n, e) and the
/// metadata `texts`, and of given tensors of both kinds also logits. Features are raw unless spec.normalize. Throws
/// Error unless there is exactly one kind of input, and for NaN or infinity in what comes in or out.
template <Device D>
TensorMap run(D& device, const EncodingSpec& spec, Observer& observer = silent_observer()) {
    const int inputs = !spec.tensors.empty() + !spec.texts.empty() + !spec.data.empty();
    require(inputs == 1, "encode: give one of tensors, texts and a data set");
    const TensorMap weights = detail::load_for_tensors(spec, observer);
    const ClipModel<D> model(device, weights, spec.storage);
    if (!spec.data.empty()) return detail::encode_dataset(device, model, spec, observer);
    const TensorMap out =
        spec.texts.empty() ? detail::encode_tensors(device, model, spec) : detail::encode_lines(device, model, spec);
    for (const auto& [name, tensor] : out.tensors)
        require(all_finite(tensor), model.source(), ": the model makes NaN or infinity of the input (", name, ")");
    return out;
}

PROMPTKD_COMPILED_FUNCTION(TensorMap run(Cpu<float>&, const EncodingSpec&, Observer&));

}  // namespace promptkd
