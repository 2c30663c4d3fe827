// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <promptkd/data/class_names.hpp>
#include <promptkd/device/compiled.hpp>
#include <promptkd/evaluate/bundle.hpp>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace promptkd {

namespace detail {

/// What a student of a bundle is built on.
struct StudentBase {
    TensorMap model;       ///< its encoder: pretrained, its own, or with merged updates
    StudentConfig config;  ///< how it is built on that
    bool own = false;      ///< whether `model` is not what a mixture reads as the plain encoder
};

/// Low-rank updates are merged into the weights, unless a mixture reads these too.
inline StudentBase student_base(const BundleParts& parts) {
    StudentBase base{parts.clip, student_config(parts)};
    if (schema::has_image_weights(parts.learned)) {
        base.own = true;
        for (const auto& [name, tensor] : parts.learned.tensors)
            if (schema::is_image_weight(name)) base.model.tensors[name] = tensor;
    } else if (base.config.training == EncoderTraining::lora && !parts.mixture) {
        merge_lora(base.model, parts.learned);
        base.config.training = EncoderTraining::frozen;
    }
    return base;
}

}  // namespace detail

/// The student of a bundle: weights, class vectors, names, mixture. It never changes, so that any number of classifiers
/// in any number of threads may share one: `std::make_shared<const ClassifierWeights<D>>(device, parts)`. Neither
/// copied nor moved: its parts point to each other.
template <Device D>
class ClassifierWeights {
public:
    using T = typename D::Scalar;

    /// In the memory of `device`, which outlives this, for classifiers of up to `max_batch` images a call. Throws Error
    /// when the parts do not fit together; see read_bundle().
    ClassifierWeights(D& device, const BundleParts& parts, Index max_batch = 1,
                      WeightStorage storage = WeightStorage::native)
        : ClassifierWeights(device, parts, detail::student_base(parts), max_batch, storage) {}
    ClassifierWeights(const ClassifierWeights&) = delete;
    ClassifierWeights& operator=(const ClassifierWeights&) = delete;

    /// The classes, in label order, equal names told apart.
    const std::vector<std::string>& class_names() const { return class_names_; }
    /// Number of classes N.
    Index classes() const { return static_cast<Index>(class_names_.size()); }
    /// Normalised class vectors (N, e) on the host.
    const std::vector<T>& class_vectors() const { return vectors_host_; }
    /// The same in device memory.
    Matrix<const T> device_class_vectors() const { return vectors_.matrix(classes(), student_.config().embed); }
    /// The image encoder's model.
    const ClipModel<D>& model() const { return model_; }
    /// The model that a mixture reads beside it; null where that is the same.
    const ClipModel<D>* plain_model() const { return plain_.get(); }
    /// What was distilled.
    const Student<D>& student() const { return student_; }
    /// With the zero-shot student; empty: the student alone.
    const std::optional<Mixture>& mixture() const { return mixture_; }
    /// Normalised class vectors as the mixture takes them; empty without one.
    const std::vector<double>& mixture_vectors() const { return mixture_vectors_; }
    /// Images a call at most.
    Index max_batch() const { return student_.max_batch(); }

private:
    ClassifierWeights(D& device, const BundleParts& parts, const detail::StudentBase& base, Index max_batch,
                      WeightStorage storage);

    std::vector<std::string> class_names_;
    std::unique_ptr<ClipModel<D>> plain_;
    ClipModel<D> model_;
    std::vector<T> vectors_host_;
    Buffer<D, T> vectors_;
    Student<D> student_;
    std::optional<Mixture> mixture_;
    std::vector<double> mixture_vectors_;
};

template <Device D>
ClassifierWeights<D>::ClassifierWeights(D& device, const BundleParts& parts, const detail::StudentBase& base,
                                        Index max_batch, WeightStorage storage)
    : class_names_(distinct_names(parts.class_names)),
      plain_(base.own ? std::make_unique<ClipModel<D>>(device, parts.clip, storage) : nullptr),
      model_(device, base.model, storage),
      vectors_host_(parts.class_vectors.template to<T>()),
      vectors_(device, vectors_host_),
      student_(device, model_, base.config, max_batch),
      mixture_(parts.mixture) {
    student_.load(parts.learned);
    if (mixture_) mixture_vectors_ = parts.class_vectors.template to<double>();
}

PROMPTKD_COMPILED_CLASS(ClassifierWeights);

}  // namespace promptkd
