// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/compiled.hpp>
#include <promptkd/evaluate/bundle.hpp>
#include <promptkd/evaluate/mixed_student.hpp>
#include <promptkd/op/cosine.hpp>

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

    /// Plans for `max_batch` images a call. WeightStorage::packed pays from the second call on. Throws Error when
    /// `bundle` is not a student bundle or its parts do not fit together; see read_bundle().
    Classifier(D& device, const TensorMap& bundle, Index max_batch = 1, WeightStorage storage = WeightStorage::native);

    /// The same from the parts of a bundle. Low-rank updates are merged into the weights, unless a mixture reads these
    /// too.
    Classifier(D& device, const BundleParts& parts, Index max_batch = 1, WeightStorage storage = WeightStorage::native);

    /// The classes, in the order of class_vectors() and probabilities().
    const std::vector<std::string>& class_names() const { return class_names_; }
    /// Number of classes N.
    Index classes() const { return static_cast<Index>(class_names_.size()); }
    /// Normalised class vectors (N, e) on the host.
    const std::vector<T>& class_vectors() const { return vectors_host_; }
    /// Height and width of the images.
    Index resolution() const { return model_->vision().resolution(); }
    /// What the images go through.
    const Preprocessing& preprocessing() const { return model_->preprocessing(); }
    /// Size e of the features.
    Index embed() const { return student_->config().embed; }
    /// Images a call at most.
    Index max_batch() const { return student_->max_batch(); }

    /// Normalised features (batch, embed) of device images (batch, 3, resolution, resolution), valid until the next
    /// call. Throws Error for more images than were planned.
    const T* encode(const T* images, Index batch);

    /// Probabilities (batch, classes) on the host of device images: softmax(exp(s_s)·u_s·Wᵀ), or those of the mixture
    /// with the zero-shot student where the bundle has one.
    std::vector<T> probabilities(const T* images, Index batch);

    /// Whether the bundle mixes the student with its zero-shot self.
    bool is_mixed() const { return mixed_ != nullptr; }
    /// The mixture; only where is_mixed().
    MixedStudent& mixed() { return *mixed_; }
    /// What makes the rows that mixed() takes; only where is_mixed().
    MixtureEncoder<D>& mixture_encoder() { return *mixture_encoder_; }
    /// What the mixture says of device images, part by part; only where is_mixed().
    MixturePrediction mix(const T* images, Index batch);

private:
    static void softmax_row(T* row, Index n) {
        const T top = *std::max_element(row, row + n);
        T total = 0;
        for (Index j = 0; j < n; ++j) total += row[j] = std::exp(row[j] - top);
        for (Index j = 0; j < n; ++j) row[j] /= total;
    }

    D* device_;
    std::vector<std::string> class_names_;
    std::unique_ptr<ClipModel<D>> model_;
    std::unique_ptr<ClipModel<D>> plain_;  ///< where a mixture reads other weights than the student's
    std::unique_ptr<Student<D>> student_;
    std::unique_ptr<Arena<D>> arena_;
    std::vector<T> vectors_host_;
    Buffer<D, T> vectors_, features_, logits_;
    std::unique_ptr<MixedStudent> mixed_;
    std::unique_ptr<MixtureEncoder<D>> mixture_encoder_;
};

template <Device D>
Classifier<D>::Classifier(D& device, const TensorMap& bundle, Index max_batch, WeightStorage storage)
    : Classifier(device, read_bundle(bundle), max_batch, storage) {}

template <Device D>
Classifier<D>::Classifier(D& device, const BundleParts& parts, Index max_batch, WeightStorage storage)
    : device_(&device), class_names_(parts.class_names) {
    StudentConfig config = student_config(parts);
    if (schema::has_image_weights(parts.learned)) {  // beside the plain ones, which the mixture reads
        plain_ = std::make_unique<ClipModel<D>>(device, parts.clip, storage);
        TensorMap own = parts.clip;
        for (const auto& [name, tensor] : parts.learned.tensors)
            if (schema::is_image_weight(name)) own.tensors[name] = tensor;
        model_ = std::make_unique<ClipModel<D>>(device, own, storage);
    } else if (config.training == EncoderTraining::lora && !parts.mixture) {
        TensorMap merged = parts.clip;
        merge_lora(merged, parts.learned);
        config.training = EncoderTraining::frozen;
        model_ = std::make_unique<ClipModel<D>>(device, merged, storage);
    } else {
        model_ = std::make_unique<ClipModel<D>>(device, parts.clip, storage);
    }
    vectors_host_ = parts.class_vectors.template to<T>();
    vectors_ = Buffer<D, T>(device, vectors_host_);
    student_ = std::make_unique<Student<D>>(device, *model_, config, max_batch);
    student_->load(parts.learned);
    arena_ = std::make_unique<Arena<D>>(device);
    features_ = Buffer<D, T>(device, max_batch * embed());
    logits_ = Buffer<D, T>(device, max_batch * classes());
    arena_->plan([&] { encode(nullptr, max_batch); });
    if (!parts.mixture) return;
    mixture_encoder_ = std::make_unique<MixtureEncoder<D>>(device, *student_, *parts.mixture, max_batch, plain_.get());
    mixed_ = std::make_unique<MixedStudent>(*parts.mixture, parts.class_vectors.template to<double>());
}

template <Device D>
const typename Classifier<D>::T* Classifier<D>::encode(const T* images, Index batch) {
    require(batch <= max_batch(), "a batch of ", batch, " images, but ", max_batch(), " were planned");
    arena_->reset();
    student_->forward_inference(*arena_, images, batch, features_.data());
    return features_.data();
}

template <Device D>
MixturePrediction Classifier<D>::mix(const T* images, Index batch) {
    require(batch <= max_batch(), "a batch of ", batch, " images, but ", max_batch(), " were planned");
    std::vector<T> rows(static_cast<std::size_t>(batch * mixture_encoder_->embed()));
    device_->download(rows.data(), mixture_encoder_->encode(images, batch), rows.size() * sizeof(T));
    return mixed_->predict(rows.data(), batch);
}

template <Device D>
std::vector<typename Classifier<D>::T> Classifier<D>::probabilities(const T* images, Index batch) {
    if (mixed_) {
        const std::vector<double> p = mix(images, batch).probabilities;
        return std::vector<T>(p.begin(), p.end());
    }
    const T* features = encode(images, batch);
    cosine_logits(*device_, ConstMatrix<T>(features, batch, embed()), vectors_.matrix(classes(), embed()),
                  student_->logit_scale(), logits_.matrix(batch, classes()));
    std::vector<T> p(static_cast<std::size_t>(batch * classes()));
    device_->download(p.data(), logits_.data(), p.size() * sizeof(T));
    for (Index i = 0; i < batch; ++i) softmax_row(p.data() + i * classes(), classes());
    return p;
}

PROMPTKD_COMPILED_CLASS(Classifier);

}  // namespace promptkd
