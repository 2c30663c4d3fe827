// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/device/compiled.hpp>
#include <promptkd/evaluate/bundle.hpp>
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

    /// The same from the parts of a bundle.
    Classifier(D& device, const BundleParts& parts, Index max_batch = 1, WeightStorage storage = WeightStorage::native);

    /// The classes, in the order of class_vectors() and probabilities().
    const std::vector<std::string>& class_names() const { return class_names_; }
    /// Number of classes N.
    Index classes() const { return static_cast<Index>(class_names_.size()); }
    /// Normalised class vectors (N, e) on the host.
    const std::vector<T>& class_vectors() const { return vectors_host_; }
    /// Height and width of the images.
    Index resolution() const { return model_->vision().resolution(); }
    /// Size e of the features.
    Index embed() const { return student_->config().embed; }
    /// Images a call at most.
    Index max_batch() const { return student_->max_batch(); }

    /// Normalised features (batch, embed) of device images (batch, 3, resolution, resolution), valid until the next
    /// call. Throws Error for more images than were planned.
    const T* encode(const T* images, Index batch);

    /// Probabilities (batch, classes) on the host: softmax(exp(s_s)·u_s·Wᵀ) of device images.
    std::vector<T> probabilities(const T* images, Index batch);

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
    std::unique_ptr<Student<D>> student_;
    std::unique_ptr<Arena<D>> arena_;
    std::vector<T> vectors_host_;
    Buffer<D, T> vectors_, features_, logits_;
};

template <Device D>
Classifier<D>::Classifier(D& device, const TensorMap& bundle, Index max_batch, WeightStorage storage)
    : Classifier(device, read_bundle(bundle), max_batch, storage) {}

template <Device D>
Classifier<D>::Classifier(D& device, const BundleParts& parts, Index max_batch, WeightStorage storage)
    : device_(&device), class_names_(parts.class_names) {
    model_ = std::make_unique<ClipModel<D>>(device, parts.clip, storage);
    vectors_host_ = parts.class_vectors.template to<T>();
    vectors_ = Buffer<D, T>(device, vectors_host_);
    student_ = std::make_unique<Student<D>>(device, *model_, student_config(parts), max_batch);
    student_->load(parts.learned);
    arena_ = std::make_unique<Arena<D>>(device);
    features_ = Buffer<D, T>(device, max_batch * embed());
    logits_ = Buffer<D, T>(device, max_batch * classes());
    arena_->plan([&] { encode(nullptr, max_batch); });
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
