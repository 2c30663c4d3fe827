// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/compiled.hpp>
#include <promptkd/evaluate/bundle.hpp>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

namespace promptkd {

/// A student read back from its bundle: images in, class probabilities out. Needs no text encoder, teacher or
/// vocabulary.
template <Device D>
class Classifier {
public:
    using T = typename D::Scalar;

    /// Throws Error when `bundle` is not a student bundle or its parts do not fit together. WeightStorage::packed pays
    /// from the second call on.
    Classifier(D& device, const TensorMap& bundle, Index max_batch = 1, WeightStorage storage = WeightStorage::native);

    const std::vector<std::string>& class_names() const { return class_names_; }
    const std::vector<T>& class_vectors() const { return vectors_host_; }
    Index resolution() const { return model_->vision().resolution(); }
    Index embed() const { return student_->config().embed; }
    Index max_batch() const { return student_->max_batch(); }

    /// Normalised features (batch, embed) of device images; valid until the next call.
    const T* encode(const T* images, Index batch);

    /// Probabilities (batch, classes) on the host: softmax(exp(s_s)·u_s·Wᵀ) of device images.
    std::vector<T> probabilities(const T* images, Index batch);

private:
    static StudentConfig student_config(const TensorMap& bundle, Index embed) {
        const PromptDesign design = visual_prompt_design(bundle);
        StudentConfig config;
        config.prompts = design.tokens, config.depth = design.depth, config.embed = embed;
        config.projector_layers = 1;
        while (bundle.contains(Projector<D>::prefix + std::to_string(3 * config.projector_layers) + ".weight"))
            ++config.projector_layers;
        return config;
    }

    static void softmax_row(T* row, Index n) {
        const T top = *std::max_element(row, row + n);
        T total = 0;
        for (Index j = 0; j < n; ++j) total += row[j] = std::exp(row[j] - top);
        for (Index j = 0; j < n; ++j) row[j] /= total;
    }

    D* device_;
    std::vector<std::string> class_names_;
    std::unique_ptr<ClipModel<D>> model_;
    std::unique_ptr<Student<D>> student_;
    std::unique_ptr<Arena<D>> arena_;
    std::vector<T> vectors_host_;
    Buffer<D, T> vectors_, features_, logits_;
};

template <Device D>
Classifier<D>::Classifier(D& device, const TensorMap& bundle, Index max_batch, WeightStorage storage)
    : device_(&device), class_names_(detail::metadata_names(bundle, "class_names")) {
    require(is_bundle(bundle), bundle.source, ": not a student bundle (metadata 'format' is not '", bundle_format,
            "')");
    TensorMap clip;
    clip.source = bundle.source;
    clip.metadata = bundle.metadata;
    for (const auto& [name, tensor] : bundle.tensors)
        if (name.rfind(detail::bundle_clip_prefix, 0) == 0) clip.tensors[name.substr(5)] = tensor;
    model_ = std::make_unique<ClipModel<D>>(device, clip, storage);
    const HostTensor& vectors = bundle.at("class_vectors");
    const Index classes = static_cast<Index>(class_names_.size());
    require(vectors.shape.size() == 2 && vectors.shape[0] == classes, bundle.source, ": 'class_vectors' has shape ",
            to_string(vectors.shape), " for ", classes, " class names");
    vectors_host_ = vectors.to<T>();
    vectors_ = Buffer<D, T>(device, vectors_host_);
    student_ = std::make_unique<Student<D>>(device, *model_, student_config(bundle, vectors.shape[1]), max_batch);
    student_->load(bundle);
    arena_ = std::make_unique<Arena<D>>(device);
    features_ = Buffer<D, T>(device, max_batch * vectors.shape[1]);
    logits_ = Buffer<D, T>(device, max_batch * classes);
    {
        PlanningScope<D> planning(device);
        encode(nullptr, max_batch);
    }
    arena_->bind();
}

template <Device D>
const typename Classifier<D>::T* Classifier<D>::encode(const T* images, Index batch) {
    require(batch <= max_batch(), "a batch of ", batch, " images, but ", max_batch(), " were planned");
    arena_->reset();
    student_->forward_inference(*arena_, images, batch, features_.data());
    return features_.data();
}

template <Device D>
std::vector<typename Classifier<D>::T> Classifier<D>::probabilities(const T* images, Index batch) {
    const Index classes = static_cast<Index>(class_names_.size());
    const T* features = encode(images, batch);
    cosine_logits(*device_, features, static_cast<const T*>(vectors_.data()), logits_.data(), batch, classes, embed(),
                  student_->logit_scale());
    std::vector<T> p(static_cast<std::size_t>(batch * classes));
    device_->download(p.data(), logits_.data(), p.size() * sizeof(T));
    for (Index i = 0; i < batch; ++i) softmax_row(p.data() + i * classes, classes);
    return p;
}

PROMPTKD_COMPILED_CLASS(Classifier);

}  // namespace promptkd
